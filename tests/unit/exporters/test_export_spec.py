"""The file that tells an export process what to do."""

import json
from pathlib import Path

import pytest

from perennial.exporters.bundle import Lineage
from perennial.exporters.spec import ExportSpec


@pytest.mark.parametrize("previous", [None, Path("/repository/intent_engine/1")])
def test_a_written_spec_is_read_as_it_was(tmp_path: Path, previous: Path | None) -> None:
    spec = ExportSpec(
        trained_dir=tmp_path / "trained",
        out_dir=tmp_path / "2",
        held_out=tmp_path / "heldout.json",
        calibration=tmp_path / "calibration.json",
        previous_bundle=previous,
        model="intent",
        version=2,
        engine="openvino",
        precision="fp32",
        lineage=Lineage(parent_version=1, cycle_id="7", learner="kernel_lda", rows=3, replay_rows=4),
        threads=2,
        limits={"agreement": 0.9},
        limits_by_precision={"int8": {"max_abs_logit": 0.5}},
        parity_rows=32,
    )
    path = tmp_path / "export.json"
    spec.write(path, result=tmp_path / "export.result.json")
    record = json.loads(path.read_text())
    assert record["result"] == str(tmp_path / "export.result.json")
    assert ExportSpec.from_record(record) == spec


def test_paths_of_a_written_spec_do_not_depend_on_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = ExportSpec(
        trained_dir=Path("trained"), out_dir=Path("2"), held_out=Path("rows.json"), model="intent", version=2
    )
    spec.write(Path("export.json"), result=Path("result.json"))
    record = json.loads((tmp_path / "export.json").read_text())
    read = ExportSpec.from_record(record)
    assert (read.trained_dir, read.out_dir, read.held_out, Path(record["result"])) == (
        tmp_path / "trained",
        tmp_path / "2",
        tmp_path / "rows.json",
        tmp_path / "result.json",
    )
