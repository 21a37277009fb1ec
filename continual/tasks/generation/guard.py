"""Whether a rewritten reply says what the approved one says: no less, no more, in the same order."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from perennial.continual.tasks.generation.meaning import Said, hidden, meaning

__all__ = ["GuardVerdict", "check_rewrite"]

_SHOWN = 4  # differences that a reason names
_LONGER, _SPARE = 3, 400  # times, and characters beside


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardVerdict:
    """Whether a rewrite may be given, and why not; no reason where it may."""

    let_through: bool
    why: str = ""


def check_rewrite(approved: str, rewritten: str, *, name: str = "") -> GuardVerdict:
    """Let a rewrite through only if it says the same things in the same order; a greeting of `name` is allowed.

    >>> check_rewrite("You cannot pay by card.", "Hi Jo! You can't pay by card.", name="Jo").let_through
    True
    >>> check_rewrite("The fee is $10.", "The fee is $100.").why
    "number '10' is missing; number '100' is new"
    """
    if not rewritten.strip():
        return _refused("it is empty")
    if len(rewritten) > _LONGER * len(approved) + _SPARE:
        return _refused(f"it has {len(rewritten)} characters where the approved reply has {len(approved)}")
    if strange := hidden(rewritten) - hidden(approved):
        return _refused(f"it has {len(strange)} invisible characters, e.g. U+{ord(min(strange)):04X}")
    wanted, seen = meaning(approved), meaning(rewritten, name)
    if [said.value for said in wanted] != [said.value for said in seen]:
        return _refused(_difference(wanted, seen))
    return GuardVerdict(let_through=True)


def _refused(why: str) -> GuardVerdict:
    return GuardVerdict(let_through=False, why=why)


def _difference(wanted: Sequence[Said], seen: Sequence[Said]) -> str:
    kinds = {said.value: said.kind for said in (*seen, *wanted)}
    before, after = (Counter(said.value for said in text) for text in (wanted, seen))
    missing = [f"{kinds[value]} {value!r} is missing" for value in before - after]
    new = [f"{kinds[value]} {value!r} is new" for value in after - before]
    if reasons := [*missing[:_SHOWN], *new[:_SHOWN]]:
        return "; ".join(reasons)
    moved = next(one for one, other in zip(wanted, seen, strict=True) if one.value != other.value)
    return f"{moved.kind} {moved.value!r} stands in another place"
