"""The cycle's transition table, its laws under any sequence of events, and what its errors tell."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.continual import cycle as cy
from perennial.continual.errors import DataError, IllegalTransition

FAIL = cy.StepFailed(error="disk full")
HAPPY = {
    cy.CycleState.WATCHING: cy.TriggerFired(reason="drift", challenger=2),
    cy.CycleState.TRAINING: cy.ChallengerTrained(),
    cy.CycleState.EXPORTING: cy.ChallengerExported(),
    cy.CycleState.JUDGING: cy.GateAccepted(),
    cy.CycleState.PUBLISHING: cy.ChallengerLoaded(),
    cy.CycleState.SHADOW: cy.ShadowAccepted(),
    cy.CycleState.APPROVAL: cy.Approved(actor="ada"),
    cy.CycleState.CANARY: cy.CanaryStepPassed(),
    cy.CycleState.PROMOTING: cy.Promoted(),
    cy.CycleState.PROBATION: cy.ProbationPassed(),
}
EVENTS = [
    *HAPPY.values(),
    FAIL,
    cy.StepFailed(error="parity", refused=True),
    cy.GateRefused(reasons=("not better",)),
    cy.ShadowRefused(reasons=("worse",)),
    cy.ApprovalExpired(),
    cy.CanaryStepFailed(reasons=("worse",)),
    cy.ProbationFailed(reasons=("worse",)),
    cy.OperatorAborted(actor="ada"),
    cy.OperatorPromoted(actor="ada"),
    cy.OperatorRolledBack(actor="ada"),
    cy.ChampionReplaced(champion=2),
    cy.ChampionReplaced(champion=7),
    cy.ChampionCorrected(champion=7),
]
UNDER_WAY = [state for state in HAPPY if state is not cy.CycleState.WATCHING]
FULL = cy.CyclePlan(shadow=True, approval=True, canary_shares=(0.1, 0.5))
PLANS = st.builds(
    cy.CyclePlan,
    shadow=st.booleans(),
    approval=st.booleans(),
    canary_shares=st.sampled_from([(), (0.1,), (0.05, 0.25, 0.5)]),
    probation=st.booleans(),
)


def run(plan: cy.CyclePlan, until: cy.CycleState | None = None) -> tuple[cy.Cycle, list[str]]:
    cycle, states = cy.new_cycle(model="intent", champion=1, plan=plan), []
    while cycle.state not in cy.OUTCOMES and cycle.state is not until:
        cycle, _ = cy.handle(cycle, HAPPY[cycle.state])
        cy.check_invariants(cycle)
        states.append(cycle.state.value)
    return cycle, states


def test_cycle_takes_every_step_of_a_full_plan() -> None:
    plan = cy.CyclePlan(shadow=True, approval=True, canary_shares=(0.1, 0.5), probation=True)
    _, states = run(plan)
    assert states == [
        "training", "exporting", "judging", "publishing", "shadow", "approval", "canary", "canary", "promoting",
        "probation", "promoted",
    ]  # fmt: skip


def test_cycle_skips_what_the_plan_leaves_out() -> None:
    _, states = run(cy.CyclePlan(probation=False))
    assert states == ["training", "exporting", "judging", "publishing", "promoting", "promoted"]


def test_canary_steps_set_rising_shares() -> None:
    cycle, _ = run(cy.CyclePlan(canary_shares=(0.1, 0.5)), until=cy.CycleState.CANARY)
    assert cy.resume(cycle) == (cy.SetShare(challenger=2, share=0.1),)
    cycle, commands = cy.handle(cycle, cy.CanaryStepPassed())
    assert commands == (cy.SetShare(challenger=2, share=0.5),)


@pytest.mark.parametrize("state", [s for s in HAPPY if s not in {cy.CycleState.WATCHING, cy.CycleState.PROBATION}])
def test_a_failed_step_drops_the_challenger_and_closes(state: cy.CycleState) -> None:
    plan = cy.CyclePlan(shadow=True, approval=True, canary_shares=(0.1,))
    cycle, _ = run(plan, until=state)
    after, commands = cy.handle(cycle, FAIL)
    assert after.state is cy.CycleState.FAILED
    assert commands == (
        cy.AbortChallenger(challenger=2),
        cy.CloseCycle(outcome=cy.CycleState.FAILED, note="disk full"),
    )


@pytest.mark.parametrize("event", [FAIL, cy.OperatorAborted(actor="ada"), cy.ProbationFailed(reasons=("worse",))])
def test_trouble_in_probation_rolls_back(event: cy.Event) -> None:
    cycle, _ = run(cy.CyclePlan(), until=cy.CycleState.PROBATION)
    after, commands = cy.handle(cycle, event)
    assert after.state is cy.CycleState.ROLLED_BACK
    assert isinstance(commands[0], cy.RollBack)
    assert commands[0].to == 1


def test_a_parity_refusal_is_a_refusal_not_a_failure() -> None:
    cycle, _ = run(cy.CyclePlan(), until=cy.CycleState.EXPORTING)
    after, _ = cy.handle(cycle, cy.StepFailed(error="differs by 0.5", refused=True))
    assert after.state is cy.CycleState.REFUSED


def test_operator_promotes_past_the_remaining_steps() -> None:
    cycle, _ = run(cy.CyclePlan(shadow=True, canary_shares=(0.1,)), until=cy.CycleState.SHADOW)
    after, commands = cy.handle(cycle, cy.OperatorPromoted(actor="ada"))
    assert after.state is cy.CycleState.PROMOTING
    assert commands == (cy.Promote(challenger=2),)


def test_an_illegal_event_tells_the_story_and_what_is_allowed() -> None:
    cycle, _ = run(cy.CyclePlan(), until=cy.CycleState.EXPORTING)
    with pytest.raises(
        IllegalTransition, match=r"exporting cannot take Promoted; it takes ChallengerExported.*Story: "
    ):
        cy.handle(cycle, cy.Promoted())


@pytest.mark.parametrize("shares", [(0.0,), (1.0,), (0.5, 0.2), (0.2, 0.2)])
def test_canary_shares_must_rise_inside_the_unit_interval(shares: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="must rise strictly"):
        cy.CyclePlan(canary_shares=shares)


def _check_step(before: cy.Cycle, event: cy.Event) -> cy.Cycle:
    """One event on one cycle, with everything that must be true of it whatever they are."""
    try:
        cycle, commands = cy.handle(before, event)
    except IllegalTransition as exc:
        untold = [line for line in before.story if line not in str(exc)]
    else:
        untold = None
    if untold is not None:
        assert untold == []
        return before
    cy.check_invariants(cycle)
    assert before.state not in cy.OUTCOMES  # nothing follows an outcome
    assert commands == cy.resume(cycle)  # a restart repeats exactly what was asked for
    assert len(cycle.story) == len(before.story) + 1
    closing = [c for c in commands if isinstance(c, cy.CloseCycle)]
    assert bool(closing) == (cycle.state in cy.OUTCOMES)
    assert not closing or commands[-1] is closing[0]  # nothing comes after the end
    if cycle.state is cy.CycleState.ROLLED_BACK:
        assert before.state is cy.CycleState.PROBATION  # there is nothing to roll back before a promotion
        assert cy.RollBack(to=1, reasons=(cycle.note,)) in commands
    if cycle.state in {cy.CycleState.REFUSED, cy.CycleState.FAILED, cy.CycleState.ABORTED}:
        assert before.state is not cy.CycleState.PROBATION
        assert cy.AbortChallenger(challenger=2) in commands
        assert cycle.note
    return cycle


@settings(max_examples=200)
@given(
    plan=PLANS,
    begun=st.integers(0, 14),
    drawn=st.lists(st.one_of(st.none(), st.sampled_from(EVENTS)), max_size=20),
)
def test_any_sequence_of_events_keeps_the_invariants(
    plan: cy.CyclePlan, begun: int, drawn: list[cy.Event | None]
) -> None:
    """It begins with `begun` events that go well, and None goes well too: else few would get beyond the training."""
    cycle = cy.new_cycle(model="intent", champion=1, plan=plan)
    for chance in (*[None] * begun, *drawn):
        cycle = _check_step(cycle, chance or HAPPY.get(cycle.state, FAIL))


@pytest.mark.parametrize("state", list(HAPPY))
def test_every_event_in_every_state_keeps_the_invariants(state: cy.CycleState) -> None:
    cycle, _ = run(FULL, until=state)
    assert cycle.state is state
    taken = [type(event).__name__ for event in EVENTS if _check_step(cycle, event) is not cycle]
    assert type(HAPPY[state]).__name__ in taken


@pytest.mark.parametrize("state", UNDER_WAY)
@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (cy.StepFailed(error="parity", refused=True), cy.CycleState.REFUSED),
        (FAIL, cy.CycleState.FAILED),
        (cy.OperatorAborted(actor="ada"), cy.CycleState.ABORTED),
        (cy.OperatorRolledBack(actor="ada"), cy.CycleState.ABORTED),
        (cy.ChampionReplaced(champion=7), cy.CycleState.ABORTED),
    ],
)
def test_every_state_can_end_in_every_way(state: cy.CycleState, event: cy.Event, outcome: cy.CycleState) -> None:
    cycle, _ = run(FULL, until=state)
    after, commands = cy.handle(cycle, event)
    cy.check_invariants(after)
    expected = cy.CycleState.ROLLED_BACK if state is cy.CycleState.PROBATION else outcome
    assert after.state is expected
    assert isinstance(commands[-1], cy.CloseCycle)
    assert after.story[-1].startswith(f"{state.value} + {type(event).__name__}(")


@pytest.mark.parametrize("state", list(HAPPY))
def test_a_promotion_asked_for_at_any_time_goes_there_or_is_refused_with_the_story(state: cy.CycleState) -> None:
    cycle, _ = run(FULL, until=state)
    event = cy.OperatorPromoted(actor="ada")
    if state in {cy.CycleState.SHADOW, cy.CycleState.APPROVAL, cy.CycleState.CANARY}:
        assert cy.handle(cycle, event)[0].state is cy.CycleState.PROMOTING
        return
    with pytest.raises(IllegalTransition, match=f"{state.value} cannot take OperatorPromoted; it takes .*Story: "):
        cy.handle(cycle, event)


def test_a_challenger_that_an_operator_made_champion_goes_through_probation() -> None:
    cycle, _ = run(FULL, until=cy.CycleState.CANARY)
    after, commands = cy.handle(cycle, cy.ChampionReplaced(champion=2))
    assert (after.state, commands) == (cy.CycleState.PROMOTING, (cy.Promote(challenger=2),))
    assert cy.expected_champions(after) == {1, 2}
    assert cy.expected_champions(cy.handle(after, cy.Promoted())[0]) == {2}
    assert cy.expected_champions(cycle) == {1}


@settings(max_examples=100)
@given(plan=PLANS)
def test_every_plan_ends_in_a_promotion_when_all_goes_well(plan: cy.CyclePlan) -> None:
    cycle, states = run(plan)
    assert cycle.state is cy.CycleState.PROMOTED
    assert states.count("canary") == len(plan.canary_shares)


@pytest.mark.parametrize(
    "state",
    [
        cy.CycleState.PUBLISHING, cy.CycleState.SHADOW, cy.CycleState.APPROVAL, cy.CycleState.CANARY,
        cy.CycleState.PROMOTING,
    ],
)  # fmt: skip
def test_a_challenger_made_champion_from_its_publishing_on_is_promoted_not_dropped(state: cy.CycleState) -> None:
    cycle, _ = run(FULL, until=state)
    after, commands = cy.handle(cycle, cy.ChampionReplaced(champion=2))
    assert (after.state, commands) == (cy.CycleState.PROMOTING, (cy.Promote(challenger=2),))


def test_a_promoted_version_lets_go_of_the_old_ones_and_keeps_itself() -> None:
    cycle, _ = run(FULL)
    assert cy.resume(cycle) == (
        cy.ReleaseOld(champion=2),
        cy.CloseCycle(outcome=cy.CycleState.PROMOTED, note="version 2 held through probation"),
    )


@pytest.mark.parametrize(
    ("state", "event", "note"),
    [
        (cy.CycleState.JUDGING, cy.GateRefused(reasons=("forgets", "slower")), "forgets; slower"),
        (cy.CycleState.JUDGING, cy.GateRefused(reasons=()), "refused"),
        (cy.CycleState.PROBATION, cy.ProbationFailed(reasons=("worse", "slow")), "worse; slow"),
        (cy.CycleState.PROBATION, cy.OperatorRolledBack(actor="ada"), "rolled back by ada"),
        (cy.CycleState.SHADOW, cy.OperatorRolledBack(actor="ada"), "ada rolled back version 1, with which"),
        (cy.CycleState.SHADOW, cy.OperatorAborted(actor="ada"), "aborted by ada"),
        (cy.CycleState.SHADOW, cy.ChampionReplaced(champion=7), "version 7 took the place of version 1"),
        (cy.CycleState.PROBATION, cy.ChampionReplaced(champion=7), "version 7 was put in its place"),
    ],
)
def test_an_end_tells_who_or_what_ended_it(state: cy.CycleState, event: cy.Event, note: str) -> None:
    cycle, _ = run(FULL, until=state)
    assert cy.handle(cycle, event)[0].note.startswith(note)


def test_a_probation_goes_on_with_the_copy_that_an_erasure_made_of_its_version() -> None:
    cycle, _ = run(FULL, until=cy.CycleState.PROBATION)
    after, commands = cy.handle(cycle, cy.ChampionCorrected(champion=7))
    assert (after.state, commands) == (cy.CycleState.PROBATION, (cy.StartProbation(champion=7, previous=1),))
    assert cy.expected_champions(after) == {7}
    assert after.story[-1] == "probation + ChampionCorrected(champion=7) -> probation"
    gone = cy.ProbationPassed(note="version 1 is gone")
    assert [cy.handle(after, event)[0].note for event in (cy.ProbationPassed(), gone)] == [
        "version 7 held through probation",
        "version 1 is gone",
    ]
    assert cy.handle(after, cy.ProbationFailed(reasons=("worse",)))[1][0] == cy.RollBack(to=1, reasons=("worse",))


def test_probation_watches_the_new_champion_against_the_one_before() -> None:
    cycle, _ = run(FULL, until=cy.CycleState.PROBATION)
    assert cy.resume(cycle) == (cy.StartProbation(champion=2, previous=1),)
    judging, _ = run(FULL, until=cy.CycleState.JUDGING)
    assert cy.resume(judging) == (cy.JudgeChallenger(champion=1, challenger=2),)


@pytest.mark.parametrize(
    "broken",
    [
        {"state": cy.CycleState.TRAINING},
        {"state": cy.CycleState.WATCHING, "challenger": 2},
        {"state": cy.CycleState.TRAINING, "challenger": 1},
        {"state": cy.CycleState.CANARY, "challenger": 2, "canary_step": 2},
    ],
)
def test_a_cycle_that_contradicts_itself_is_noticed(broken: dict[str, object]) -> None:
    with pytest.raises(IllegalTransition, match="cycle of intent: "):
        cy.check_invariants(cy.Cycle(model="intent", champion=1, plan=FULL, **broken))  # type: ignore[arg-type]
