"""A collector of OpenTelemetry on a free port, as far as a test needs one: it keeps the spans that it is sent."""

import gzip
import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

__all__ = ["Receiver", "facts_of", "receiving"]

_IDS = {"traceId", "spanId", "parentSpanId"}


class Receiver:
    """What came so far."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1/traces"
        self.spans: list[Span] = []

    def wait(self, enough: Callable[[list[Span]], bool], *, patience_s: float = 20.0) -> list[Span]:
        """The spans, once they are enough."""
        end = time.monotonic() + patience_s
        while not enough(self.spans):
            assert time.monotonic() < end, [span.name for span in self.spans]
            time.sleep(0.02)
        return list(self.spans)


def facts_of(span: Span) -> dict[str, Any]:
    """A span's attributes."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in span.attributes}


def _request(body: bytes, kind: str) -> ExportTraceServiceRequest:
    """What was sent: as protobuf, or as the JSON of OTLP, whose ids are hexadecimal."""
    if kind != "application/json":
        return ExportTraceServiceRequest.FromString(body)
    document = json.loads(body)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                span |= {name: b64encode(bytes.fromhex(span[name])).decode() for name in _IDS & set(span)}
    return ParseDict(document, ExportTraceServiceRequest())


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A collector that runs for a while."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in _request(body, self.headers["Content-Type"]).resource_spans:
                receiver.spans += [span for scope in resource.scope_spans for span in scope.spans]
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
