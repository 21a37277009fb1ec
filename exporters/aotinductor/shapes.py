"""Which shapes a GPU keeps a recorded call for: few enough to hold, close enough that little of a batch is padding."""

__all__ = ["padded_shape"]

_FINE_UP_TO, _FINE, _COARSE = 64, 8, 32  # tokens: in steps of 8 up to 64, of 32 from there


def padded_shape(rows: int, tokens: int, *, max_rows: int, max_tokens: int) -> tuple[int, int]:
    """The shape that `rows` by `tokens` is padded to: a power of two by a step of 8 or 32, within the limits.

    >>> padded_shape(5, 11, max_rows=128, max_tokens=512)
    (8, 16)
    >>> padded_shape(100, 500, max_rows=100, max_tokens=500)
    (100, 500)
    """
    step = _FINE if tokens <= _FINE_UP_TO else _COARSE
    wide = -(-tokens // step) * step
    high = 1 << (rows - 1).bit_length()
    return min(high, max_rows), min(wide, max_tokens)
