"""The plugin's rows, as the commands mend them."""

from __future__ import annotations

from collections.abc import Iterable

from kinto.core.utils import msec_time

from kinto_attachment.attachments.holder import Holder
from kinto_attachment.attachments.references import FILES, HOLDINGS, References


class Housekeeping(References):
    """What only those do who look after all the files."""

    def mend(self, name: str, suspects: Iterable[Holder]) -> None:
        """Make the row of a file, and what is known of ``suspects``, match what records show.

        Those that the row names are looked at as well. No file goes, and none comes back: a row
        that no record is left for says so, and leaves the file to ``kinto-attachment gc``.
        """
        row = self._locked_file(name)
        named = [] if row is None else [Holder.at(uri) for uri in row["holders"]]
        looked_at = {*suspects, *named}
        holders = {holder for holder in looked_at if self.shown_by(holder) == name}
        for holder in looked_at:
            held = self.held_by(holder)
            if holder in holders:
                if held != name:
                    self._write_holding(holder, name)
            elif held == name:
                self._rows.delete(HOLDINGS, holder.uri)
        if row is None:
            return
        row["holders"] = sorted(holder.uri for holder in holders)
        if holders:
            row.pop("kept", None)
            row.pop("gone", None)
        elif "kept" not in row and "gone" not in row:
            keep = any(self._keeps_old_files(holder) for holder in named)
            row["kept" if keep else "gone"] = msec_time()
        self._write_file(row)

    def condemn(self, name: str) -> bool:
        """Whether a file that no record shows may be deleted. Who copies its metadata from now
        on is told that it is gone."""
        row = self._locked_file(name)
        if row is None:
            return True
        if any(self.shown_by(Holder.at(uri)) == name for uri in row["holders"]):
            return False
        row.pop("kept", None)
        self._write_file({**row, "holders": [], "gone": msec_time()})
        return True

    def bury(self, name: str) -> None:
        """Forget a file that went, unless there is one of that name again."""
        row = self._locked_file(name)
        if row is not None and "gone" in row:
            self._rows.delete(FILES, name)
