"""Two hundred hostile uploads and requests, and a fault of the server's own."""

from __future__ import annotations

import gzip
import json
import random
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.small import LIMIT_S, get_label, label_bytes, put_label, small_server
from tests.server.tiny import GRID

from atlas8k.core.volume import write_nifti
from atlas8k.store import locate

pytestmark = pytest.mark.slow
UPLOAD_MB = 40
RSS_GROWTH_MB = 300
SECRET = b"nobody may read this"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "secret.nii.gz").write_bytes(SECRET)
    with small_server(folder, "--conf", "upload_mb", str(UPLOAD_MB)) as started:
        yield started


def header(shape: tuple[int, ...], code: int = 4, bits: int = 16) -> bytes:
    """A NIfTI-1 header that claims what it likes, with the magic word of a single file."""
    raw = bytearray(352)
    struct.pack_into("<i", raw, 0, 348)
    struct.pack_into("<8h", raw, 40, len(shape), *shape, *([1] * (7 - len(shape))))
    struct.pack_into("<hh", raw, 70, code, bits)
    struct.pack_into("<8f", raw, 76, *([1.0] * 8))
    struct.pack_into("<f", raw, 108, 352.0)
    struct.pack_into("<h", raw, 254, 1)
    for row, at in enumerate((280, 296, 312)):
        struct.pack_into("<4f", raw, at, *(float(column == row) for column in range(4)))
    raw[344:348] = b"n+1\0"
    return bytes(raw)


