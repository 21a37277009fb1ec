"""What can happen to a cycle, and what it can ask for."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "AbortChallenger",
    "ApprovalExpired",
    "Approved",
    "CanaryStepFailed",
    "CanaryStepPassed",
    "ChallengerExported",
    "ChallengerLoaded",
    "ChallengerTrained",
    "ChampionCorrected",
    "ChampionReplaced",
    "CloseCycle",
    "Command",
    "CycleState",
    "Event",
    "ExportChallenger",
    "GateAccepted",
    "GateRefused",
    "JudgeChallenger",
    "NextCycleBegan",
    "OperatorAborted",
    "OperatorPromoted",
    "OperatorRolledBack",
    "ProbationFailed",
    "ProbationPassed",
    "Promote",
    "Promoted",
    "PublishChallenger",
    "ReleaseOld",
    "RequestApproval",
    "RollBack",
    "SetShare",
    "ShadowAccepted",
    "ShadowRefused",
    "StartProbation",
    "StartShadow",
    "StepFailed",
    "TrainChallenger",
    "TriggerFired",
]


class CycleState(StrEnum):
    """Where a cycle stands. The last five are outcomes: nothing follows them."""

    WATCHING = "watching"
    TRAINING = "training"
    EXPORTING = "exporting"
    JUDGING = "judging"
    PUBLISHING = "publishing"
    SHADOW = "shadow"
    APPROVAL = "approval"
    CANARY = "canary"
    PROMOTING = "promoting"
    PROBATION = "probation"
    PROMOTED = "promoted"
    REFUSED = "refused"
    FAILED = "failed"
    ABORTED = "aborted"
    ROLLED_BACK = "rolled_back"


# ---- events: what happened ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerFired:
    """A policy or an operator asked for a new version; `challenger` is the number reserved for it."""

    reason: str
    challenger: int


@dataclass(frozen=True, slots=True)
class ChallengerTrained:
    """The training process left a complete model."""


@dataclass(frozen=True, slots=True)
class ChallengerExported:
    """A bundle that passed the parity gate is staged."""


@dataclass(frozen=True, slots=True)
class GateAccepted:
    """The challenger is good enough on held-out rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRefused:
    """The challenger is not good enough."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChallengerLoaded:
    """Every Triton holds the challenger and its golden rows came back right."""


@dataclass(frozen=True, slots=True)
class ShadowAccepted:
    """Replayed traffic showed nothing against the challenger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowRefused:
    """Replayed traffic spoke against the challenger."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """An operator said yes."""

    actor: str


@dataclass(frozen=True, slots=True)
class ApprovalExpired:
    """Nobody answered before the deadline."""


@dataclass(frozen=True, slots=True)
class CanaryStepPassed:
    """The challenger held its live share for the whole step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryStepFailed:
    """Live traffic spoke against the challenger."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Promoted:
    """The route names the challenger as champion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbationPassed:
    """The new champion held through probation, or it ended for another reason, which `note` tells."""

    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbationFailed:
    """The new champion did worse than the one before it."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed:
    """The work of the present state could not be done."""

    error: str
    refused: bool = False  # the parity gate or a check refused it; not a breakdown


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAborted:
    """An operator stopped the cycle."""

    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorPromoted:
    """An operator sent a loaded challenger straight to the championship."""

    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRolledBack:
    """An operator put the previous champion back; the route has changed already."""

    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionReplaced:
    """The route names another champion than the cycle reckons with: somebody promoted or rolled back beside it."""

    champion: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionCorrected:
    """An erasure put a copy of the version on probation in its place, which has not learnt the erased rows."""

    champion: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NextCycleBegan:
    """Another retraining began while this cycle's version was on probation, which goes on beside it."""

    reason: str


Event = (
    TriggerFired
    | ChallengerTrained
    | ChallengerExported
    | GateAccepted
    | GateRefused
    | ChallengerLoaded
    | ShadowAccepted
    | ShadowRefused
    | Approved
    | ApprovalExpired
    | CanaryStepPassed
    | CanaryStepFailed
    | Promoted
    | ProbationPassed
    | ProbationFailed
    | StepFailed
    | OperatorAborted
    | OperatorPromoted
    | OperatorRolledBack
    | ChampionReplaced
    | ChampionCorrected
    | NextCycleBegan
)


# ---- commands: what to do; each may be carried out twice ------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainChallenger:
    challenger: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportChallenger:
    challenger: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeChallenger:
    champion: int
    challenger: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishChallenger:
    challenger: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartShadow:
    challenger: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestApproval:
    challenger: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetShare:
    challenger: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    challenger: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartProbation:
    champion: int
    previous: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    to: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortChallenger:
    """Take the challenger out of the route, let Triton drop it and clear its work folder."""

    challenger: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOld:
    """The champion has proved itself: Triton and the disk let go of what lies beyond their budgets."""

    champion: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseCycle:
    outcome: CycleState
    note: str


Command = (
    TrainChallenger
    | ExportChallenger
    | JudgeChallenger
    | PublishChallenger
    | StartShadow
    | RequestApproval
    | SetShare
    | Promote
    | StartProbation
    | RollBack
    | AbortChallenger
    | ReleaseOld
    | CloseCycle
)
