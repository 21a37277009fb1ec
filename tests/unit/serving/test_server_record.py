import stat
import subprocess
import sys
from pathlib import Path

from perennial.ops.serving.processes import hide_argument
from perennial.ops.serving.server_record import KeptSecret, ServerRecord

_RECORD = ServerRecord(pid=1, ticks=2, fingerprint="f", secret="s-1", http_port=3, metrics_port=4)


def test_a_kept_record_is_read_again_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    path.with_suffix(".tmp").write_text("left by a killed process")
    _RECORD.keep(path)
    assert ServerRecord.read(path) == _RECORD
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["server.json"]


def test_a_record_of_an_earlier_version_without_a_secret_is_none(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    path.write_text('{"pid": 1, "ticks": 2, "fingerprint": "f"}')
    assert ServerRecord.read(path) is None


def test_a_kept_secret_follows_the_record(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    secret = KeptSecret(path)
    assert secret() == ""
    _RECORD.keep(path)
    assert secret() == "s-1"
    ServerRecord(pid=1, ticks=2, fingerprint="f", secret="s-2").keep(path)
    assert secret() == "s-2"
    path.unlink()
    assert secret() == ""


def test_an_argument_is_hidden_wherever_it_stands_and_the_rest_stays() -> None:
    code = "import sys, time; print(sys.argv[1:], flush=True); time.sleep(60)"
    words = ["--a=topsecret", "plain", "--b=topsecret:x"]
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline().strip() == repr(words)
            assert hide_argument(child.pid, "topsecret")
            shown = Path(f"/proc/{child.pid}/cmdline").read_bytes().split(b"\0")[3:6]
            assert shown == [b"--a=*********", b"plain", b"--b=*********:x"]
        finally:
            child.kill()


def test_nothing_is_left_to_hide_of_a_process_that_is_gone() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert hide_argument(gone.pid, "anything")
