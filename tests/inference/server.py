"""Servers of video, over HTTP and RTSP, that do what they are told, one connection after the other."""

from __future__ import annotations

import itertools
import re
import socketserver
import struct
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


_SDP = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track0\r\n"
_PACKET = 7 * 188


class RTSPServer:
    """Plays an MPEG transport stream to each connection, over its TCP connection, and closes it.

    Args:
        body: The stream. plays: How many connections it serves; it hangs up on those after them.
    """

    def __init__(self, body: bytes, plays: int) -> None:
        left = itertools.count(plays, -1)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                serves = next(left) > 0
                while serves and (line := self.rfile.readline().decode()):
                    method, sequence = line.split()[0], "0"
                    while (header := self.rfile.readline().decode().strip()) != "":
                        if found := re.match(r"CSeq:\s*(\d+)", header, re.IGNORECASE):
                            sequence = found[1]
                    content = _SDP if method == "DESCRIBE" else b""
                    head = f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\nSession: 1\r\nContent-Length: {len(content)}\r\n"
                    if method == "SETUP":
                        head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
                    if content:
                        head += "Content-Type: application/sdp\r\n"
                    self.wfile.write(f"{head}\r\n".encode() + content)
                    if method == "PLAY":
                        self.play()
                        serves = False

            def play(self) -> None:
                for number, at in enumerate(range(0, len(body), _PACKET)):
                    packet = struct.pack(">BBHII", 0x80, 33, number, number * 900, 1) + body[at : at + _PACKET]
                    self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.address = f"rtsp://127.0.0.1:{self._server.server_address[1]}/live"

    __enter__ = Server.__enter__
    __exit__ = Server.__exit__
