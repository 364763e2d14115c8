"""Idle and slow connections in numbers, while annotators go on; the log stays small."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import psutil
import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.small import LIMIT_S, label_bytes, put_label, small_server

from atlas8k.server.connections import HEADER_S, PAUSE_S

pytestmark = pytest.mark.slow
USUAL_FILES = 1024
"""Soft bound of open files that a login usually has; what the server is started with here."""
IDLE, SLOW = 1500, 200
LOG_BYTES = 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = before[1]
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("this machine lets no process open enough files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_FILES, hard))
    try:
        with small_server(tmp_path_factory.mktemp("connections")) as started:
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
            yield started
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def connect(server: Server) -> socket.socket:
    where = urlsplit(server.url)
    return socket.create_connection((where.hostname, where.port), timeout=LIMIT_S)


def next_sample(server: Server) -> int:
    return requests.post(
        f"{server.url}/activelearning/first", json={"client_id": "anna"}, timeout=LIMIT_S
    ).status_code


def log_bytes(server: Server) -> int:
    logs = [server.log, *(server.app / "logs").iterdir()]
    return sum(path.stat().st_size for path in logs)


def closed(one: socket.socket, within_s: float) -> bytes:
    """What comes from the server until it closes a connection, which it does in that time."""
    one.settimeout(within_s)
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := one.recv(4096):
            found += piece
    return found


HALF = b"POST /activelearning/first HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: "
BODY = (
    b"POST /activelearning/first HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"
)


def test_1500_idle_and_200_slow_connections(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    before, memory = log_bytes(server), process.memory_info().rss
    with contextlib.ExitStack() as stack:
        for number in range(IDLE):
            stack.enter_context(contextlib.closing(connect(server)))
            if number % 500 == 499:
                assert next_sample(server) == 200
        slow = [stack.enter_context(contextlib.closing(connect(server))) for _ in range(SLOW)]
        for number, one in enumerate(slow):
            one.sendall(HALF if number % 2 else BODY)
        for _ in range(10):
            for one in slow:
                with contextlib.suppress(OSError):
                    one.sendall(b"y")
            assert next_sample(server) == 200
            assert requests.get(f"{server.url}/info/", timeout=LIMIT_S).status_code == 200
        files = process.num_fds()
    print(f"{files} open files, log +{log_bytes(server) - before} bytes, "  # noqa: T201
          f"memory +{(process.memory_info().rss - memory) >> 20} MiB")  # fmt: skip
    assert files < 1400
    assert log_bytes(server) - before < LOG_BYTES
    assert process.memory_info().rss - memory < 300 << 20


def test_half_a_request_ends_in_time_and_with_a_reason(server: Server) -> None:
    for sent, limit in ((HALF, HEADER_S), (BODY, PAUSE_S)):
        with contextlib.closing(connect(server)) as one:
            one.sendall(sent)
            begun = time.monotonic()
            assert closed(one, 4 * limit).startswith(b"HTTP/1.1 408 ")
            assert time.monotonic() - begun > limit / 2


def test_a_label_in_small_pieces_comes_through(server: Server) -> None:
    """Who is slow, but not too slow, is served: pieces with pauses."""
    content = label_bytes(server.log.parent)
    boundary = b"--x\r\n"
    body = (
        boundary
        + b'Content-Disposition: form-data; name="label"; filename="label.nii.gz"\r\n\r\n'
        + content
        + b'\r\n--x\r\nContent-Disposition: form-data; name="params"\r\n\r\n'
        + b'{"volume_is_right": ["liver"]}\r\n--x--\r\n'
    )
    head = (
        b"PUT /datastore/label?image=a HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n"
    )
    with contextlib.closing(connect(server)) as one:
        one.sendall(head[:40])
        time.sleep(2)
        one.sendall(head[40:])
        for start in range(0, len(body), 1 + len(body) // 8):
            one.sendall(body[start : start + 1 + len(body) // 8])
            time.sleep(1)
        assert closed(one, LIMIT_S).startswith(b"HTTP/1.1 200 ")


def test_one_connection_may_ask_often(server: Server) -> None:
    with requests.Session() as session:
        for _ in range(50):
            assert session.get(f"{server.url}/info/", timeout=LIMIT_S).status_code == 200
    assert put_label(server, label_bytes(server.log.parent), "b").status_code == 200


def test_no_name_writes_a_line_of_the_log(server: Server) -> None:
    for name in ("x\nforged line", "x\r\nforged line", "x\x1b[2Jforged line"):
        params = {"image": name}
        for method in ("GET", "PUT"):
            requests.request(
                method, f"{server.url}/datastore/image", params=params, timeout=LIMIT_S
            )
        requests.get(f"{server.url}/infer/{quote(name)}", timeout=LIMIT_S)
        requests.post(f"{server.url}/infer/unet", params=params, timeout=LIMIT_S)
    lines = [line for line in server.text().splitlines() if "forged" in line]
    assert lines
    assert all(line.startswith("[") and "x\\" in line for line in lines), lines
    assert "\x1b" not in server.text()
