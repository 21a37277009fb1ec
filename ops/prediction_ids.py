"""What a prediction id tells."""

__all__ = ["ID_DIGITS", "id_time_us"]

ID_DIGITS = 12  # of hex: 48 bits of unix time in milliseconds


def id_time_us(prediction_id: str) -> int | None:
    """When an id was made, in microseconds of unix time; None when it isn't an id of this product."""
    try:
        return 1_000 * int(prediction_id[:ID_DIGITS], 16) if len(prediction_id) >= ID_DIGITS else None
    except ValueError:
        return None
