import errno
import json
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import BundleRejected, NotFound, PublishFailed
from perennial.exporters.batches import joined
from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.text_classification.signature import TEXT_ENGINE, TEXT_ROUTER
from perennial.exporters.text_classification.tokens import padded
from perennial.exporters.triton_config import EngineSpec, RouterSpec, parse_config
from perennial.ops.serving.engine_host import EngineHost
from perennial.ops.serving.repository import ModelRepository
from tests.component.triton_fixtures import ENGINE, write_bundle


def _staged(repository: ModelRepository, name: str = "work") -> object:
    folder = repository.staging / name
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return folder


def test_publish_moves_the_staged_folder_and_refuses_a_second_time(tmp_path):
    repository = ModelRepository(tmp_path)
    staged = _staged(repository)
    target = repository.publish(staged, ENGINE, 3)
    assert target == tmp_path / ENGINE / "3"
    assert (target / "manifest.json").read_text() == "{}"
    assert not staged.exists()
    with pytest.raises(PublishFailed, match="immutable"):
        repository.publish(_staged(repository), ENGINE, 3)
    assert repository.versions(ENGINE) == (3,)


def test_model_level_holds_config_and_versions_only(tmp_path):
    repository = ModelRepository(tmp_path)
    repository.install_engine(EngineSpec(signature=TEXT_ENGINE, model=ENGINE))
    for version in (1, 2):
        repository.publish(_staged(repository), ENGINE, version)
        repository.set_versions(ENGINE, (version,))
    assert sorted(entry.name for entry in (tmp_path / ENGINE).iterdir()) == ["1", "2", "config.pbtxt"]
    assert repository.clean_staging() == ()


def test_set_versions_keeps_the_rest_and_tells_whether_it_changed(tmp_path):
    repository = ModelRepository(tmp_path)
    repository.install_engine(EngineSpec(signature=TEXT_ENGINE, model=ENGINE, threads=3))
    repository.publish(_staged(repository), ENGINE, 1)
    assert repository.set_versions(ENGINE, (1,)) is True
    assert repository.set_versions(ENGINE, (1,)) is False
    assert repository.engine_versions(ENGINE) == (1,)
    config = parse_config((tmp_path / ENGINE / "config.pbtxt").read_text())
    assert config.parameters["threads"].string_value == "3"
    with pytest.raises(NotFound, match=r"\[9\]"):
        repository.set_versions(ENGINE, (1, 9))
    assert repository.engine_versions(ENGINE) == (1,)


def test_installing_an_engine_again_keeps_its_versions(tmp_path):
    repository = ModelRepository(tmp_path)
    repository.publish(_staged(repository), ENGINE, 1)
    repository.install_engine(EngineSpec(signature=TEXT_ENGINE, model=ENGINE))
    repository.set_versions(ENGINE, (1,))
    assert repository.install_engine(EngineSpec(signature=TEXT_ENGINE, model=ENGINE, threads=2)) is True
    assert repository.engine_versions(ENGINE) == (1,)


def test_router_has_one_empty_version(tmp_path):
    repository = ModelRepository(tmp_path)
    spec = RouterSpec(signature=TEXT_ROUTER, model="intent", parameters={})
    assert repository.install_router(spec) is True
    assert repository.install_router(spec) is False
    assert list((tmp_path / "intent" / "1").iterdir()) == []


def test_a_named_version_is_not_removed(tmp_path):
    repository = ModelRepository(tmp_path)
    for version in (1, 2):
        repository.publish(_staged(repository), ENGINE, version)
    with pytest.raises(NotFound, match="no server ever ran here; start `perennial serve`"):
        repository.set_versions(ENGINE, (1,))
    repository.install_engine(EngineSpec(signature=TEXT_ENGINE, model=ENGINE))
    repository.set_versions(ENGINE, (1,))
    with pytest.raises(PublishFailed, match="is named in"):
        repository.remove_version(ENGINE, 1)
    repository.remove_version(ENGINE, 2)
    repository.remove_version(ENGINE, 2)
    assert repository.versions(ENGINE) == (1,)


def test_leftovers_in_staging_are_cleaned(tmp_path):
    repository = ModelRepository(tmp_path)
    _staged(repository, "killed")
    assert repository.clean_staging() == ("killed",)
    assert list(repository.staging.iterdir()) == []


