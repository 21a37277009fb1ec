"""Texts at the router: a version reads them as those were read that it learnt from."""

from pathlib import Path

import pytest

from perennial.exporters.engine import Engine
from perennial.exporters.runtime import load_engine
from perennial.ops.serving.tasks.text_classification import SIDE, Classified
from tests.component.triton_fixtures import write_bundle
from tests.unit.learning.cards import text_card

WIDE = "\uff43\uff41\uff52\uff44 lost"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Engine]:
    bundle = write_bundle(tmp_path_factory.mktemp("bundles") / "1", 1)
    return bundle, load_engine(bundle, threads=1)


def asked(made: tuple[Path, Engine], text: str) -> Classified:
    version = SIDE.open(made[0])
    rows = version.encode([text])
    return version.answers([text], rows, made[1].infer(rows))[0]


@pytest.mark.parametrize(("cleaning", "same"), [(2, True), (1, False)])
def test_letters_of_full_width_are_folded_by_versions_that_learnt_so(
    made: tuple[Path, Engine], cleaning: int, same: bool
) -> None:
    text_card(cleaning=cleaning).write(made[0])
    plain, wide = asked(made, "card lost"), asked(made, WIDE)
    assert (plain.label == wide.label and plain.confidence == pytest.approx(wide.confidence)) is same


def test_a_bundle_without_a_card_reads_texts_as_they_are(made: tuple[Path, Engine]) -> None:
    (made[0] / "model.json").unlink(missing_ok=True)
    assert asked(made, WIDE).confidence != pytest.approx(asked(made, "card lost").confidence)
