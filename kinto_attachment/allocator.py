"""The memory that the chunks of uploads take, one after the other."""

from __future__ import annotations

# Some times what servers receive at once (gunicorn: 1 MiB), with the copies that they make of it.
_BLOCK_BYTES = 8 * 1024 * 1024


def keep_freed_memory() -> None:
    """Let the next chunk have the memory of the one before.

    glibc gives free memory back to the system when it is more than twice the largest block that
    was freed so far, at first 128 KiB. The next chunk then gets it anew, page by page: an upload
    took twice the processor time. So free one large block, which nobody has written to. Where an
    operator has set the limits, they stay; other C libraries do not have them.

    https://man7.org/linux/man-pages/man3/mallopt.3.html, M_MMAP_THRESHOLD
    """
    bytes(_BLOCK_BYTES)
