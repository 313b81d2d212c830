"""The kubelet's HTTPS endpoint, as far as `pods/log` needs it: the API server comes here for a container's log.

    GET /containerLogs/NAMESPACE/POD/CONTAINER?previous=true&tailLines=N&limitBytes=N&timestamps=true
"""
from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from ..pki import KeyPair

Line = tuple[float, str]
# (namespace, pod, container, previous) -> its lines; raises NoLog.
Read = Callable[[str, str, str, bool], list[Line]]


class NoLog(Exception):
    """There is none, and why, in the kubelet's words."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def written(lines: list[Line], query: dict[str, str]) -> bytes:
    """The lines as they are asked for."""
    tail = int(query.get("tailLines") or len(lines))
    stamps = query.get("timestamps") == "true"
    chosen = lines[max(0, len(lines) - tail) :]
    text = "".join((f"{stamp(at)} " if stamps else "") + line + "\n" for at, line in chosen).encode()
    return text[: int(query.get("limitBytes") or len(text))]


def stamp(at: float) -> str:
    """RFC 3339 with nanoseconds, as the runtime writes it before each line."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e9):09d}Z"


class LogServer:
    """Listens on loopback at `port` under the API server's own certificate; the API server does not check it."""

    def __init__(self, pair: KeyPair, read: Read) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {key: values[-1] for key, values in parse_qs(url.query).items()}
                parts = url.path.strip("/").split("/")
                try:
                    if len(parts) != 4 or parts[0] != "containerLogs":
                        raise NoLog(404, f"{url.path} is not played here")
                    status, body = 200, written(read(*parts[1:], query.get("previous") == "true"), query)
                except NoLog as none:
                    status, body = none.status, str(none).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """The audit log has every read."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, name="kubelet-logs", daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
