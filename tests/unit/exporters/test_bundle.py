"""A bundle that is not exactly what its manifest says is refused, with the reason."""

import hashlib
import json
import mmap
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import BundleRejected
from perennial.exporters.bundle import (
    EngineKind,
    FileRecord,
    Lineage,
    Manifest,
    Precision,
    digest,
    read_manifest,
    verify_bundle,
    write_manifest,
)
from perennial.exporters.text_classification.part import TextPart, digest_labels
from perennial.exporters.text_classification.signature import TEXT_ENGINE

LABELS = ("card_lost", "top_up", "Ünicode")
PART = TextPart(
    classes=len(LABELS), dimension=4, max_length=16, labels_sha256=digest_labels(LABELS), tokenizer_sha256="t"
)


def make_manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "model": "intent",
        "version": 3,
        "engine": EngineKind.ONNXRUNTIME,
        "precision": Precision.FP32,
        "engine_file": "model.onnx",
        **PART.fields(),
        "encoder_fingerprint": "e",
        "graph_fingerprint": "g",
        "created_at": "2026-01-01T00:00:00+00:00",
        "toolchain": {"onnxruntime": "1"},
        "lineage": Lineage(parent_version=2, cycle_id="c1", learner="kernel_lda", rows=10, replay_rows=4),
    }
    return Manifest(**values | changes)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "3"
    (folder / "encoder").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(bytes(range(256)) * 9000)  # more than one piece of the streaming digest
    (folder / "labels.json").write_text(json.dumps(list(LABELS)), "utf-8")
    (folder / "encoder" / "config.json").write_text("{}", "utf-8")
    write_manifest(folder, make_manifest())
    return folder


def test_bundle_untouched_is_verified(bundle: Path) -> None:
    manifest = verify_bundle(bundle)
    assert set(manifest.files) == {"model.onnx", "labels.json", "encoder/config.json"}
    assert manifest.lineage.replay_rows == 4
    assert manifest.files["model.onnx"].sha256 == digest(bundle / "model.onnx")


def test_manifest_survives_its_json() -> None:
    manifest = make_manifest(parity={"accepted": True, "agreement": 0.5}, options={"hint": "LATENCY"})
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json(manifest.to_json()).to_json() == manifest.to_json()


def test_what_a_version_has_told_stands_in_its_manifest_where_there_is_any() -> None:
    """So that a release which knows no privacy reads all other bundles."""
    assert "privacy" not in json.loads(make_manifest().to_json())["lineage"]
    manifest = make_manifest(lineage=Lineage(privacy={"epsilon": 8.0}))
    assert json.loads(manifest.to_json())["lineage"]["privacy"] == {"epsilon": 8.0}
    assert Manifest.from_json(manifest.to_json()) == manifest


def truncate(folder: Path) -> None:
    with (folder / "model.onnx").open("r+b") as stream:
        stream.truncate(100)


def alter(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[-1] ^= 1
    (folder / "model.onnx").write_bytes(content)


def remove(folder: Path) -> None:
    (folder / "encoder" / "config.json").unlink()


def add(folder: Path) -> None:
    (folder / "model.py").write_text("print('hello')", "utf-8")


def add_deep(folder: Path) -> None:
    (folder / "encoder" / "weights.bin").write_bytes(b"pickle")


def link_file(folder: Path) -> None:
    target = folder.parent / "elsewhere.onnx"
    (folder / "model.onnx").rename(target)
    (folder / "model.onnx").symlink_to(target)


def link_folder(folder: Path) -> None:
    (folder / "encoder").rename(folder.parent / "outside")
    (folder / "encoder").symlink_to(folder.parent / "outside")


def link_manifest(folder: Path) -> None:
    (folder / "manifest.json").rename(folder.parent / "m.json")
    (folder / "manifest.json").symlink_to(folder.parent / "m.json")


def cut_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:-40])


def drop_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        raw = json.loads((folder / "manifest.json").read_text("utf-8"))
        change(raw)
        (folder / "manifest.json").write_text(json.dumps(raw), "utf-8")

    return apply


def climb(raw: dict[str, Any]) -> None:
    raw["files"]["../../etc/passwd"] = {"sha256": "0", "size_bytes": 1}


def climb_engine(raw: dict[str, Any]) -> None:
    raw["engine_file"] = "../2/model.onnx"


