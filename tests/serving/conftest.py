"""A service in a thread, and what talks to it as a client would: over a socket."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from headstart.serving.options import ServeOptions


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


class Running:
    """A service that listens at a free port."""

    def __init__(self, app: Any, options: "ServeOptions") -> None:
        from headstart.serving.server import http_server

        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.server = http_server(app, options)
        self.thread = threading.Thread(
            target=lambda: asyncio.run(self.server.serve([self._socket])), daemon=True
        )
        self.thread.start()
        self._wait(lambda: self.server.started or not self.thread.is_alive())

    def ask(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str = ""
    ) -> Answer:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            client.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
            found = client.getresponse()
            kept = {name.lower(): value for name, value in found.getheaders()}
            return Answer(found.status, kept, found.read())
        finally:
            client.close()

    def predict(self, content: bytes, **headers: str) -> Answer:
        kinds = {"Content-Type": "application/octet-stream"} | headers
        return self.ask("/v1/predict", content, kinds)

    def send(self, content: bytes, wait: float = 20) -> bytes:
        """Sends bytes as they are, and returns what comes back first; nothing if it is cut."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as client:
            try:
                client.sendall(content)
                return client.recv(65536)
            except ConnectionError:
                return b""

    def wait_for(self, figure: str) -> None:
        """Waits until /metrics has a line."""
        self._wait(lambda: figure in self.ask("/metrics").body.decode())

    def wait_for_connections(self, number: int) -> None:
        """Waits until so many connections are open."""
        self._wait(lambda: len(self.server.server_state.connections) == number)

    def wait_until_closing(self) -> None:
        """Waits until no new connection is taken."""
        self._wait(lambda: not any(each.is_serving() for each in self.server.servers))

    def _wait(self, done: Callable[[], bool]) -> None:
        until = time.monotonic() + 30
        while not done():
            assert time.monotonic() < until
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(60)


def form(*files: tuple[str, bytes], field: str = "images") -> tuple[bytes, dict[str, str]]:
    """The body of a form with files, and its headers."""
    parts = [
        f'--cut\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join([*parts, b"--cut--\r\n"]), {"Content-Type": "multipart/form-data; boundary=cut"}


@pytest.fixture(scope="session")
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., Running]]:
    """Starts services of a run, by default the one of one class an image, with options."""
    from headstart.serving.app import make_app
    from headstart.serving.options import ApiKey, ServeOptions

    running: list[Running] = []

    def begin(folder: Path | None = None, key: str | None = None, **options: Any) -> Running:
        chosen = ServeOptions(**options)
        app = make_app(
            folder or request.getfixturevalue("head_run").folder,
            chosen,
            ApiKey(key) if key else None,
        )
        running.append(Running(app, chosen))
        return running[-1]

    yield begin
    for each in running:
        each.stop()


@pytest.fixture(scope="session")
def service(start: Callable[..., Running]) -> Running:
    """A service with small limits, which many tests share."""
    return start(max_images=3, max_megabytes=0.5, max_megapixels=1)


@pytest.fixture
def serve_app() -> Iterator[Callable[[Any, "ServeOptions"], Running]]:
    """Starts an application for one test."""
    running: list[Running] = []

    def begin(app: Any, options: "ServeOptions") -> Running:
        running.append(Running(app, options))
        return running[-1]

    yield begin
    for each in running:
        each.stop()
