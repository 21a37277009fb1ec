"""Reports of other releases and damaged ones are none, whatever they hold: a page that shows them meets no surprise."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from perennial.continual.fairness.probes import ProbedGroup
from perennial.continual.fairness.thresholds import EqualThresholds, GroupThreshold
from perennial.continual.intervals import Interval
from perennial.continual.robustness import ChangedAnswers
from perennial.ops.making.held_out_answers import KeptAnswers, kept_answers
from perennial.ops.making.probing import ProbedVersion, kept_probes
from perennial.ops.making.smaller import Compression, SmallerModel, kept_compression
from perennial.ops.store.workspace import Workspace

APART = Interval(mean=0.05, low=-0.01, high=0.09)
PROBED = ProbedVersion(
    at="2026-01-01T00:00:00+00:00",
    rows=40,
    changes=(ChangedAnswers(change="typos", told="typing", rows=4, before=0.9, after=0.8, lost=APART, same=APART),),
    groups=(
        ProbedGroup(probe="n", group="a", beside="b", rows=4, changed=APART, lost=APART, floor=0.1, beyond=APART),
    ),
    membership=APART,
    thresholds=(
        EqualThresholds(
            attribute="region", label="fee", figure="selection_rate", rows=4,
            groups=(GroupThreshold(group="n", rows=2, threshold=0.5, now=0.1, then=0.2),),
            gap_now=APART, gap_then=APART, right_now=0.9, right_then=0.8, lost=APART,
        ),
    ),
)  # fmt: skip
POINT = SmallerModel(
    step="half", engine="onnxruntime int8", megabytes=2.0, rows_per_s={"1": 900.0}, times_faster=2.5, accuracy=0.8,
    lost_points=APART, verdict="within the bound",
)  # fmt: skip
SMALLER = Compression(model="m", source=1, most_lost_points=0.5, points=(POINT,), chosen="half", version=2)
ANSWERS = KeptAnswers(ids=(1, 2), given=("a", "b"), confidence=(0.5, 1.0))
KINDS: dict[str, tuple[Any, Callable[[Workspace, str, int], Any]]] = {
    "probes": (PROBED, kept_probes),
    "compression": (SMALLER, kept_compression),
    "held-out-answers": (ANSWERS, kept_answers),
}
STRANGE: tuple[Any, ...] = ("x", None, math.nan, math.inf, -5, [], {}, 10**400, True)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in entries:
        yield (*path, name)
        yield from places(each, (*path, name))


def alike(read: Any, written: Any) -> bool:
    """Whether each field is of a kind that the record has there; None and numbers of any size among them."""
    if is_dataclass(read):
        return all(alike(getattr(read, name), getattr(written, name)) for name in read.__dataclass_fields__)
    if isinstance(read, tuple):
        return isinstance(written, tuple) and all(alike(each, written[0]) for each in read)
    return read is None or type(read) is type(written)


@pytest.mark.parametrize("name", KINDS)
def test_a_report_is_read_as_it_was_kept_or_not_at_all(tmp_path: Path, name: str) -> None:
    record, kept = KINDS[name]
    workspace = cast("Workspace", SimpleNamespace(reports=lambda _: tmp_path))
    file = tmp_path / f"{name}-2.json"
    assert kept(workspace, "m", 2) is None
    for damaged in (b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"ids": 3}'):
        file.write_bytes(damaged)
        assert kept(workspace, "m", 2) is None
    document = json.loads(json.dumps(asdict(record)))
    file.write_text(json.dumps(document | {"of another release": [1]}))
    assert kept(workspace, "m", 2) == record
    for path in places(document):
        for strange in STRANGE:
            changed = copy.deepcopy(document)
            inner = changed
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = strange
            file.write_text(json.dumps(changed))
            read = kept(workspace, "m", 2)
            assert read is None or alike(read, record), (path, strange)


@pytest.mark.parametrize(
    ("name", "field", "strange"),
    [
        ("probes", "at", "yesterday"),
        ("held-out-answers", "confidence", [0.5, math.nan]),
        ("held-out-answers", "ids", [1, 2**63]),
        ("held-out-answers", "given", ["a"]),
    ],
)
def test_values_that_no_page_could_show_make_a_report_none(
    tmp_path: Path, name: str, field: str, strange: object
) -> None:
    record, kept = KINDS[name]
    (tmp_path / f"{name}-2.json").write_text(json.dumps(asdict(record) | {field: strange}))
    assert kept(cast("Workspace", SimpleNamespace(reports=lambda _: tmp_path)), "m", 2) is None