TAMPERING: list[tuple[Callable[[Path], None], str]] = [
    (truncate, "truncated"),
    (alter, "altered"),
    (remove, "missing"),
    (add, "surplus"),
    (add_deep, "surplus"),
    (link_file, "link"),
    (link_folder, "link"),
    (link_manifest, "plain file"),
    (cut_manifest, "not JSON"),
    (drop_manifest, r"no manifest\.json"),
    (edit(climb), "may not name"),
    (edit(climb_engine), "may not name"),
    (edit(lambda raw: raw["files"].update({"/abs": {"sha256": "0", "size_bytes": 1}})), "may not name"),
    (edit(lambda raw: raw["files"].update({"a\\b": {"sha256": "0", "size_bytes": 1}})), "may not name"),
    (edit(lambda raw: raw["files"].update({".hidden": {"sha256": "0", "size_bytes": 1}})), "may not name"),
    (edit(lambda raw: raw.update(format="perennial.bundle/9")), "format"),
    (edit(lambda raw: raw.update(engine="torchscript")), "torchscript"),
    (edit(lambda raw: raw.update(version=0)), "at least 1"),
    (edit(lambda raw: raw.update(surprise=1)), "surprise"),
    (edit(lambda raw: raw.pop("lineage")), "lineage"),
    (edit(lambda raw: raw["files"].pop("labels.json")), "surplus"),
    (edit(lambda raw: raw["part"].update(classes=2)), "labels"),
    (edit(lambda raw: raw["part"].update(labels_sha256="0")), "labels"),
    (edit(lambda raw: raw["part"].update(surprise=1)), "surprise"),
    (edit(lambda raw: raw["part"].pop("dimension")), "dimension"),
    (edit(lambda raw: raw.update(task="image")), "task 'image'"),
    (edit(lambda raw: raw["signature"].update(proved=["weights"])), "proves"),
    (edit(lambda raw: raw["signature"]["inputs"][0].update(datatype="FP4")), "FP4"),
    (edit(lambda raw: raw["signature"].pop("outputs")), "outputs"),
    (edit(lambda raw: raw["replacements"].update({"../a": {"sha256": "0", "size_bytes": 1}})), "may not name"),
    (edit(lambda raw: raw.update(engine_file="model.plan")), "not among"),
]


@pytest.mark.parametrize(("tamper", "reason"), TAMPERING)
def test_bundle_tampered_with_is_refused(bundle: Path, tamper: Callable[[Path], None], reason: str) -> None:
    tamper(bundle)
    with pytest.raises(BundleRejected, match=reason):
        verify_bundle(bundle)


def test_bundle_reached_by_a_link_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "4").symlink_to(bundle)
    with pytest.raises(BundleRejected, match="not a folder"):
        verify_bundle(tmp_path / "4")


@pytest.mark.parametrize(
    ("runtime", "options", "accepted"),
    [
        ("10.16.1.11", {}, True),
        ("10.16.1.12", {}, False),
        ("11.4.0.106", {}, False),
        ("11.4.0.106", {"version_compatible": "true"}, True),
        ("10.12.0.1", {"version_compatible": "true"}, False),
    ],
)
def test_plan_of_a_foreign_tensorrt_is_refused(
    bundle: Path, runtime: str, options: dict[str, str], accepted: bool
) -> None:
    toolchain = {"tensorrt": "10.16.1.11"}
    write_manifest(bundle, make_manifest(engine=EngineKind.TENSORRT, toolchain=toolchain, options=options))
    if accepted:
        assert verify_bundle(bundle, tensorrt_version=runtime).engine is EngineKind.TENSORRT
    else:
        with pytest.raises(BundleRejected, match=r"built by TensorRT 10\.16"):
            verify_bundle(bundle, tensorrt_version=runtime)


def test_plan_without_its_version_is_refused(bundle: Path) -> None:
    write_manifest(bundle, make_manifest(engine=EngineKind.TENSORRT))
    with pytest.raises(BundleRejected, match="without its TensorRT version"):
        verify_bundle(bundle, tensorrt_version="11.4.0")


def test_manifest_is_not_written_over_a_link(bundle: Path) -> None:
    link_file(bundle)
    with pytest.raises(BundleRejected, match="link"):
        write_manifest(bundle, make_manifest())


def test_manifest_without_its_engine_file_is_not_written(bundle: Path) -> None:
    with pytest.raises(BundleRejected, match=r"model\.plan"):
        write_manifest(bundle, make_manifest(engine_file="model.plan"))


