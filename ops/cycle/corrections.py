"""Whether a champion is the one that a cycle reckons with, but for the rows of persons that were erased since."""

from perennial.ops.ledger.ports import Versions

__all__ = ["is_correction"]


def is_correction(ledger: Versions, model: str, version: int, *, of: int) -> bool:
    """Whether erasures, one or several, made the version from version `of`; one made of it has a higher number."""
    if version <= of:  # as at nearly every look in a probation of days
        return False
    corrects = {row.version: row.corrects for row in ledger.versions(model)}
    corrected: int | None = version
    while corrected is not None and corrected > of:
        corrected = corrects.get(corrected)
    return corrected == of
