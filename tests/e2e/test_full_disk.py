"""Full and read-only disks: our own words, nothing half there, and then on as before."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from tests.e2e.harness import APP, Server, running
from tests.e2e.small import LIMIT_S, label_bytes, put_label
from tests.server.tiny import GRID, write_ct, write_networks

from atlas8k.core.volume import write_nifti
from atlas8k.store import Ledger

pytestmark = pytest.mark.slow
MB = 1 << 20
SPACE = 96 * MB


def mounting(*steps: str) -> list[str]:
    """A command that runs another one where these mounts hold, and nowhere else."""
    return ["unshare", "-rm", "sh", "-c", " && ".join([*steps, 'exec "$@"']), "sh"]


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run([*mounting("mount -t tmpfs none /mnt"), "true"], check=False).returncode == 0
    )


needs_mounts = pytest.mark.skipif(not can_mount(), reason="mounts in a namespace of one's own")


def inside(server: Server, path: Path) -> Path:
    """A path as the server sees it."""
    return Path(f"/proc/{server.process.pid}/root{path}")


def prepared(folder: Path) -> tuple[Path, Path]:
    app, studies = folder / "app", folder / "studies"
    for name in ("logs", "lib", "bin"):
        (app / name).mkdir(parents=True)
    shutil.copy(APP / "main.py", app)
    write_networks(app / "model")
    studies.mkdir()
    return app, studies


@contextlib.contextmanager
def filled(folder: Path, leave: int = 0) -> Iterator[None]:
    """No space but `leave` bytes on a disk, in the block."""
    filler = folder / ".filler"
    with open(filler, "wb", buffering=0) as stream:
        for piece in (MB, 1):
            with contextlib.suppress(OSError):
                while stream.tell() < 2 * SPACE and stream.write(bytes(piece)):
                    pass
        assert stream.tell() < 2 * SPACE, "not the small disk"
        stream.truncate(max(0, stream.tell() - leave))
    try:
        yield
    finally:
        filler.unlink()


def listing(folder: Path) -> list[str]:
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(n for n in names if not n.startswith(".atlas8k/ledger") and n != ".filler")


def noise(folder: Path) -> bytes:
    values = np.random.default_rng(0).integers(-1000, 1000, (200, 160, 120)).astype(np.int16)
    return write_nifti(
        folder / "noise.nii.gz", values, type(GRID)(values.shape, np.eye(4))
    ).read_bytes()


@needs_mounts
def test_a_full_disk(tmp_path: Path) -> None:
    app, studies = prepared(tmp_path)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    first = write_ct(tmp_path / "a.nii.gz")
    steps = (
        f"mount -t tmpfs -o size={SPACE} none {studies}",
        f"mount -t tmpfs -o size={SPACE} none {temporary}",
        f"cp {first} {studies}",
        f"export TMPDIR={temporary}",
    )
    with running(app, studies, tmp_path, before=mounting(*steps)) as server:
        assert server.score()["status"] == "DONE"
        label, image = label_bytes(tmp_path), noise(tmp_path)
        assert put_label(server, label).status_code == 200
        kept = requests.get(
            f"{server.url}/datastore/label?label=a&tag=final", timeout=LIMIT_S
        ).content
        disk, held = inside(server, studies), inside(server, temporary)
        before = listing(disk)

        def refused(answer: requests.Response) -> None:
            assert answer.status_code == 507, answer.text
            body = answer.json()
            assert body["error"] == "StorageError"
            assert "a disk is full" in body["detail"]
            assert body["id"]
            assert str(tmp_path) not in answer.text

        def put_image(name: str) -> requests.Response:
            return requests.put(
                f"{server.url}/datastore/image", files={"file": (name, image)}, timeout=LIMIT_S
            )

        other = label_bytes(tmp_path, 6)
        with filled(disk, 1 * MB):
            refused(put_image("large.nii.gz"))
            assert listing(disk) == before
        with filled(disk):
            refused(put_label(server, other))
            answer = requests.get(
                f"{server.url}/datastore/label?label=a&tag=final", timeout=LIMIT_S
            )
            assert answer.content == kept
            assert listing(disk) == before
        with filled(held):
            refused(put_image("large.nii.gz"))
            (own,) = held.glob("atlas8k-*")  # the server's folder for all that is temporary
            assert [path.name for path in own.iterdir()] == [".lock"]
            assert requests.get(f"{server.url}/info/", timeout=LIMIT_S).ok
        # Nothing came of what was refused, and it all works again.
        assert put_label(server, other).status_code == 200
        assert put_image("large.nii.gz").status_code == 200

        with filled(disk, 16 << 10):
            shutil.copy(write_ct(tmp_path / "b.nii.gz", 1), disk)
            answer = requests.post(f"{server.url}/scoring/attention", json={}, timeout=LIMIT_S)
            if answer.status_code == 200:
                task = server.finish("scoring")
                print(json.dumps(task)[-1500:])  # noqa: T201
                assert task["status"] == "ERROR"
                assert "a disk is full" in task["details"][-1]
            else:
                refused(answer)
        end, where = (
            time.monotonic() + LIMIT_S,
            f"{server.url}/datastore/label?label=b&tag=original",
        )
        while requests.get(where, timeout=LIMIT_S).status_code != 200:
            assert time.monotonic() < end, server.text()[-3000:]
            requests.post(f"{server.url}/scoring/attention", json={}, timeout=LIMIT_S)
            time.sleep(1)
        history = f"{server.url}/atlas8k/labels/a/history"
        assert len(requests.get(history, timeout=LIMIT_S).json()["history"]) == 2
        shutil.copytree(disk / ".atlas8k", tmp_path / "copy")
    Ledger(tmp_path / "copy" / "ledger.sqlite").close()


@needs_mounts
def test_a_read_only_app_folder(tmp_path: Path) -> None:
    """MONAI Label itself wants its log there; all else is done without."""
    app, studies = prepared(tmp_path)
    write_ct(studies / "a.nii.gz")
    steps = (
        f"mount --bind {app} {app}",
        f"mount -o remount,ro,bind {app}",
        f"mount -t tmpfs none {app}/logs",
    )
    with running(app, studies, tmp_path, before=mounting(*steps)) as server:
        assert server.score()["status"] == "DONE"
        assert put_label(server, label_bytes(tmp_path)).status_code == 200
        answer = requests.post(f"{server.url}/infer/ensemble?image=a", timeout=LIMIT_S)
        assert answer.status_code == 200, answer.text
        body = {"max_epochs": 1, "steps_per_epoch": 1}
        answer = requests.post(f"{server.url}/train/atlas8k", json=body, timeout=LIMIT_S)
        assert answer.status_code == 200, answer.text
        task = server.finish("train")
        assert task["status"] == "ERROR"
        assert "the server may not write there" in task["details"][-1]
        assert "Traceback" not in server.text()
