"""A server of video over HTTP that does what it is told, one connection after the other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass(frozen=True)
class Reply:
    """What one connection is sent.

    Args:
        body: Bytes. stated: The length that its header states, if any. status: Of HTTP. to: Where it sends to.
        closes: Whether its header says that the connection ends with it; it does in any case.
    """

    body: bytes = b""
    stated: int | None = None
    status: int = 200
    to: str | None = None
    closes: bool = True


class Server:
    """Answers the connections in order, by path where there are several; the last reply is repeated."""

    def __init__(self, **paths: Sequence[Reply]) -> None:
        replies = {path: list(given) for path, given in paths.items()}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                left = replies[self.path.strip("/").split(".")[0]]
                reply = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(reply.status)
                if reply.stated is not None:
                    self.send_header("Content-Length", str(reply.stated))
                if reply.to is not None:
                    self.send_header("Location", reply.to)
                if reply.closes:
                    self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                self.wfile.write(reply.body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
