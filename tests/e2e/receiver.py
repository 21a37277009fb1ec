"""Where the service's messages arrive."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from perennial.ops.notify import verify_signature

SECRET = "an operator's secret"


class Receiver:
    """An HTTP server that checks each message's signature and keeps it."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.forged = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if verify_signature(SECRET, body, self.headers["Perennial-Signature"], now=time.time()):
                    receiver.messages.append(json.loads(body))
                else:
                    receiver.forged += 1
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def messages_of(self, alert: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["alert"] == alert]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