def test_manifest_replaces_what_was_claimed_about_files(bundle: Path) -> None:
    stale = read_manifest(bundle)
    (bundle / "model.onnx").write_bytes(b"new engine")
    written = write_manifest(bundle, stale)
    assert written.files["model.onnx"].size_bytes == 10
    assert asdict(verify_bundle(bundle)) == asdict(written)


def test_label_digest_depends_on_order() -> None:
    assert digest_labels(("a", "b")) != digest_labels(("b", "a"))
    assert digest_labels(("a,b",)) != digest_labels(("a", "b"))


@pytest.mark.parametrize("field", ["classes", "dimension", "max_length"])
def test_counts_of_a_text_classifier_are_at_least_one(field: str) -> None:
    assert getattr(replace(PART, **{field: 1}), field) == 1
    with pytest.raises(BundleRejected, match="at least 1"):
        replace(PART, **{field: 0})


def test_versions_begin_with_one() -> None:
    assert make_manifest(version=1).version == 1
    with pytest.raises(BundleRejected, match="at least 1"):
        make_manifest(version=0)


def as_before(raw: dict[str, Any]) -> None:
    """A manifest as releases before the second format wrote it: of text classifiers alone."""
    raw.update(raw.pop("part"), format="perennial.bundle/1")
    for name in ("task", "signature", "replacements"):
        del raw[name]


def test_a_manifest_of_an_earlier_release_says_the_same(bundle: Path) -> None:
    now = verify_bundle(bundle)
    edit(as_before)(bundle)
    assert verify_bundle(bundle) == now
    assert now.signature == TEXT_ENGINE.bound(classes=3, dimension=4)
    assert write_manifest(bundle, read_manifest(bundle)) == now
    assert '"perennial.bundle/2"' in (bundle / "manifest.json").read_text("utf-8")


@pytest.mark.parametrize("field", ["classes", "tokenizer_sha256", "lineage"])
def test_a_manifest_of_an_earlier_release_that_lacks_a_field_is_refused(bundle: Path, field: str) -> None:
    edit(as_before)(bundle)
    edit(lambda raw: raw.pop(field))(bundle)
    with pytest.raises(BundleRejected, match=field):
        verify_bundle(bundle)


def test_a_file_that_is_being_replaced_is_either_as_before_or_as_it_will_be(bundle: Path) -> None:
    path, new = bundle / "encoder" / "config.json", b'{"wider": true}'
    raw = json.loads((bundle / "manifest.json").read_text("utf-8"))
    raw["replacements"] = {"encoder/config.json": asdict(FileRecord.of(new))}
    (bundle / "manifest.json").write_text(json.dumps(raw), "utf-8")
    verify_bundle(bundle)
    path.write_bytes(new)
    verify_bundle(bundle)
    path.write_bytes(b"[]")
    with pytest.raises(BundleRejected, match="altered"):
        verify_bundle(bundle)


def test_lineage_of_a_first_version_names_no_rows() -> None:
    assert Lineage() == Lineage(parent_version=None, cycle_id=None, learner=None, rows=0, replay_rows=0)


def test_a_manifest_may_have_its_limit_and_no_byte_more(bundle: Path) -> None:
    path = bundle / "manifest.json"
    content = path.read_bytes()
    path.write_bytes(content + b" " * (16 * 2**20 - len(content)))
    assert read_manifest(bundle).version == 3
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleRejected, match=r"16777217 bytes \(limit 16777216\)"):
        read_manifest(bundle)


