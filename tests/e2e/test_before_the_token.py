"""What comes without a token is not read: neither memory nor disk grows by it."""

from __future__ import annotations

import contextlib
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.realm import Realm, bearer, signed_in
from tests.e2e.small import LIMIT_S, label_bytes, put_label, small_server

pytestmark = pytest.mark.slow
MB = 1_000_000
GROWTH_MB = 300
PIECE = bytes(MB)
MULTIPART = "multipart/form-data; boundary=x"
FILE_FIELD = b'--x\r\nContent-Disposition: form-data; name="label"; filename="label.nii.gz"\r\n\r\n'


@pytest.fixture(scope="module")
def realm() -> Iterator[Realm]:
    with signed_in() as started:
        yield started


@pytest.fixture(scope="module")
def server(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with small_server(tmp_path_factory.mktemp("token"), "--conf", "upload_mb", "100") as started:
        headers = bearer(realm.token("anna"))  # its usual peak: a label has come, too
        content = label_bytes(started.log.parent)
        assert put_label(started, content, headers=headers).status_code == 200
        yield started


@dataclass
class Taken:
    """Most memory the server has had, and most it had on disk in files without a name, in MB."""

    memory_mb: float = 0.0
    disk_mb: float = 0.0


def peak_mb(server: Server) -> float:
    """Most resident memory that the server's process has had."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    (found,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(found.split()[1]) * 1024 / MB


def unnamed_mb(server: Server) -> float:
    """Size of the files it holds open that have no name, as uploads are while they come."""
    size = 0
    for path in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found = path.stat()
            if stat.S_ISREG(found.st_mode) and not found.st_nlink:
                size += found.st_size
    return size / MB


@contextlib.contextmanager
def watched(server: Server) -> Iterator[Taken]:
    """Memory and disk that the server takes in the block."""
    taken, stop, before = Taken(), threading.Event(), peak_mb(server)

    def look() -> None:
        while not stop.wait(0.02):
            taken.disk_mb = max(taken.disk_mb, unnamed_mb(server))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield taken
    finally:
        stop.set()
        watcher.join()
        taken.memory_mb = peak_mb(server) - before


def send(
    server: Server, method: str, path: str, kind: str, size_mb: int, start: bytes, token: str = ""
) -> int:
    """The code that a body of so many MB gets, sent to its end or until nobody listens."""
    where = urlsplit(server.url)
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {where.netloc}",
        f"Content-Type: {kind}",
        f"Content-Length: {size_mb * MB + len(start)}",
        *([f"Authorization: Bearer {token}"] if token else []),
    ]
    with socket.create_connection((where.hostname, where.port), timeout=LIMIT_S) as one:
        one.sendall("\r\n".join([*lines, "", ""]).encode() + start)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(size_mb):
                one.sendall(PIECE)
        return int(one.recv(4096).split()[1])


@pytest.mark.parametrize(
    ("method", "path", "kind", "size_mb", "start"),
    [
        ("POST", "/activelearning/first", MULTIPART, 900, FILE_FIELD),
        ("POST", "/activelearning/first", "application/json", 900, b"["),
        ("POST", "/atlas8k/cases/a/confirm", MULTIPART, 900, FILE_FIELD),
        ("PUT", "/datastore/label?image=a", MULTIPART, 300, FILE_FIELD),
        ("PUT", "/datastore/image?image=new", MULTIPART, 300, FILE_FIELD),
        ("PUT", "/session/", MULTIPART, 300, FILE_FIELD),
        ("POST", "/atlas8k/cases", MULTIPART, 300, FILE_FIELD),
        ("POST", "/infer/unet?image=a", MULTIPART, 300, FILE_FIELD),
    ],
    ids=["multipart", "json", "confirm", "label", "image", "upload", "page", "infer"],
)
def test_without_a_token(
    server: Server, method: str, path: str, kind: str, size_mb: int, start: bytes
) -> None:
    with watched(server) as taken:
        assert send(server, method, path, kind, size_mb, start) == 401
    print(f"{method} {path}: {taken}")  # noqa: T201
    assert taken.memory_mb < GROWTH_MB
    assert taken.disk_mb < 1


def test_to_sign_in_takes_no_such_body(server: Server) -> None:
    with watched(server) as taken:
        assert send(server, "POST", "/auth/token", MULTIPART, 900, FILE_FIELD) == 413
        form = "application/x-www-form-urlencoded"
        assert send(server, "POST", "/auth/token", form, 900, b"username=") == 413
        assert send(server, "GET", "/nothing", MULTIPART, 900, FILE_FIELD) == 404
    assert taken.memory_mb < GROWTH_MB
    assert taken.disk_mb < 1


def test_with_a_token_a_body_is_bounded_by_its_route(server: Server, realm: Realm) -> None:
    token = realm.token("anna")
    with watched(server) as taken:
        sample = "/activelearning/first"
        assert send(server, "POST", sample, MULTIPART, 900, FILE_FIELD, token) == 413
        assert send(server, "POST", sample, "application/json", 900, b"[", token) == 413
        label = "/datastore/label?image=a"
        assert send(server, "PUT", label, MULTIPART, 300, FILE_FIELD, token) == 413
    print(taken)  # noqa: T201
    assert taken.memory_mb < GROWTH_MB
    assert taken.disk_mb < 1


def test_what_was_refused_half_way_is_given_back(server: Server, realm: Realm) -> None:
    """Without a length, more than may come is known only when it has come."""

    def pieces() -> Iterator[bytes]:
        yield FILE_FIELD
        for _ in range(300):
            yield PIECE

    url = f"{server.url}/datastore/label?image=a"
    headers = bearer(realm.token("anna")) | {"Content-Type": MULTIPART}
    with watched(server) as taken:
        for _ in range(3):
            with contextlib.suppress(requests.ConnectionError):
                answer = requests.put(url, data=pieces(), headers=headers, timeout=LIMIT_S)
                assert answer.status_code == 413
                assert "upload_mb" in answer.json()["detail"]
        assert requests.get(f"{server.url}/info/", headers=headers, timeout=LIMIT_S).ok
    print(taken)  # noqa: T201
    assert taken.memory_mb < GROWTH_MB
    assert taken.disk_mb < 120  # one at a time
    assert unnamed_mb(server) < 1