def hostile_files(folder: Path) -> dict[str, bytes]:
    """Contents that are no label and no image, by what is wrong with them."""
    rng = random.Random(3)
    good = label_bytes(folder)
    files = {f"random {n}": rng.randbytes(n) for n in (1, 2, 10, 347, 348, 5000, 100_000)}
    files |= {f"packed random {n}": gzip.compress(rng.randbytes(n)) for n in (1, 348, 9000)}
    files |= {f"cut at {n}": good[:n] for n in (1, 5, 12, len(good) // 2, len(good) - 9)}
    files |= {f"flipped {n}": flipped(good, n) for n in range(20, len(good) - 20, 16)[:6]}
    for shape in ((1000, 1000, 1000), (1290, 1290, 601), (32767, 32767, 32767), (-5, 3, 3)):
        for code, bits in ((2, 8), (4, 16), (64, 64), (1792, 128), (9999, 16)):
            claim = header(shape, code, bits)
            files[f"claims {shape} of type {code}"] = gzip.compress(claim + b"\0" * 100)
    for shape in ((20,), (20, 18), (20, 18, 16, 9), (1, 1, 1), (0, 0, 0)):
        files[f"shape {shape}"] = gzip.compress(header(shape) + b"\0" * 30_000)
    files["unpacks to 400 MB"] = gzip.compress(header((20, 18, 16)) + b"\0" * (400 << 20), 1)
    files["nothing"] = b""
    return files


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


PATHS = ["../x", "../../etc/passwd", "/etc/passwd", "..", ".", "a/../../x", "a\0b", "\\\\host\\x",
         "C:\\x", "~/.ssh/id_rsa", "labels", ".atlas8k/ledger.sqlite", "%2e%2e/x", "x" * 5000,
         "file:///etc/passwd", "a\nb", "\u202ea", "secret", "../secret"]  # fmt: skip
TAGS = ["../../evil", "/evil", "..", "a/b", "\0", "a" * 300, ".", "final/../../x"]


def hostile_requests(server: Server) -> list[tuple[str, Callable[[], requests.Response]]]:
    """What each is, and how to send it."""
    found: list[tuple[str, Callable[[], requests.Response]]] = []

    def add(what: str, method: str, path: str, **more: Any) -> None:
        def send() -> requests.Response:
            return requests.request(method, server.url + path, timeout=LIMIT_S, **more)

        found.append((what, send))

    content = label_bytes(server.log.parent)
    for path in PATHS:
        for method, where in [("GET", "/datastore/image"), ("POST", "/infer/unet")]:
            add(f"{where} of {path!r:.40}", method, where, params={"image": path})
        add(f"params name {path!r:.40}", "POST", "/infer/unet", params={"image": "a"},
            data={"params": json.dumps({"image": path})})  # fmt: skip
        add(f"label for {path!r:.40}", "PUT", "/datastore/label", params={"image": path},
            files={"label": ("l.nii.gz", content)})  # fmt: skip
        add(f"image as {path!r:.40}", "PUT", "/datastore/image", params={"image": path},
            files={"file": ("l.nii.gz", b"no image")})  # fmt: skip
    for tag in TAGS:
        add(f"tag {tag!r:.40}", "PUT", "/datastore/label", params={"image": "a", "tag": tag},
            files={"label": ("l.nii.gz", content)})  # fmt: skip
        params = json.dumps({"save_label": True, "label_tag": tag})
        add(f"infer to tag {tag!r:.40}", "POST", "/infer/unet", params={"image": "a"},
            data={"params": params})  # fmt: skip
    for name in ("../../x.nii.gz\0", "x.php", "a.nii.gz/..", "\0", ".nii.gz", "x" * 4000):
        add(f"file name {name!r:.40}", "PUT", "/datastore/label", params={"image": "a"},
            files={"label": (name, b"garbage")})  # fmt: skip
    for size in (UPLOAD_MB + 5, UPLOAD_MB + 60):
        add(f"{size} MB of zeros", "PUT", "/datastore/label", params={"image": "a"},
            files={"label": ("l.nii.gz", bytes(size << 20))})  # fmt: skip
    add("body without an end", "POST", "/activelearning/first", data=endless(),
        headers={"Content-Type": "application/json"})  # fmt: skip
    add("header of 30 kB", "GET", "/info/", headers={"X-Long": "y" * 30_000})
    add("deep JSON", "POST", "/activelearning/first", data="[" * 100_000,
        headers={"Content-Type": "application/json"})  # fmt: skip
    add("code", "POST", "/train/atlas8k", json={"bundle_path": "/tmp", "max_epochs": "1; ls"})
    return found


def endless() -> Iterator[bytes]:
    for _ in range(64):
        yield b" " * (1 << 20)


def refused(what: str, send: Callable[[], requests.Response]) -> None:
    try:
        answer = send()
    except requests.ConnectionError:
        # It was refused while it was being sent; the client did not look for the reply.
        assert what in {"body without an end"} or "of zeros" in what, what
        return
    assert 400 <= answer.status_code < 500, f"{what}: {answer.status_code} {answer.text[:300]}"
    detail = answer.json()["detail"]
    assert isinstance(detail, str), what
    assert detail, what


def test_two_hundred_hostile_requests(server: Server, tmp_path: Path) -> None:
    good = label_bytes(tmp_path)
    assert put_label(server, good).status_code == 200
    kept = get_label(server)
    process = psutil.Process(server.process.pid)
    # The most it takes at any time, not only when all is over.
    most, stop = [process.memory_info().rss], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            most.append(process.memory_info().rss)

    before = most[0]
    watcher = threading.Thread(target=watch)
    watcher.start()
    sent = 0
    try:
        for what, content in hostile_files(tmp_path).items():
            for method, path, field in (
                ("PUT", "/datastore/label?image=a", "label"),
                ("PUT", "/datastore/image?image=new", "file"),
                ("POST", "/infer/unet?output=json", "file"),
            ):
                files = {field: ("sent.nii.gz", content)}

                def send(
                    method: str = method, path: str = path, files: Any = files
                ) -> requests.Response:
                    return requests.request(method, server.url + path, files=files, timeout=LIMIT_S)

                refused(f"{what} to {path}", send)
                sent += 1
        for what, request in hostile_requests(server):
            refused(what, request)
            sent += 1
    finally:
        stop.set()
        watcher.join()
    assert sent >= 200
    assert max(most) - before < RSS_GROWTH_MB << 20
    assert get_label(server) == kept
    assert not list(server.studies.parent.rglob("*evil*"))
    assert (server.studies.parent / "secret.nii.gz").read_bytes() == SECRET
    assert sorted(p.name for p in server.studies.glob("*.nii*")) == [f"{n}.nii.gz" for n in "abc"]
    assert "Traceback" not in server.text()


def test_others_are_answered_while_an_inference_runs(server: Server) -> None:
    """No clock: the inference is still running when all the others have been answered."""
    shape = (90, 90, 72)
    array = np.random.default_rng(0).normal(40, 50, shape).astype(np.int16)
    path = write_nifti(
        server.log.parent / "big.nii.gz", array, type(GRID)(shape, np.diag([-2.0, 2, 2.5, 1]))
    )
    content = path.read_bytes()

    def infer() -> int:
        files = {"file": ("big.nii.gz", content)}
        url = f"{server.url}/infer/ensemble?output=json"
        return requests.post(url, files=files, timeout=300).status_code

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(infer) for _ in range(4)]
        answered = 0
        while answered < 5 and not all(one.done() for one in running):
            assert requests.get(f"{server.url}/info/", timeout=LIMIT_S).status_code == 200
            answered += 1
        unfinished = sum(not one.done() for one in running)
        assert [one.result() for one in running] == [200] * 4
    assert answered == 5
    assert unfinished >= 1


def test_no_patient_in_the_log(server: Server) -> None:
    params = json.dumps({"PatientName": "Mustermann^Max", "client_id": "small"})
    files = {"label": ("l.nii.gz", label_bytes(server.log.parent))}
    url = f"{server.url}/datastore/label?image=b"
    assert requests.put(url, files=files, data={"params": params}, timeout=LIMIT_S).ok
    where = f"{server.url}/datastore/label/info?label=b&tag=final"
    assert "Mustermann" not in requests.get(where, timeout=LIMIT_S).text
    info = {"info": json.dumps({"PatientID": "Mustermann-1"})}
    requests.put(f"{server.url}/datastore/image/info?image=b", data=info, timeout=LIMIT_S)
    requests.post(f"{server.url}/infer/unet?image=Mustermann&output=json", timeout=LIMIT_S)
    where = f"{server.url}/datastore/image/info?image=b"
    assert "Mustermann" not in requests.get(where, timeout=LIMIT_S).text
    requests.post(
        f"{server.url}/activelearning/first", json={"PatientName": "Mustermann"}, timeout=LIMIT_S
    )
    lines = [line for line in server.text().splitlines() if "Mustermann" in line]
    # Only as the image that somebody asked for and that is not there.
    assert all("there is no image 'Mustermann'" in line for line in lines), lines


def test_a_full_ledger_is_our_fault_with_an_id_that_is_in_the_log(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Whoever turns every exception into a 4xx fails here."""
    with small_server(tmp_path_factory.mktemp("full")) as server:
        assert put_label(server, label_bytes(tmp_path)).status_code == 200
        kept = get_label(server)
        ledger = locate(str(server.studies))
        with sqlite3.connect(ledger) as other:
            # As on a full disk: every new row fails inside SQLite.
            for table in ("submission", "lease"):
                other.execute(
                    f"CREATE TRIGGER full_{table} BEFORE INSERT ON {table} "
                    "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
                )
        for answer in (
            put_label(server, label_bytes(tmp_path, organ=8), "b"),
            requests.post(f"{server.url}/activelearning/first", json={}, timeout=LIMIT_S),
        ):
            assert answer.status_code == 500, answer.text
            body = answer.json()
            assert body["detail"]
            assert body["id"] in server.text()
        assert get_label(server) == kept
        assert requests.get(f"{server.url}/info/", timeout=LIMIT_S).status_code == 200
