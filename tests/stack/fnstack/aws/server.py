"""The AWS endpoint: moto's WSGI application behind one lock, a log and faults.

moto is not safe under threads, so one lock goes round every request; the engine
is moved on by its own thread under the same lock. Every call becomes one JSON
line in the log, from which the observer counts and judges.
"""
from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import botocore.session
from werkzeug.serving import WSGIRequestHandler, make_server

# Its list of stock images takes seconds to load, and nothing here boots from one.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # noqa: E402

from . import making, responses  # noqa: E402
from .addons import Addons  # noqa: E402
from .engine import Engine  # noqa: E402
from .errors import error_body  # noqa: E402
from .faults import WireFaults  # noqa: E402
from .identity import Identities, refusal  # noqa: E402
from .model import Timings  # noqa: E402


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        """The call log is the record; werkzeug's own would only double it."""


def _scope(environ: dict[str, Any]) -> tuple[str, str]:
    """Access key and service from the SigV4 credential scope."""
    header = environ.get("HTTP_AUTHORIZATION", "")
    try:
        credential = header.split("Credential=", 1)[1].split(",", 1)[0].strip()
        key, _, _, service, _ = credential.split("/")
        return key, service
    except (IndexError, ValueError):
        return "", ""


def _body(environ: dict[str, Any]) -> bytes:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    data = environ["wsgi.input"].read(length) if length else b""
    environ["wsgi.input"] = io.BytesIO(data)
    return data


class _RestRoutes:
    """Operation names by method and path, from botocore's model of a REST service."""

    def __init__(self, service: str) -> None:
        model = botocore.session.get_session().get_service_model(service)
        self._routes: list[tuple[str, re.Pattern[str], str]] = []
        for name in model.operation_names:
            http = model.operation_model(name).http
            path = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(http["requestUri"].split("?")[0]))
            self._routes.append((http["method"], re.compile(path + "/?$"), name))

    def match(self, method: str, path: str) -> tuple[str, dict[str, str]]:
        for verb, pattern, name in self._routes:
            hit = pattern.match(path) if verb == method else None
            if hit:
                return name, hit.groupdict()
        return f"{method} {path}", {}


def _operation(routes: _RestRoutes, environ: dict[str, Any], body: bytes) -> tuple[str, dict[str, Any]]:
    form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    if "Action" in form:
        action = form.pop("Action")
        form.pop("Version", None)
        return action, form
    return routes.match(environ["REQUEST_METHOD"], environ["PATH_INFO"])


def _error_code(service: str, status: int, body: bytes, headers: list[tuple[str, str]]) -> tuple[str, str]:
    if status < 400:
        return "", ""
    text = body.decode("utf-8", "replace")
    if service == "eks":
        kind = dict((k.lower(), v) for k, v in headers).get("x-amzn-errortype", "")
        return kind, text[:300]
    between = [text.partition(f"<{t}>")[2].partition(f"</{t}>")[0] for t in ("Code", "Message")]
    return between[0] or str(status), between[1]


