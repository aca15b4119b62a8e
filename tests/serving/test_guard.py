"""What stands before the service: hostile input gets a 4xx, and never a 5xx."""

import http.client
import random
import runpy
import socket
import struct
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

KEY = "a-key-of-24-characters-x"
ROOT = Path(__file__).parents[2]
damaged_bytes = runpy.run_path(str(ROOT / "benchmarks" / "_mutations.py"))["damaged_bytes"]


@pytest.fixture
def image(pictures: Path) -> bytes:
    return (pictures / "rings" / "003.png").read_bytes()


def huge_header(side: int) -> bytes:
    """A PNG that says it has side x side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")


def status_of(raw: bytes) -> int:
    return int(raw.split(b" ", 2)[1])


def head(length: str, path: str = "/v1/predict", more: str = "") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
        f"{length}\r\n{more}\r\n"
    ).encode()


def test_a_header_of_30000_pixels_a_side_is_refused_before_decoding(service: Any) -> None:
    answer = service.predict(huge_header(30_000))
    assert answer.status == 422
    assert "pixels that are read" in answer.data["detail"]


def test_an_endless_body_is_cut_at_the_limit(service: Any) -> None:
    sent = 0
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as client:
        client.sendall(head("Transfer-Encoding: chunked"))
        client.settimeout(0.2)
        answer = b""
        while not answer and sent < 500 << 20:
            try:
                client.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 65536
            except OSError:
                break
            client.setblocking(False)
            with suppress(BlockingIOError):
                answer = client.recv(65536)
            client.settimeout(5)
        answer = answer or client.recv(65536)
    assert status_of(answer) == 413
    assert b"connection: close" in answer.lower()
    assert service.ask("/healthz").status == 200


@pytest.mark.parametrize("length", ["600000", "9" * 19, "9" * 4000])
def test_a_length_above_the_limit_is_refused_unread(service: Any, length: str) -> None:
    answer = service.send(head(f"Content-Length: {length}", more="Expect: 100-continue\r\n"))
    assert status_of(answer) in {400, 413}


@pytest.mark.parametrize(
    "raw",
    [
        b"\0\xff\xfe" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        head("Content-Length: -5"),
        head("Content-Length: x"),
        head("Content-Length: 5\r\nTransfer-Encoding: chunked") + b"zz\r\n",
        head("Transfer-Encoding: chunked") + b"no number\r\n",
        head("Content-Length: 5", more="A: " + "x" * 200_000 + "\r\n"),
        b"POST /v1/predict?" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(service: Any, raw: bytes) -> None:
    answer = service.send(raw)
    assert not answer or 400 <= status_of(answer) < 500
    assert service.ask("/healthz").status == 200


def test_damaged_images_are_read_or_refused(service: Any, image: bytes) -> None:
    draw = random.Random(7)
    originals = [image]
    for kind in ("JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        stream = BytesIO()
        Image.open(BytesIO(image)).resize((24, 24)).save(stream, kind)
        originals.append(stream.getvalue())
    contents = [damaged_bytes(draw.choice(originals), draw) for _ in range(150)]
    with ThreadPoolExecutor(4) as pool:
        found = [answer.status for answer in pool.map(service.predict, contents)]
    assert set(found) <= {200, 413, 422}
    assert {200, 422} <= set(found)


def test_damaged_forms_are_read_or_refused(service: Any, image: bytes) -> None:
    draw = random.Random(8)
    start = b'--cut\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
    whole = start + image[:300] + b"\r\n--cut--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=cut"}
    for _ in range(150):
        answer = service.ask("/v1/predict", damaged_bytes(whole, draw), kind)
        assert 400 <= answer.status < 500, answer


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data; boundary=", "multipart/form-data; boundary=\xe9\xff",
        "multipart/form-data; boundary=" + "x" * 5000,
        "multipart/form-data; boundary=cut; charset=none",
        "multipart/form-data;;;;", "image/", "/", ";", "image/png; q=\"", "text/html", "\xff",
    ],
)  # fmt: skip
def test_odd_types_are_refused(service: Any, kind: str) -> None:
    answer = service.ask("/v1/predict", b"--cut\r\n\r\nx\r\n--cut--", {"Content-Type": kind})
    assert 400 <= answer.status < 500, answer


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:80"}, 421),
        ({"Host": "[::1"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "LOCALHOST:1"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
    ],
)
def test_pages_of_other_sites_cannot_use_it(
    service: Any, headers: dict[str, str], status: int
) -> None:
    assert service.ask("/healthz", None, headers).status == status


def test_a_key_is_asked_for(start: Callable[..., Any], image: bytes) -> None:
    guarded = start(key=KEY)
    for sent in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY},
                 {"Authorization": "Bearer"}, {"Authorization": f"Basic {KEY}"},
                 {"Authorization": f"Bearer {KEY}x"}):  # fmt: skip
        answer = guarded.predict(image, **sent)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    right = {"Authorization": f"Bearer {KEY}"}
    assert guarded.predict(image, **right).status == 200
    assert guarded.ask("/v1/model").status == 401
    assert guarded.ask("/metrics").status == 401
    assert guarded.ask("/metrics", headers=right).status == 200
    assert guarded.ask("/healthz").status == 200


def test_requests_above_the_limit_come_again_later(start: Callable[..., Any], image: bytes) -> None:
    few = start(max_requests=2)
    slow = head(f"Content-Length: {len(image)}") + image[:10]
    held = [socket.create_connection(("127.0.0.1", few.port), timeout=20) for _ in range(2)]
    try:
        for each in held:
            each.sendall(slow)
        few.wait_for("headstart_requests_in_flight 2.0")
        answer = few.predict(image)
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) >= 1
        for each in held:
            each.sendall(image[10:])
            assert status_of(each.recv(65536)) == 200
        assert few.predict(image).status == 200
    finally:
        for each in held:
            each.close()


def test_a_body_that_does_not_come_is_not_waited_for(
    start: Callable[..., Any], image: bytes
) -> None:
    hasty = start(timeout=0.2)
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=20) as client:
        client.sendall(head(f"Content-Length: {len(image)}") + image[:10])
        assert status_of(client.recv(65536)) == 408
    assert hasty.ask("/healthz").status == 200


def ends(client: socket.socket, dribble: bytes) -> bool:
    """Whether the other side closes a connection on which a byte comes now and then."""
    client.settimeout(0.05)
    for byte in dribble:
        try:
            client.sendall(bytes([byte]))
            if not client.recv(65536):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_headers_that_do_not_come_are_not_waited_for(start: Callable[..., Any]) -> None:
    hasty = start(timeout=0.2)
    for begin in (b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "):
        with socket.create_connection(("127.0.0.1", hasty.port), timeout=20) as client:
            client.sendall(begin)
            assert ends(client, b"a" * 400), begin
    assert hasty.ask("/healthz").status == 200


def test_headers_of_a_later_request_must_come_in_time_too(start: Callable[..., Any]) -> None:
    hasty = start(timeout=0.5)
    with closing(http.client.HTTPConnection("127.0.0.1", hasty.port, timeout=20)) as client:
        for _ in range(3):
            client.request("GET", "/healthz")
            answer = client.getresponse()
            assert (answer.status, answer.read()) == (200, b'{"status":"ok"}')
        client.sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        assert ends(client.sock, b"a" * 400)


def test_an_answer_that_is_not_read_is_not_kept(start: Callable[..., Any]) -> None:
    """The page is asked for until no buffer takes another copy of it."""
    hasty = start(timeout=0.2)
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=20) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 2000)
        hasty.wait_for_connections(1)
        hasty.wait_for_connections(0)
    assert hasty.ask("/healthz").status == 200


def test_what_is_in_flight_is_finished_before_the_end(
    start: Callable[..., Any], image: bytes
) -> None:
    ending = start()
    with socket.create_connection(("127.0.0.1", ending.port), timeout=20) as client:
        client.sendall(head(f"Content-Length: {len(image)}") + image[:10])
        ending.wait_for("headstart_requests_in_flight 1.0")
        ender = threading.Thread(target=ending.stop)
        ender.start()
        ending.wait_until_closing()
        client.sendall(image[10:])
        assert status_of(client.recv(65536)) == 200
    ender.join()
