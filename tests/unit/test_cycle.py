"""The cycle's transition table, its laws under any sequence of events, and what its errors tell."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continual import cycle as cy
from continual.errors import DataError, IllegalTransition

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
]
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


@settings(max_examples=300, deadline=None)
@given(plan=PLANS, events=st.lists(st.sampled_from(EVENTS), max_size=30))
def test_any_sequence_of_events_keeps_the_invariants(plan: cy.CyclePlan, events: list[cy.Event]) -> None:
    cycle = cy.new_cycle(model="intent", champion=1, plan=plan)
    for event in events:
        before = cycle
        try:
            cycle, commands = cy.handle(cycle, event)
        except IllegalTransition:
            assert cycle == before
            continue
        cy.check_invariants(cycle)
        assert before.state not in cy.OUTCOMES  # nothing follows an outcome
        assert commands == cy.resume(cycle)  # a restart repeats exactly what was asked for
        assert len(cycle.story) == len(before.story) + 1
        closing = [c for c in commands if isinstance(c, cy.CloseCycle)]
        assert bool(closing) == (cycle.state in cy.OUTCOMES)


@settings(max_examples=100, deadline=None)
@given(plan=PLANS)
def test_every_plan_ends_in_a_promotion_when_all_goes_well(plan: cy.CyclePlan) -> None:
    cycle, states = run(plan)
    assert cycle.state is cy.CycleState.PROMOTED
    assert states.count("canary") == len(plan.canary_shares)
