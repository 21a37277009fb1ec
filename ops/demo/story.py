"""What the demonstration has shown, in words and units: a headline that follows from the figures, and a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["LAST", "Learners", "headline", "learners_of", "table"]

LAST = 500  # requests at the end
_CLEAR = 0.005  # of accuracy: less is no lead


@dataclass(frozen=True, slots=True, kw_only=True)
class Learners:
    """Share of the requests that each learner answered rightly, in [0, 1], over the same requests; None: none."""

    perennial: float
    never_retrained: float
    tfidf_nightly: float
    requests: int

    def record(self) -> dict[str, float]:
        """JSON values only."""
        return {
            "perennial": self.perennial,
            "never_retrained": self.never_retrained,
            "tfidf_nightly": self.tfidf_nightly,
            "requests": self.requests,
        }


def learners_of(right: Mapping[str, Sequence[bool]], since: int) -> Learners:
    """The learners from a request on; `right` tells of each whether its answers were right."""
    parts = {name: list(flags)[since:] for name, flags in right.items()}
    shares = {name: sum(flags) / len(flags) if flags else float("nan") for name, flags in parts.items()}
    return Learners(
        perennial=shares["perennial"],
        never_retrained=shares["never_retrained"],
        tfidf_nightly=shares["tfidf_nightly"],
        requests=len(parts["perennial"]),
    )


def headline(since_change: Learners, *, natural: bool = False) -> tuple[str, str]:
    """A title and the sentence that it stands on; a `natural` stream changes by itself, from its first request on.

    >>> headline(Learners(perennial=0.9, never_retrained=0.5, tfidf_nightly=0.8, requests=1000))[0]
    'Perennial kept the model good'
    """
    figures = since_change
    told = (
        f"Of {figures.requests:,} requests{'' if natural else ' since the world began to change'}, Perennial answered "
        f"{figures.perennial:.1%} rightly, its first version, never retrained, would have answered "
        f"{figures.never_retrained:.1%}, and word counts refitted every night {figures.tfidf_nightly:.1%}."
    )
    if figures.perennial < figures.never_retrained + _CLEAR:
        return "Retraining did not help here", told
    if figures.perennial < figures.tfidf_nightly - _CLEAR:
        return "Retraining helped, and word counts refitted every night did better", told
    if figures.perennial < figures.tfidf_nightly + _CLEAR:
        return "Retraining helped, as much as word counts refitted every night", told
    return "Perennial kept the model good", told


def table(summary: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Headed groups of names and values, as a person reads them."""
    groups = [
        ("The stream, which the first chart shows", _of_stream(summary)),
        ("The test set, which the loop never sees", _of_test(summary)),
        ("Noticing and learning", _of_loop(summary)),
        ("Serving", _of_serving(summary)),
    ]
    return [(heading, rows) for heading, rows in groups if rows]


def _of_stream(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    whole = "since the world began to change" if summary["drift_at_request"] else "all requests"
    for name, what in (("since_change", whole), ("last", f"last {LAST} requests")):
        figures = summary["stream"][name]
        rows += [
            (f"Perennial, {what}", _share(figures["perennial"])),
            (f"never retrained, {what}", _share(figures["never_retrained"])),
            (f"word counts refitted every night, {what}", _share(figures["tfidf_nightly"])),
        ]
    return rows


def _of_test(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    if summary.get("accuracy_after") is None:
        return []
    return [
        ("first version, on the intents of the start", _share(summary["accuracy_before"])),
        (
            "the version that served when each wave began, on all intents so far",
            _list([_share(value) for value in summary["accuracy_drifted_by_wave"]]),
        ),
        ("last version, on all intents", _share(summary["accuracy_after"])),
        ("first version, on all intents", _share(summary["accuracy_never_retrained"])),
        ("forgotten of the intents of the start", f"{summary['forgetting_points']:.1f} points"),
    ]


def _of_loop(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("the world changed at request", _list([_count(n) for n in summary["drift_at_request"]])),
        ("noticed at request", _list([_count(n) for n in summary["detected_at_request"]])),
        (
            "answered by a new version from request",
            _list([_count(n) for n in summary["new_version_serving_at_request"]]),
        ),
        (
            "from the drift's confirmation to the new version's first answer",
            _list([f"{seconds:.0f} s" for seconds in summary["answered_anew_s"]]),
        ),
        ("retrainings before anything changed", _count(summary["retrainings_before_first_wave"])),
        ("rows kept for replay", _count(summary["replay_rows"])),
    ]


def _of_serving(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("requests", _count(summary["requests"])),
        ("requests that failed", _count(summary["failed_requests"])),
        ("new versions that took over", _count(summary["swaps"])),
        ("99th percentile of the latency, steady", _milliseconds(summary["p99_ms_steady"])),
        ("99th percentile of the latency, within 3 s of a take-over", _milliseconds(summary["p99_ms_swap"])),
        ("restarts of Triton", _count(summary["triton_restarts"])),
        ("the whole demonstration", f"{summary['wall_seconds'] / 60:.1f} minutes"),
    ]


def _share(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.1%}"


def _count(value: int | None) -> str:
    return "never" if value is None else f"{value:,}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _list(texts: Sequence[str]) -> str:
    return ", ".join(texts) or "-"
