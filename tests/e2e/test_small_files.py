"""Small files that cost gigabytes, to a running server that may take 300 MB more than it has."""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from tests import bombs
from tests.e2e.harness import Server
from tests.e2e.small import LIMIT_S, label_bytes, put_label, small_server
from tests.limited import MB, MORE_MB, status_mb

pytestmark = pytest.mark.slow
EXTENSION = 1_500_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("small-files")
    with small_server(folder) as started:
        usual(started)
        process = started.process.pid
        most = int((status_mb("VmSize", process) + MORE_MB) * MB)
        resource.prlimit(process, resource.RLIMIT_AS, (most, most))
        yield started


def usual(server: Server) -> None:
    """What a server does: its usual peak, networks that run in it and not from a cache included."""
    assert server.score()["status"] == "DONE"
    shutil.rmtree(server.studies / ".atlas8k" / "cache")
    assert put_label(server, label_bytes(server.log.parent)).status_code == 200
    assert infer(server, "a").status_code == 200
    content = (server.studies / "a.nii.gz").read_bytes()
    assert put_image(server, "usual.nii.gz", content).status_code == 200
    assert put_session(server, "usual.nii.gz", content).status_code == 200


def infer(server: Server, image: str, model: str = "ensemble") -> requests.Response:
    return requests.post(f"{server.url}/infer/{model}?image={image}", timeout=LIMIT_S)


def put_image(server: Server, name: str, content: bytes) -> requests.Response:
    return requests.put(
        f"{server.url}/datastore/image", files={"file": (name, content)}, timeout=LIMIT_S
    )


def put_session(server: Server, name: str, content: bytes) -> requests.Response:
    return requests.put(f"{server.url}/session/", files={"files": (name, content)}, timeout=LIMIT_S)


def infer_file(server: Server, name: str, content: bytes) -> requests.Response:
    return requests.post(
        f"{server.url}/infer/ensemble", files={"file": (name, content)}, timeout=LIMIT_S
    )


def label(server: Server, name: str, content: bytes) -> requests.Response:
    return requests.put(
        f"{server.url}/datastore/label?image=a",
        files={"label": (name, content)},
        data={"params": json.dumps({"client_id": "small"})},
        timeout=LIMIT_S,
    )


def ct_bombs(folder: Path) -> dict[str, Path]:
    zeros = folder / "zeros.nii.gz"
    zeros.write_bytes(bombs.packed_zeros(1 << 20))
    claims = folder / "claims.nii"
    claims.write_bytes(bombs.nifti2_header((1 << 22, 1 << 21, 1 << 21)) + bytes(1000))
    return {
        "extension": bombs.extended(folder / "extension.nii.gz", EXTENSION, honest=True),
        "lying extension": bombs.extended(folder / "lying.nii.gz", EXTENSION, honest=False),
        "two files": bombs.two_files(folder / "two.nii.gz", EXTENSION),
        "coarse": bombs.coarse_ct(folder / "coarse12.nii.gz", 12.0),
        "coarser": bombs.coarse_ct(folder / "coarse16.nii.gz", 16.0),
        "longer": bombs.longer(folder / "longer.nii.gz", 2_000_000_000),
        "claims": claims,
        "zeros": zeros,
    }


def label_bombs(folder: Path) -> dict[str, Path]:
    return {
        "layers": bombs.layered_nrrd(folder / "layers.seg.nrrd", 188),
        "layers of bytes": bombs.layered_nrrd(folder / "bytes.seg.nrrd", 188, kind="uint8"),
        "thin 256": bombs.thin_seg(folder / "thin256.dcm", 256),
        "thin 400": bombs.thin_seg(folder / "thin400.dcm", 400),
        "deflated": bombs.deflated_seg(folder / "deflated.dcm", 2_000_000_000),
        "frame": bombs.packed_frame_seg(folder / "frame.dcm", 1_000_000_000),
    }


def check_refused(what: str, answer: requests.Response) -> None:
    print(what, answer.status_code, answer.text[:200])  # noqa: T201
    assert 400 <= answer.status_code < 500, (what, answer.status_code, answer.text[:300])
    detail = answer.json()["detail"]
    assert detail
    assert "allocate" not in detail
    assert "MemoryError" not in detail


