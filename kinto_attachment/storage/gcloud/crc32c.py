"""The CRC32C of a whole, from those of its parts. Bytes are not needed."""

from __future__ import annotations

# Castagnoli's polynomial (RFC 3720, section 12.1), and 1 and x, with the bits reversed.
_POLYNOMIAL, _ONE, _X = 0x82F63B78, 1 << 31, 1 << 30


def concatenated(first: int, second: int, length: int) -> int:
    """Return the CRC32C of some bytes followed by ``length`` others, of those of each.

    The first is multiplied by x to the power of 8 ``length``, modulo the polynomial.
    """
    factor, power, exponent = _ONE, _X, 8 * length
    while exponent:
        if exponent & 1:
            factor = _product(factor, power)
        power = _product(power, power)
        exponent >>= 1
    return _product(first, factor) ^ second


def _product(first: int, second: int) -> int:
    """Multiply two polynomials modulo CRC32C's."""
    product = 0
    for shift in range(31, -1, -1):
        if first >> shift & 1:
            product ^= second
        second = second >> 1 ^ (_POLYNOMIAL if second & 1 else 0)
    return product