class AwsServer:
    """Listens on loopback; `engine`, `clusters`, `addons`, `identities` and `faults` are its knobs."""

    def __init__(self, folder: Path, timings: Timings, region: str, seed: int = 1) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.region = region
        self.network = responses.Network(region)
        self.engine = Engine(self.network.resolve, timings, region, seed)
        self.engine.subnet_zone = self.network.subnet_zones()
        self.clusters = responses.Clusters()
        self.identities = Identities()
        self.addons = Addons()
        self.faults = WireFaults(seed)
        self.log_path = folder / "aws-calls.jsonl"
        self.engine_log_path = folder / "engine.jsonl"
        self._log = self.log_path.open("a", buffering=1)
        self._engine_log = self.engine_log_path.open("a", buffering=1)
        self.engine.listeners.append(lambda e: self._engine_log.write(json.dumps(e) + "\n"))
        responses.install(self.engine, self.clusters, self.identities, self.addons)
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._wsgi, threaded=True, request_handler=_Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._routes = _RestRoutes("eks")
        self._stop = threading.Event()
        self._sequence = 0
        self._after: list[tuple[str, Callable[[], None]]] = []

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, name="aws", daemon=True).start()
        threading.Thread(target=self._clock, name="aws-clock", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._log.close()

    def _clock(self) -> None:
        while not self._stop.wait(0.05):
            self.engine.tick()

    @contextmanager
    def after(self, operation: str, call: Callable[[], None]) -> Iterator[None]:
        """Meanwhile `call` is made each time `operation` has taken effect, before its answer is sent."""
        hook = (operation, call)
        self._after.append(hook)
        try:
            yield
        finally:
            self._after.remove(hook)

    # -- one request ------------------------------------------------------------

    def _wsgi(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/fnstack/"):
            return self._control(environ, start_response)
        began = time.time()
        body = _body(environ)
        key, service = _scope(environ)
        operation, params = _operation(self._routes, environ, body)
        hit = self.faults.strike(operation, params)
        delay = sum(f.delay for f in hit)
        if delay:
            time.sleep(delay)
        refused = refusal(service, self.identities.find(key))
        injected = next((f for f in hit if f.code), None)
        if refused or injected:
            status, code, message = refused or (injected.status, injected.code, injected.message)
            data, headers = error_body(service, code, message)
        else:
            with self.engine.lock:
                self.engine.tick()
                status, headers, data = self._call_moto(environ)
        drop = any(f.drop for f in hit)
        code, message = _error_code(service, status, data, headers)
        self._record(began, key, service, operation, params, status, code, message, drop)
        for call in [call for wanted, call in self._after if wanted == operation]:
            call()
        if drop:
            self._hang_up(environ)
        headers = [(k, v) for k, v in headers if k.lower() not in ("content-length", "connection")]
        start_response(f"{status} {'OK' if status < 400 else 'Error'}", [*headers, ("Content-Length", str(len(data)))])
        return [data]

    def _call_moto(self, environ: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
        seen: dict[str, Any] = {}

        def start(status: str, headers: list[tuple[str, str]], _exc: Any = None) -> None:
            seen["status"], seen["headers"] = int(status.split()[0]), headers

        try:
            parts = self._moto(environ, start)
            return_body = b"".join(parts)
        except Exception as error:  # moto raises NotImplementedError and the like
            service = _scope(environ)[1]
            body, headers = error_body(service, "InternalFailure", f"{type(error).__name__}: {error}")
            return 500, headers, body
        return seen["status"], seen["headers"], return_body

    @staticmethod
    def _hang_up(environ: dict[str, Any]) -> None:
        """Ends the connection without an answer; the effect stays."""
        connection: socket.socket = environ["werkzeug.socket"]
        connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError("reply dropped on purpose")

    def _record(
        self,
        began: float,
        key: str,
        service: str,
        operation: str,
        params: dict[str, Any],
        status: int,
        code: str,
        message: str,
        dropped: bool,
    ) -> None:
        with self.engine.lock:
            self._sequence += 1
            line = {
                "seq": self._sequence,
                "time": began,
                "seconds": round(time.time() - began, 4),
                "key": key,
                "service": service,
                "operation": operation,
                "params": params,
                "status": status,
                "error": code,
                "message": message,
                "dropped": dropped,
            }
            if not self._log.closed:
                self._log.write(json.dumps(line) + "\n")

    # -- the harness's own endpoint ------------------------------------------------

    def _control(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        status = "200 OK"
        answer: Any = None
        try:
            if path == "/fnstack/faults" and method == "GET":
                answer = self.faults.describe()
            elif path == "/fnstack/faults" and method == "POST":
                for fault in json.loads(_body(environ)):
                    self.faults.add(**fault)
                answer = self.faults.describe()
            elif path == "/fnstack/faults" and method == "DELETE":
                self.faults.clear()
                answer = []
            elif path == "/fnstack/groups" and method == "POST":
                answer = making.make(self.engine, json.loads(_body(environ)))
            elif path == "/fnstack/engine" and method == "POST":
                self._engine_faults(json.loads(_body(environ)))
                answer = {}
            else:
                status, answer = "404 Not Found", {"error": path}
        except (TypeError, ValueError, KeyError) as error:
            status, answer = "400 Bad Request", {"error": str(error)}
        data = json.dumps(answer).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
        return [data]

    def _engine_faults(self, body: dict[str, Any]) -> None:
        """{"no_capacity": [zones], "never_join": [{"group": name or null, "count": n}]}"""
        with self.engine.lock:
            self.engine.faults.no_capacity = set(body.get("no_capacity", []))
            self.engine.faults.never_join = list(body.get("never_join", []))