def test_odd_names_are_no_versions(tmp_path):
    for name in ("1", "02", "4.partial", "x"):
        (tmp_path / ENGINE / name).mkdir(parents=True)
    assert ModelRepository(tmp_path).versions(ENGINE) == (1,)


def test_an_engine_answers_requests_of_other_lengths_as_if_alone(tmp_path):
    write_bundle(tmp_path / "1", 1)
    host = EngineHost.load(tmp_path, 1, threads=1)
    requests = [padded([row]) for row in ([2, 3], [4], [6, 6, 6])]
    together = host.infer(requests)
    for request, answer in zip(requests, together, strict=True):
        alone = host.infer([request])[0]
        assert answer.keys() == alone.keys() == {"logits", "embedding"}
        for name in alone:
            np.testing.assert_allclose(answer[name], alone[name], atol=1e-6)


def test_the_engine_of_a_version_that_waits_goes_when_it_rests_and_comes_back_when_it_is_asked(tmp_path):
    write_bundle(tmp_path / "1", 1)
    waits, request = [True], padded([[2, 3]])
    host = EngineHost.load(tmp_path, 1, threads=2, waits=lambda: waits[0])
    before, engine = host.infer([request])[0], weakref.ref(host._engine)
    host.rest()
    assert engine() is None, "it still holds its engine"
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: host.infer([request])[0], range(4)))
    for answer in answers:
        np.testing.assert_array_equal(answer["logits"], before["logits"])
    engine, waits[0] = weakref.ref(host._engine), False
    host.rest()
    assert engine() is not None, "a champion's next question would wait for its engine"


@pytest.mark.parametrize("much", [True, False])
def test_what_an_engine_lets_go_of_while_it_is_asked_is_given_back(tmp_path, monkeypatch, much):
    trims, settles = [], []
    write_bundle(tmp_path / "1", 1)
    host = EngineHost.load(tmp_path, 1, threads=2, waits=lambda: True)
    monkeypatch.setattr("perennial.ops.serving.engine_host.trim_heaps", lambda: trims.append(1))
    monkeypatch.setattr(host._engine, "settle", lambda: bool(settles.append(1)) or much)
    host.settle()
    assert (len(settles), len(trims)) == (1, int(much))
    host.rest()
    host.settle()  # it holds no engine any more
    assert len(settles) == 1


def test_an_engine_that_is_loaded_again_gives_way_and_one_that_is_there_does_not(tmp_path, monkeypatch):
    ways = []

    @contextmanager
    def giving_way(niceness, *, within_s):
        ways.append(f"niceness {niceness}, {within_s} s at most")
        yield
        ways.append("over")

    monkeypatch.setattr("perennial.ops.serving.engine_host.giving_way", giving_way)
    write_bundle(tmp_path / "1", 1)
    host = EngineHost.load(tmp_path, 1, threads=2, waits=lambda: True)
    host.infer([padded([[2, 3]])])
    assert ways == []
    host.rest()
    host.infer([padded([[2, 3]])])
    assert ways == ["niceness 19, 0.25 s at most", "over"]


def test_an_engine_that_nobody_can_ask_for_its_known_answers_stays(tmp_path):
    write_bundle(tmp_path / "1", 1)
    (tmp_path / "1" / "golden.json").unlink()
    manifest = json.loads((tmp_path / "1" / "manifest.json").read_text())
    manifest["files"].pop("golden.json")
    (tmp_path / "1" / "manifest.json").write_text(json.dumps(manifest))
    host = EngineHost.load(tmp_path, 1, threads=2, waits=lambda: True)
    host.rest()
    assert host._engine is not None


def test_questions_beside_a_rest_are_answered(tmp_path):
    write_bundle(tmp_path / "1", 1)
    host, request = EngineHost.load(tmp_path, 1, threads=2, waits=lambda: True), padded([[2, 3]])
    over = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        resting = pool.submit(lambda: [host.rest() for _ in iter(over.is_set, True)])
        asking = [pool.submit(lambda: [host.infer([request])[0]["logits"].shape for _ in range(40)]) for _ in range(2)]
        try:
            assert {shape for each in asking for shape in each.result()} == {(1, 3)}
        finally:
            over.set()
        resting.result()


