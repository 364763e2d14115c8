"""Several processes with one folder: nothing lost, nothing half, however they end."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

from tests.apart import ended, start
from tests.services.studies.kit import Open, history, sha256, write

from atlas8k.services.studies.folder import StudiesFolder

PROCESSES, ROUNDS = 4, 50


def _work(studies: Path, scratch: Path, number: int) -> None:
    folder = StudiesFolder(studies, watch=False)
    for n in range(ROUNDS):
        mine = f"p{number}-{n}"
        label = write(scratch / f"{number}.nii.gz", mine.encode())
        folder.save_label(f"own{number}", "original", label, {mine: True})
        folder.save_label("shared", "final", label, {"by": mine})
        folder.save_label(f"many{n:02d}-{number}", "final", label, {"by": mine})
        folder.update_image_info("shared", {mine: n, "strategy": {mine: {"ts": n}}})
        folder.update_label_info("fixed", "final", {mine: n})
    folder.close()


def test_no_update_of_any_process_is_lost(studies: Path, open_folder: Open, tmp_path: Path) -> None:
    many = [f"many{n:02d}-{p}" for p in range(PROCESSES) for n in range(ROUNDS)]
    owned = [f"own{p}" for p in range(PROCESSES)]
    for image_id in ["shared", "fixed", *owned, *many]:
        (studies / f"{image_id}.nii.gz").touch()
    server = open_folder()
    server.save_label("fixed", "final", write(tmp_path / "f.nii.gz", b"f"), None)
    workers = [start(_work, studies, tmp_path, number) for number in range(PROCESSES)]
    seen = 0
    while any(worker.is_alive() for worker in workers):
        # The server answers meanwhile, and never goes back.
        count = server.now().status()["label_tags"].get("final", 0)
        assert count >= seen
        seen = count
        json.loads(server.now().document())
        time.sleep(0.02)
    assert [ended(worker) for worker in workers] == [0] * PROCESSES
    everything = {f"p{p}-{n}" for p in range(PROCESSES) for n in range(ROUNDS)}
    for folder in (server, open_folder()):
        assert folder.now().status() == {
            "total": 2 + PROCESSES + len(many),
            "completed": 2 + len(many),
            "label_tags": {"final": 2 + len(many), "original": PROCESSES},
        }
        info = folder.catalogue.image_info("shared")
        assert everything <= info.keys()
        assert info["strategy"].keys() == everything
        assert everything <= json.loads(folder.known_label("fixed", "final").info).keys()
        for image_id in many:
            n, p = image_id.removeprefix("many").split("-")
            info = json.loads(folder.known_label(image_id, "final").info)
            assert info["by"] == f"p{p}-{int(n)}"
    # 200 labels of one volume: one current, the other 199 in the history, each once.
    row = server.known_label("shared", "final")
    current = server.labels.path("shared", "final", ".nii.gz").read_bytes().decode()
    assert json.loads(row.info)["by"] == current
    replaced = history(server, "shared")
    kept = [server.labels.file(version).read_bytes().decode() for version in replaced]
    assert sorted([*kept, current]) == sorted(everything)
    assert [version.info["by"] for version in replaced] == kept


def _save_for_ever(studies: Path, scratch: Path) -> None:
    folder = StudiesFolder(studies, watch=False)
    n = 0
    while True:
        n += 1
        data = f"{os.getpid()}-{n};".encode() * 20_000
        label = write(scratch / f"{os.getpid()}.nii.gz", data)
        folder.save_label("a", "final", label, {"sha": sha256(data)})
        folder.update_image_info("a", {"sha": sha256(data)})


def test_killed_at_any_moment_everything_is_whole(
    studies: Path, open_folder: Open, tmp_path: Path
) -> None:
    (studies / "a.nii.gz").touch()
    dice = random.Random(0)
    for _ in range(6):
        workers = [start(_save_for_ever, studies, tmp_path) for _ in range(2)]
        time.sleep(0.3 + dice.random() * 0.4)
        for worker in workers:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            ended(worker)
        folder = open_folder()
        row = folder.known_label("a", "final")
        data = folder.labels.path("a", "final", ".nii.gz").read_bytes()
        assert json.loads(row.info)["sha"] == sha256(data)
        assert data.count(b";") == 20_000
        for version in history(folder, "a"):
            digest = sha256(folder.labels.file(version).read_bytes())
            assert digest == version.sha256 == version.info["sha"]
        assert folder.now().status()["completed"] == 1
    assert len(history(folder, "a")) >= 6  # they did get something done


def _fork_and_ask(studies: Path, folder: StudiesFolder) -> None:
    assert folder.now().ids() == ["a"]
    folder.update_image_info("a", {"child": True})


def test_a_folder_opened_before_a_fork_works_in_the_child(studies: Path, open_folder: Open) -> None:
    (studies / "a.nii.gz").touch()
    folder = open_folder(watch=True)
    assert folder.now().ids() == ["a"]
    # A real fork, of a process with the folder's own threads.
    child = multiprocessing.get_context("fork").Process(
        target=_fork_and_ask, args=(studies, folder), daemon=True
    )
    child.start()
    assert ended(child) == 0
    folder.now()
    assert folder.catalogue.image_info("a") == {"child": True}
