"""A training that counts the sums of other sites beside its own rows, and one that does so no more."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import DataError
from perennial.continual.federation.others import Others, Shared, features_of
from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.learning.card import ModelCard, read_card
from perennial.continual.learning.closed_form import CLOSED_FORMS
from perennial.continual.learning.context import Context
from perennial.continual.learning.fast import train_fast
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.trained import OTHERS_FILE, STATISTICS_FILE, read_head
from tests.unit.learning.conftest import make_rows

pytestmark = pytest.mark.slow

Write = Callable[..., Path]
HERE, THERE = make_rows("card loan", 60, 1), make_rows("trip fees", 60, 2)
PROOF = make_rows("card loan", 30, 9)
TOLD = {"features": 120, "gamma": 0.5, "shrinkage": 0.1, "priors": "empirical"}  # so that no row chooses


def train(path: Path) -> Path:
    spec = JobSpec.read(path)
    train_fast(spec, Context())
    return spec.out


def sums_of(folder: Path) -> AnchoredSums:
    found: AnchoredSums = CLOSED_FORMS[read_card(folder).head].load(folder / STATISTICS_FILE)
    return found


def others_of(folder: Path, path: Path) -> Path:
    """What a site would be sent by one with this trained model: its sums without keys."""
    card, sums = read_card(folder), sums_of(folder)
    features = features_of(sums, encoder=card.encoder_fingerprint, max_length=card.max_length)
    shared = Shared(round="0f", sites=("there",), features=features, rows=sums.rows, digest="ab")
    Others(sums=sums.of_named(sums.named), shared=shared).write(path)
    return path


@pytest.fixture(params=["ridge", "kernel_lda"])
def learner(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def spec(make_spec: Write, learner: str) -> Write:
    params = TOLD | ({"lexical": 80, "words": 0.3} if learner == "ridge" else {})
    return lambda name, **fields: make_spec(name, **{"learner": learner, "params": params, **fields})


@pytest.fixture
def others(spec: Write, tmp_path: Path) -> Path:
    return others_of(train(spec("there", examples=THERE)), tmp_path / "others")


def assert_same_head(one: Path, other: Path) -> None:
    mine, theirs = read_head(one), read_head(other)
    assert mine.labels == theirs.labels
    np.testing.assert_allclose(mine.weight, theirs.weight, atol=1e-5)
    np.testing.assert_allclose(mine.bias, theirs.bias, atol=1e-5)


def test_rows_of_others_are_answered_with_as_if_they_had_been_here(spec: Write, others: Path) -> None:
    both = train(spec("both", examples=HERE, holdout=PROOF, others=others))
    central = train(spec("central", examples=[*HERE, *THERE], holdout=PROOF))
    assert_same_head(both, central)
    card: ModelCard = read_card(both)
    assert card.labels == ("card", "fees", "loan", "trip")
    assert (card.data["rows"], card.data["rows_of_others"], card.settings["others"]) == (120, 120, "ab")
    assert sums_of(both).rows == 120, "own sums stay own"
    assert (both / OTHERS_FILE).read_bytes() == others.read_bytes()


def test_a_version_goes_on_with_others_loses_rows_and_leaves_them(spec: Write, others: Path) -> None:
    first = train(spec("first", examples=HERE[20:], holdout=PROOF))
    second = train(spec("second", previous=first, examples=HERE[:20], holdout=PROOF, others=others))
    assert read_card(second).data["rows_added"] == 20
    less = train(spec("less", previous=second, erase=HERE[:30], holdout=PROOF, others=second / OTHERS_FILE))
    assert read_card(less).data["rows_removed"] == 30
    assert_same_head(less, train(spec("never", examples=[*HERE[30:], *THERE], holdout=PROOF)))
    alone = train(spec("alone", previous=less, examples=HERE[:10], holdout=PROOF))
    assert read_card(alone).labels == ("card", "loan")
    assert "others" not in read_card(alone).settings
    assert not (alone / OTHERS_FILE).exists()
    assert_same_head(alone, train(spec("plain", examples=[*HERE[30:], *HERE[:10]], holdout=PROOF)))


def test_what_leaves_the_choice_takes_the_closed_form_of_the_others(spec: Write, others: Path, learner: str) -> None:
    made = train(spec("auto", learner="auto", params={}, examples=HERE, holdout=PROOF, others=others))
    assert read_card(made).head == learner


def test_others_of_another_length_of_texts_are_refused(spec: Write, others: Path) -> None:
    with pytest.raises(DataError, match="tokens of a text '24' and here '20'"):
        train(spec("short", examples=HERE, others=others, max_length=20))