def test_an_engine_does_not_come_back_out_of_a_bundle_that_was_damaged_meanwhile(tmp_path):
    model = write_bundle(tmp_path / "1", 1) / "model.onnx"
    host, sound, request = EngineHost.load(tmp_path, 1, threads=2, waits=lambda: True), model.read_bytes(), [[2, 3]]
    host.rest()
    model.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    for _ in range(2):
        with pytest.raises(BundleRejected, match="altered"):
            host.infer([padded(request)])
    model.write_bytes(sound)
    assert host.infer([padded(request)])[0]["logits"].shape == (1, 3)


def test_what_is_under_way_is_answered_by_the_engine_that_goes(tmp_path):
    class Slow:
        def rest(self) -> None:
            raise AssertionError("it goes altogether")

        def infer(self, inputs: Inputs) -> Outputs:
            begun.set()
            assert may_end.wait(20)
            return {"logits": inputs["input_ids"]}

    begun, may_end = threading.Event(), threading.Event()
    host = EngineHost(Slow(), TEXT_ENGINE, again=lambda: pytest.fail("nothing else was asked"), waits=lambda: True)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(host.infer, [{"input_ids": np.array([[7]])}])
        assert begun.wait(20)
        host.rest()
        may_end.set()
        assert answer.result()[0]["logits"].tolist() == [[7]]


def test_padding_masks_what_it_adds():
    ids, mask = joined([padded([[7, 7, 7], [7, 7, 7]]), padded([[8]])]).values()
    assert ids.tolist() == [[7, 7, 7], [7, 7, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 1], [1, 0, 0]]


def test_an_engine_that_does_not_repeat_its_golden_answers_is_refused(tmp_path):
    write_bundle(tmp_path / "1", 1, golden_error=0.5)
    with pytest.raises(BundleRejected, match="golden"):
        EngineHost.load(tmp_path, 1, threads=1)


def test_an_altered_bundle_is_refused(tmp_path):
    folder = write_bundle(tmp_path / "1", 1)
    data = bytearray((folder / "model.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "model.onnx").write_bytes(bytes(data))
    with pytest.raises(BundleRejected, match="altered"):
        EngineHost.load(tmp_path, 1, threads=1)


def test_a_full_disk_publishes_nothing_and_keeps_the_staged_bundle(tmp_path, monkeypatch):
    repository = ModelRepository(tmp_path)
    staged = _staged(repository)

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PublishFailed, match=r"version 3 could not be placed at .*No space left"):
        repository.publish(staged, ENGINE, 3)
    assert repository.versions(ENGINE) == ()
    assert (staged / "manifest.json").is_file()


def test_a_bundle_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    """Every file and folder is synced, then renamed, then the parent is synced: a power cut shows all or nothing."""
    repository, steps = ModelRepository(tmp_path), []
    staged = _staged(repository)
    sync, rename = os.fsync, Path.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: (steps.append(str(Path(f"/proc/self/fd/{fd}").readlink())), sync(fd))[1]
    )
    monkeypatch.setattr(Path, "rename", lambda path, to: (steps.append("rename"), rename(path, to))[1])
    target = repository.publish(staged, ENGINE, 1)
    assert steps == [str(staged / "manifest.json"), str(staged), "rename", str(target.parent)]


def test_an_altered_configuration_is_written_again_with_its_versions(tmp_path):
    repository = ModelRepository(tmp_path)
    for version in (1, 2):
        repository.publish(_staged(repository), ENGINE, version)
    repository.install_engine(EngineSpec(signature=TEXT_ENGINE, model=ENGINE, threads=3))
    repository.set_versions(ENGINE, (2,))
    path = tmp_path / ENGINE / "config.pbtxt"
    sound = path.read_text()
    assert repository.restore_configurations([ENGINE, "unknown"]) == ()
    path.write_text(sound.replace('"3"', '"4"'))
    assert repository.restore_configurations([ENGINE]) == (ENGINE,)
    assert path.read_text() == sound
    path.write_text("{")
    assert repository.engine_versions(ENGINE) == ()
    assert repository.restore_configurations([ENGINE]) == (ENGINE,)
    repository.set_versions(ENGINE, (2,))
    assert path.read_text() == sound
