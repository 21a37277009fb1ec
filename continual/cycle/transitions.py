"""One model's way from a trigger to a new champion, or to a refusal, as a pure state machine.

`handle` takes the cycle as it is and one thing that happened, and gives the cycle as it becomes and the commands to
carry out. It sees no clock, no ledger and no server. Whoever executes the commands may be killed at any time:
`resume` names the commands of the state that was saved last, and every command may be carried out twice.

    watching -> training -> exporting -> judging -> publishing -> [shadow] -> [approval] -> [canary] -> promoting
             -> [probation] -> promoted            and from each of them: refused, failed, aborted or rolled_back
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from perennial.continual.cycle.events import (
    AbortChallenger,
    ApprovalExpired,
    Approved,
    CanaryStepFailed,
    CanaryStepPassed,
    ChallengerExported,
    ChallengerLoaded,
    ChallengerTrained,
    ChampionCorrected,
    ChampionReplaced,
    CloseCycle,
    Command,
    CycleState,
    Event,
    ExportChallenger,
    GateAccepted,
    GateRefused,
    JudgeChallenger,
    NextCycleBegan,
    OperatorAborted,
    OperatorPromoted,
    OperatorRolledBack,
    ProbationFailed,
    ProbationPassed,
    Promote,
    Promoted,
    PublishChallenger,
    ReleaseOld,
    RequestApproval,
    RollBack,
    SetShare,
    ShadowAccepted,
    ShadowRefused,
    StartProbation,
    StartShadow,
    StepFailed,
    TrainChallenger,
    TriggerFired,
)
from perennial.continual.errors import DataError, IllegalTransition

__all__ = ["OUTCOMES", "Cycle", "CyclePlan", "check_invariants", "expected_champions", "handle", "new_cycle", "resume"]


OUTCOMES = frozenset(
    {CycleState.PROMOTED, CycleState.REFUSED, CycleState.FAILED, CycleState.ABORTED, CycleState.ROLLED_BACK}
)
_UNDER_WAY = frozenset(CycleState) - OUTCOMES - {CycleState.WATCHING}
_LOADED = frozenset({CycleState.SHADOW, CycleState.APPROVAL, CycleState.CANARY, CycleState.PROMOTING})


@dataclass(frozen=True, slots=True, kw_only=True)
class CyclePlan:
    """Which steps a challenger takes between the gate and the championship.

    `canary_shares` are the challenger's live shares in (0, 1), in rising order; empty means no canary.
    """

    shadow: bool = False
    approval: bool = False
    canary_shares: tuple[float, ...] = ()
    probation: bool = True

    def __post_init__(self) -> None:
        if any(not 0 < share < 1 for share in self.canary_shares) or list(self.canary_shares) != sorted(
            set(self.canary_shares)
        ):
            raise DataError(f"canary shares are {self.canary_shares}; they must rise strictly inside (0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """A cycle as it is saved after every event.

    >>> cycle = new_cycle(model="intent", champion=1, plan=CyclePlan())
    >>> cycle, commands = handle(cycle, TriggerFired(reason="drift", challenger=2))
    >>> cycle.state.value, [type(c).__name__ for c in commands]
    ('training', ['TrainChallenger'])
    """

    model: str
    champion: int
    plan: CyclePlan
    state: CycleState = CycleState.WATCHING
    challenger: int | None = None
    canary_step: int = 0
    note: str = ""  # why the cycle ended
    story: tuple[str, ...] = ()  # one line an event, oldest first


_Step = tuple[Cycle, tuple[Command, ...]]


def new_cycle(*, model: str, champion: int, plan: CyclePlan) -> Cycle:
    """A cycle that waits for its trigger."""
    return Cycle(model=model, champion=champion, plan=plan)


def handle(cycle: Cycle, event: Event) -> _Step:
    """The cycle after the event, and the commands to carry out in order.

    Raises:
        IllegalTransition: the event does not fit the state; the message tells the story so far.
    """
    if isinstance(event, StepFailed | OperatorAborted) and cycle.state in _UNDER_WAY:
        after, commands = _end_early(cycle, event)
    else:
        transition = _TABLE.get((cycle.state, type(event)))
        if transition is None:
            story = "; ".join(cycle.story) or "nothing has happened yet"
            allowed = sorted(kind.__name__ for state, kind in _TABLE if state is cycle.state)
            raise IllegalTransition(
                f"cycle of {cycle.model} in state {cycle.state.value} cannot take {type(event).__name__}; "
                f"it takes {', '.join(allowed) or 'nothing'}. Story: {story}"
            )
        after, commands = transition(cycle, event)
    return replace(
        after, story=(*cycle.story, f"{cycle.state.value} + {_described(event)} -> {after.state.value}")
    ), commands


def resume(cycle: Cycle) -> tuple[Command, ...]:
    """The saved state's commands, to be carried out (again) after a restart; an outcome's are those that close it."""
    return () if cycle.state is CycleState.WATCHING else _entry_commands(cycle)


def expected_champions(cycle: Cycle) -> frozenset[int]:
    """The versions of which one is champion while the cycle is where it is; another one was put there by somebody."""
    if cycle.challenger is None or cycle.state not in {CycleState.PROMOTING, CycleState.PROBATION}:
        return frozenset({cycle.champion})
    return frozenset({cycle.challenger} | ({cycle.champion} if cycle.state is CycleState.PROMOTING else set()))


def check_invariants(cycle: Cycle) -> None:
    """Fails when the cycle contradicts itself; called after every event in tests.

    Raises:
        IllegalTransition: an invariant is broken.
    """
    broken = []
    if (cycle.challenger is None) != (cycle.state is CycleState.WATCHING):
        broken.append(f"challenger {cycle.challenger} in state {cycle.state.value}")
    if cycle.challenger == cycle.champion:
        broken.append(f"version {cycle.champion} is champion and challenger")
    if cycle.state is CycleState.CANARY and not cycle.canary_step < len(cycle.plan.canary_shares):
        broken.append(f"canary step {cycle.canary_step} of {len(cycle.plan.canary_shares)}")
    if broken:
        raise IllegalTransition(f"cycle of {cycle.model}: {'; '.join(broken)}. Story: {'; '.join(cycle.story)}")


def _described(event: Event) -> str:
    facts = ", ".join(f"{name}={getattr(event, name)}" for name in type(event).__dataclass_fields__)
    return f"{type(event).__name__}({facts})"


def _enter(cycle: Cycle, state: CycleState, **changes: int) -> _Step:
    after = replace(cycle, state=state, **changes)  # type: ignore[arg-type]
    return after, _entry_commands(after)


def _entry_commands(cycle: Cycle) -> tuple[Command, ...]:
    challenger = cycle.challenger
    if challenger is None:
        return ()
    if cycle.state in OUTCOMES:
        return _closing_commands(cycle, challenger)
    if cycle.state is CycleState.JUDGING:
        return (JudgeChallenger(champion=cycle.champion, challenger=challenger),)
    if cycle.state is CycleState.CANARY:
        return (SetShare(challenger=challenger, share=cycle.plan.canary_shares[cycle.canary_step]),)
    if cycle.state is CycleState.PROBATION:
        return (StartProbation(champion=challenger, previous=cycle.champion),)
    return (_WORK[cycle.state](challenger=challenger),)


def _closing_commands(cycle: Cycle, challenger: int) -> tuple[Command, ...]:
    close = CloseCycle(outcome=cycle.state, note=cycle.note)
    if cycle.state is CycleState.PROMOTED:
        return (ReleaseOld(champion=challenger), close)
    if cycle.state is CycleState.ROLLED_BACK:
        return (RollBack(to=cycle.champion, reasons=(cycle.note,)), close)
    return (AbortChallenger(challenger=challenger), close)


def _close(cycle: Cycle, outcome: CycleState, note: str) -> _Step:
    after = replace(cycle, state=outcome, note=note)
    return after, _entry_commands(after)


def _end_early(cycle: Cycle, event: StepFailed | OperatorAborted) -> _Step:
    if isinstance(event, OperatorAborted):
        outcome, note = CycleState.ABORTED, f"aborted by {event.actor}"
    else:
        outcome = CycleState.REFUSED if event.refused else CycleState.FAILED
        note = event.error
    if cycle.state is CycleState.PROBATION:
        outcome = CycleState.ROLLED_BACK
    return _close(cycle, outcome, note)


def _after_trigger(cycle: Cycle, event: Event) -> _Step:
    if not isinstance(event, TriggerFired):
        raise IllegalTransition(f"cycle of {cycle.model} starts with TriggerFired, not {type(event).__name__}")
    return _enter(cycle, CycleState.TRAINING, challenger=event.challenger)


def _after_load(cycle: Cycle, _: Event) -> _Step:
    return _enter(cycle, CycleState.SHADOW) if cycle.plan.shadow else _after_shadow(cycle, _)


def _after_shadow(cycle: Cycle, _: Event) -> _Step:
    return _enter(cycle, CycleState.APPROVAL) if cycle.plan.approval else _after_approval(cycle, _)


def _after_approval(cycle: Cycle, _: Event) -> _Step:
    return _enter(cycle, CycleState.CANARY if cycle.plan.canary_shares else CycleState.PROMOTING)


def _after_canary_step(cycle: Cycle, _: Event) -> _Step:
    step = cycle.canary_step + 1
    if step < len(cycle.plan.canary_shares):
        return _enter(cycle, CycleState.CANARY, canary_step=step)
    return _enter(cycle, CycleState.PROMOTING)


def _after_promotion(cycle: Cycle, _: Event) -> _Step:
    if cycle.plan.probation:
        return _enter(cycle, CycleState.PROBATION)
    return _close(cycle, CycleState.PROMOTED, f"version {cycle.challenger} is champion")


def _after_probation(cycle: Cycle, event: Event) -> _Step:
    note = event.note if isinstance(event, ProbationPassed) else ""
    return _close(cycle, CycleState.PROMOTED, note or f"version {cycle.challenger} held through probation")


def _after_correction(cycle: Cycle, event: Event) -> _Step:
    if not isinstance(event, ChampionCorrected):
        raise IllegalTransition(f"cycle of {cycle.model} takes ChampionCorrected here, not {type(event).__name__}")
    return _enter(cycle, CycleState.PROBATION, challenger=event.champion)


def _after_next_began(cycle: Cycle, _: Event) -> _Step:
    note = f"version {cycle.challenger} is champion; its probation goes on beside the next cycle"
    return replace(cycle, state=CycleState.PROMOTED, note=note), ()  # nothing is let go of: a rollback stays ready


def _after_failed_probation(cycle: Cycle, event: Event) -> _Step:
    reasons = event.reasons if isinstance(event, ProbationFailed) else ("probation failed",)
    return _close(cycle, CycleState.ROLLED_BACK, "; ".join(reasons))


def _after_operator_roll_back(cycle: Cycle, event: Event) -> _Step:
    actor = event.actor if isinstance(event, OperatorRolledBack) else "operator"
    if cycle.state is CycleState.PROBATION:
        return _close(cycle, CycleState.ROLLED_BACK, f"rolled back by {actor}")
    note = f"{actor} rolled back version {cycle.champion}, with which the challenger was compared"
    return _close(cycle, CycleState.ABORTED, note)


def _after_replacement(cycle: Cycle, event: Event) -> _Step:
    now = event.champion if isinstance(event, ChampionReplaced) else cycle.champion
    if now == cycle.challenger and cycle.state in _LOADED | {CycleState.PUBLISHING}:
        return _enter(cycle, CycleState.PROMOTING)
    if cycle.state is CycleState.PROBATION:
        return _close(cycle, CycleState.ROLLED_BACK, f"version {now} was put in its place")
    note = f"version {now} took the place of version {cycle.champion}, with which the challenger was compared"
    return _close(cycle, CycleState.ABORTED, note)


def _refuse(cycle: Cycle, event: Event) -> _Step:
    reasons = getattr(event, "reasons", ())
    return _close(cycle, CycleState.REFUSED, "; ".join(reasons) or "refused")


def _expire(cycle: Cycle, _: Event) -> _Step:
    return _close(cycle, CycleState.REFUSED, "no operator approved before the deadline")


def _go(state: CycleState) -> Callable[[Cycle, Event], _Step]:
    return lambda cycle, _event: _enter(cycle, state)


_WORK: dict[CycleState, Callable[..., Command]] = {
    CycleState.TRAINING: TrainChallenger,
    CycleState.EXPORTING: ExportChallenger,
    CycleState.PUBLISHING: PublishChallenger,
    CycleState.SHADOW: StartShadow,
    CycleState.APPROVAL: RequestApproval,
    CycleState.PROMOTING: Promote,
}
_TABLE: dict[tuple[CycleState, type], Callable[[Cycle, Event], _Step]] = {
    (CycleState.WATCHING, TriggerFired): _after_trigger,
    (CycleState.TRAINING, ChallengerTrained): _go(CycleState.EXPORTING),
    (CycleState.EXPORTING, ChallengerExported): _go(CycleState.JUDGING),
    (CycleState.JUDGING, GateAccepted): _go(CycleState.PUBLISHING),
    (CycleState.JUDGING, GateRefused): _refuse,
    (CycleState.PUBLISHING, ChallengerLoaded): _after_load,
    (CycleState.SHADOW, ShadowAccepted): _after_shadow,
    (CycleState.SHADOW, ShadowRefused): _refuse,
    (CycleState.APPROVAL, Approved): _after_approval,
    (CycleState.APPROVAL, ApprovalExpired): _expire,
    (CycleState.CANARY, CanaryStepPassed): _after_canary_step,
    (CycleState.CANARY, CanaryStepFailed): _refuse,
    (CycleState.PROMOTING, Promoted): _after_promotion,
    (CycleState.PROBATION, ProbationPassed): _after_probation,
    (CycleState.PROBATION, ProbationFailed): _after_failed_probation,
    (CycleState.PROBATION, ChampionCorrected): _after_correction,
    (CycleState.PROBATION, NextCycleBegan): _after_next_began,
    **{(state, OperatorRolledBack): _after_operator_roll_back for state in _UNDER_WAY},
    **{(state, ChampionReplaced): _after_replacement for state in _UNDER_WAY},
    **{(state, OperatorPromoted): _go(CycleState.PROMOTING) for state in _LOADED - {CycleState.PROMOTING}},
}
