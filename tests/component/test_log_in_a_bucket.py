"""What docs/scale.md says an analyst can ask of a log in a bucket is asked of a real S3 server on this machine."""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from perennial.ops.traffic import TrafficLog, TrafficWriter
from tests.component.traffic_rows import columns

pytestmark = pytest.mark.component

_PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
_ASKED = re.compile(r"^    import duckdb, fsspec\n(?:    .*\n)+", re.MULTILINE)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a key of this test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    running = ThreadedMotoServer(port=0)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


def test_the_page_asks_a_bucket_as_the_folder_is_asked(server: str, tmp_path: Path) -> None:
    expected: dict[str, int] = {}
    for number, answer in enumerate(["card", "退款", "🙂"]):
        writer = TrafficWriter(tmp_path, f"server {number}")
        rows = columns([float(3 * number + place) for place in range(number + 2)], first=10 * number)
        rows["prediction"] = [answer] * (number + 2)
        writer.append(rows)
        writer.close()
        TrafficLog(tmp_path).compact()
        expected[answer] = number + 2
    bucket = boto3.client("s3", endpoint_url=server)
    bucket.create_bucket(Bucket="logs")
    for file in (tmp_path / "parquet").glob("*.parquet"):
        bucket.upload_file(str(file), "logs", f"intent/parquet/{file.name}")
    block = _ASKED.search(_PAGE.read_text(encoding="utf-8"))
    assert block is not None, f"{_PAGE.name} no longer shows how a bucket is asked"
    asked = dedent(block[0]).replace("https://s3.example.org", server).replace("BUCKET", "logs")
    *before, last = asked.strip().splitlines()
    names: dict[str, Any] = {}
    exec("\n".join([*before, f"found = {last}.fetchall()"]), names)
    assert dict(names["found"]) == expected