def test_a_manifest_that_is_no_table_or_no_text_is_refused(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("[]", "utf-8")
    with pytest.raises(BundleRejected, match="format 'list'"):
        read_manifest(bundle)
    (bundle / "manifest.json").write_bytes(b'"\xff"')
    with pytest.raises(BundleRejected, match="not UTF-8"):
        read_manifest(bundle)


def test_a_pipe_in_a_bundle_is_refused_without_reading_it(bundle: Path) -> None:
    import os

    os.mkfifo(bundle / "pipe")
    with pytest.raises(BundleRejected, match="neither a file nor a folder"):
        verify_bundle(bundle)


def test_a_bundle_without_labels_or_with_others_of_the_same_number_is_refused(bundle: Path) -> None:
    (bundle / "labels.json").write_text(json.dumps(["other", *LABELS[1:]]), "utf-8")
    write_manifest(bundle, make_manifest())
    with pytest.raises(BundleRejected, match="3 labels that are not the 3"):
        verify_bundle(bundle)
    (bundle / "labels.json").unlink()
    write_manifest(bundle, make_manifest())
    with pytest.raises(BundleRejected, match=r"names no labels\.json"):
        verify_bundle(bundle)


def test_a_file_that_grew_is_altered_not_truncated(bundle: Path) -> None:
    with (bundle / "model.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(BundleRejected, match="is altered: 2304001 bytes"):
        verify_bundle(bundle)


def test_a_file_as_a_folder_is_no_bundle(bundle: Path) -> None:
    for wrong in ("model.onnx", "nowhere"):
        with pytest.raises(BundleRejected, match="no manifest"):
            verify_bundle(bundle / wrong)
    with pytest.raises(BundleRejected, match="not a folder"):
        write_manifest(bundle / "model.onnx", make_manifest())


def test_a_manifest_leaves_itself_and_its_draft_out(bundle: Path) -> None:
    write_manifest(bundle, make_manifest())
    assert sorted(path.name for path in bundle.iterdir()) == ["encoder", "labels.json", "manifest.json", "model.onnx"]


def test_a_name_that_a_bundle_may_not_have_is_not_written(bundle: Path) -> None:
    (bundle / "my file").write_text("x", "utf-8")
    with pytest.raises(BundleRejected, match="may not name the file 'my file'"):
        write_manifest(bundle, make_manifest())


def test_a_version_compatible_plan_runs_on_the_same_release_and_needs_no_runtime_to_be_read(bundle: Path) -> None:
    built = make_manifest(
        engine=EngineKind.TENSORRT, toolchain={"tensorrt": "10.16.1.11"}, options={"version_compatible": "true"}
    )
    write_manifest(bundle, built)
    assert verify_bundle(bundle, tensorrt_version="10.16.1.9").version == 3
    assert verify_bundle(bundle, tensorrt_version="10.16.2").version == 3
    with pytest.raises(BundleRejected, match=r"the runtime is 10\.16\.0"):
        verify_bundle(bundle, tensorrt_version="10.16.0.11")


def test_toolchain_names_installed_packages_alone() -> None:
    from importlib.metadata import version

    from perennial.exporters.bundle import toolchain_versions

    assert toolchain_versions("no-such-package", "numpy") == {"numpy": version("numpy")}


def test_a_file_is_digested_whole(tmp_path: Path) -> None:
    import hashlib

    content = bytes(range(256)) * 9000
    (tmp_path / "big").write_bytes(content)
    assert digest(tmp_path / "big") == hashlib.sha256(content).hexdigest()


def test_digest_reads_a_file_again_once_it_was_touched(tmp_path: Path) -> None:
    """In place, with its length and its modification time put back: the change time tells."""
    path = tmp_path / "file"
    path.write_bytes(b"before")
    time.sleep(0.15)
    first, seen = digest(path), path.stat()
    assert digest(path) == first
    with path.open("r+b") as stream:
        stream.write(b"after!")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert digest(path) == hashlib.sha256(b"after!").hexdigest() != first


def test_what_is_to_be_served_is_read_again_where_the_change_time_tells_nothing(bundle: Path) -> None:
    """A page that is written to by a mapping a second time."""
    path = bundle / "model.onnx"
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapped:
        mapped[5] = mapped[5]
        time.sleep(0.15)
        verify_bundle(bundle)
        mapped[5] ^= 1
        verify_bundle(bundle, reread=False)
        with pytest.raises(BundleRejected, match=r"model\.onnx is altered"):
            verify_bundle(bundle)
        mapped[5] ^= 1
        assert verify_bundle(bundle) == verify_bundle(bundle, reread=False)


def test_large_files_are_read_side_by_side_and_each_is_told_by_its_name(bundle: Path) -> None:
    for number, name in enumerate(("a.bin", "b.bin", "c.bin")):
        (bundle / name).write_bytes(bytes([number]) * (5 * 2**20))
    written = write_manifest(bundle, make_manifest())
    assert list(written.files) == sorted(written.files)
    assert verify_bundle(bundle) == written
    for name, record in written.files.items():
        assert record.sha256 == hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    with (bundle / "b.bin").open("r+b") as file:
        file.write(b"!")
    with pytest.raises(BundleRejected, match=r"b\.bin is altered"):
        verify_bundle(bundle)
