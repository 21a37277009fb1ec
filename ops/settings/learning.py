"""How a challenger is learnt and what it is compiled to."""

from typing import Any, Literal, Self

from pydantic import Field

from perennial.continual.learning.names import AUTO_ENCODER, DEFAULT_LEARNER, LearnerName
from perennial.ops.settings.section import Section

__all__ = ["EngineSettings", "LearningSettings"]


class LearningSettings(Section):
    """How a challenger is learnt."""

    encoder: str = Field(
        AUTO_ENCODER,
        description="a Hugging Face name or folder; packaged:minilm and packaged:e5 need no download, and auto takes "
        "the one of them that reads the rows; docs/encoders.md",
    )
    insist_on_encoder: bool = Field(
        False, description="keep a named encoder although its tokenizer does not know what the rows are written in"
    )
    learner: LearnerName = Field(DEFAULT_LEARNER, description="of the model's task, whose first one is the default")
    first_learner: LearnerName | None = Field(
        None,
        description="of the first version, with its own params; default `learner`",
    )
    max_length: int = Field(128, ge=8, le=512, description="tokens kept of a text")
    replay_kind: Literal["class_balanced", "reservoir", "herding", "uncertainty"] = "class_balanced"
    replay_rows: int = Field(770, ge=1)
    replay_bytes: int | None = Field(None, ge=200, description="byte budget of the replay buffer, beside its rows")
    holdout_share: float = Field(
        0.1, gt=0, lt=0.5, description="share of labelled rows kept for proof, by a hash of the text"
    )
    min_class_rows: int = Field(5, ge=1, description="rows that a new label needs before it becomes a class")
    holdout_rows: int = Field(1_500, ge=50, description="most old held-out rows that one judgement looks at")
    reuse_logged_embeddings: bool = Field(
        True,
        description="learn from the embeddings that answered the requests, kept in half precision in the traffic log",
    )
    work_ahead: bool = Field(
        True,
        description="keep processes that have worked out what a ridge's next update and its proof need; they take "
        "schedule.warm_jobs, and seven times the sums' file in memory",
    )
    threads: int = Field(2, ge=1)
    niceness: int = Field(10, ge=0, le=19, description="of a training; 19 leaves most to what serves")
    timeout_s: float = Field(3_600.0, gt=0)
    params: dict[str, Any] = Field(default_factory=dict, description="passed on to the learner")

    def of_first_version(self) -> Self:
        """The same for the version that no other comes before; params are of the learner that they were told for."""
        if self.first_learner in {None, self.learner}:
            return self
        return self.model_copy(update={"learner": self.first_learner, "params": {}})


class EngineSettings(Section):
    """What a challenger is compiled to."""

    engine: Literal["auto", "onnxruntime", "openvino", "tensorrt", "aotinductor"] = "auto"
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16", "fp8", "int8"] = "auto"
    choose_after_s: float = Field(
        0.0,
        ge=0,
        description="at this age an automatic champion is tried as other engines once, on idle processors; a "
        "faster one takes its place; 0 leaves it to `engine choose`",
    )
    parity_rows: int = Field(512, ge=16, description="held-out texts that the parity gate compares")
    limits: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="parity limits by precision, in place of the defaults of docs/engines.md"
    )
    timeout_s: float = Field(1_800.0, gt=0)