def check_as_before(server: Server, peak_mb: float) -> None:
    """Nothing of what was refused is there, and it works."""
    assert status_mb("VmHWM", server.process.pid) < peak_mb + MORE_MB
    assert infer(server, "b").status_code == 200
    assert put_label(server, label_bytes(server.log.parent)).status_code == 200
    assert not list(server.studies.glob(".incoming-*"))


def test_images(server: Server, tmp_path: Path) -> None:
    peak = status_mb("VmHWM", server.process.pid)
    for what, path in ct_bombs(tmp_path).items():
        content = path.read_bytes()
        check_refused(f"image, {what}", put_image(server, path.name, content))
        check_refused(f"infer, {what}", infer_file(server, path.name, content))
        session = put_session(server, path.name, content)
        if session.status_code != 200:  # nothing is read of it before an inference
            check_refused(f"session, {what}", session)
            continue
        where = {"session_id": session.json()["session_id"]}
        answer = requests.post(f"{server.url}/infer/ensemble", params=where, timeout=LIMIT_S)
        check_refused(f"session's inference, {what}", answer)
    assert {path.name for path in server.studies.glob("*.nii*")} == {
        f"{name}.nii.gz" for name in ("a", "b", "c", "usual")
    }
    check_as_before(server, peak)


def test_labels(server: Server, tmp_path: Path) -> None:
    peak = status_mb("VmHWM", server.process.pid)
    for what, path in {**label_bombs(tmp_path), **ct_bombs(tmp_path)}.items():
        if what not in ("coarse", "coarser", "zeros"):
            check_refused(f"label, {what}", label(server, path.name, path.read_bytes()))
    check_as_before(server, peak)


def test_deep_json(server: Server) -> None:
    peak = status_mb("VmHWM", server.process.pid)
    for deep in ("[" * 400_000, '{"a":' * 150_000, "[" * 400_000 + "]" * 400_000):
        answer = requests.post(
            f"{server.url}/activelearning/first",
            data=deep,
            headers={"Content-Type": "application/json"},
            timeout=LIMIT_S,
        )
        check_refused("JSON", answer)
        for name in ("params", "info"):
            answer = requests.put(
                f"{server.url}/datastore/image/info?image=a", data={name: deep}, timeout=LIMIT_S
            )
            assert answer.status_code < 500, answer.text
    nested: Any = {"client_id": "x"}
    for _ in range(300):
        nested = {"deep": nested}
    answer = requests.post(f"{server.url}/activelearning/first", json=nested, timeout=LIMIT_S)
    assert answer.status_code < 500, answer.text
    check_as_before(server, peak)


def test_in_the_studies_folder(server: Server, tmp_path: Path) -> None:
    """They are named with the reason, and everything else goes on, scoring too."""
    peak = status_mb("VmHWM", server.process.pid)
    placed = {}
    for path in ct_bombs(tmp_path).values():
        placed[path.name.partition(".")[0]] = path.rename(server.studies / path.name)
    last = server.studies / "last.nii.gz"
    last.write_bytes((server.studies / "b.nii.gz").read_bytes())
    end = time.monotonic() + LIMIT_S
    known = {"zeros", "extension", "lying", "two", "coarse12", "coarse16", "claims"}
    while time.monotonic() < end:
        info = requests.get(f"{server.url}/info/", timeout=LIMIT_S).json()["atlas8k"]
        found = json.dumps(requests.get(f"{server.url}/atlas8k/remarks", timeout=LIMIT_S).json())
        if all(f'"{name}' in found for name in known):
            break
        time.sleep(0.5)
    print(json.dumps(info["remarks"])[:3000])  # noqa: T201
    print(found[:6000])  # noqa: T201
    for name in known:
        assert f'"{name}' in found, name
    for words in ("too coarse", "header extension", "another file", "claims"):
        assert words in found, words
    assert "cannot_be_used" in json.dumps(info["remarks"])
    assert server.score()["status"] == "DONE"
    for image in placed:
        check_refused(f"infer, {image}", infer(server, image))
        check_refused(f"attention, {image}", infer(server, image, "attention"))
    assert infer(server, "last").status_code == 200
    check_as_before(server, peak)
