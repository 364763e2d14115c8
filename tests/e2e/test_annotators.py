"""Sixteen annotators, a scoring that runs meanwhile, and a server that is killed again and again.

Some annotators have a name of their own, some 3D Slicer's default ``user-xyz``, some none.
They ask, submit, skip, come late and send rubbish; server and scoring are killed with
SIGKILL at random moments and started again; halfway other networks are published. In the
end: nobody held what another held, everything that was sent is there or was refused with
a reason, and every volume was scored once under every model_version.

By default in small. In full, as the project promises it (some ten minutes)::

    ATLAS8K_VOLUMES=500 ATLAS8K_KILLS=20 pytest tests/e2e/test_annotators.py

``ATLAS8K_SEED`` chooses another run; moments differ from run to run all the same.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import itertools
import json
import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests
from tests.e2e.annotator import GRID, Work, arguments, digest
from tests.e2e.harness import APP, REPOSITORY, Server, command, end, environment, free_port
from tests.server.tiny import NETWORKS, checkpoint
from tests.store.kit import check_consistent, held_twice, query

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.models.store import ModelStore
from atlas8k.store import Ledger, locate

pytestmark = pytest.mark.slow

VOLUMES = int(os.environ.get("ATLAS8K_VOLUMES", "60"))
KILLS = int(os.environ.get("ATLAS8K_KILLS", "4"))
SEED = int(os.environ.get("ATLAS8K_SEED", "8"))
NAMES = [f"anna-{i}" for i in range(8)] + ["user-xyz"] * 4 + [None] * 4
LEASE_MINUTES = 0.5
"""Short enough that leases run out while people still work on them."""
PAUSE_S = 3.0
SCORING = "monailabel.interfaces.utils.app"

Entry = dict[str, Any]


class Office:
    """The server at one address, through all its lives, and the people who use it."""

    def __init__(self, app: Path, studies: Path, folder: Path) -> None:
        self.app, self.studies, self.folder = app, studies, folder
        self.port = free_port()
        self.lives = 0
        self.stop = folder / "stop"
        self.people: list[subprocess.Popen[bytes]] = []
        self.server: Server | None = None
        self.family: list[psutil.Process] = []

    def start(self) -> None:
        """The next life of the server, which need not answer yet."""
        self.lives += 1
        log = self.folder / f"server_{self.lives:02d}.log"
        with open(log, "wb") as stream:
            process = subprocess.Popen(
                command(
                    self.app,
                    self.studies,
                    self.port,
                    *("--conf", "lease_minutes", str(LEASE_MINUTES)),
                    *("--conf", "device", "cpu"),
                ),
                cwd=self.folder,
                env=environment() | {"OMP_NUM_THREADS": "1"},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        url = f"http://127.0.0.1:{self.port}"
        self.server = Server(url, log, self.app, self.studies, process)

    def answers(self, limit_s: float = 120.0) -> Server:
        """The server once it answers."""
        assert self.server is not None
        limit = time.monotonic() + limit_s
        while time.monotonic() < limit:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.server.url}/info/", timeout=10).ok:
                    return self.server
            if self.server.process.poll() is not None:
                break
            time.sleep(0.2)
        raise AssertionError(f"the server does not answer\n{self.server.text()[-6000:]}")

    def scorers(self) -> list[psutil.Process]:
        """Scoring processes of this life of the server."""
        assert self.server is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.server.process.pid)
            return [p for p in parent.children(recursive=True) if is_scoring(p)]
        return []

    def kill(self, what: str) -> bool:
        """SIGKILL to ``scoring``, to the ``server`` alone or to ``both``; whether there was one."""
        assert self.server is not None
        scorers = self.scorers()
        if what == "scoring":
            for process in scorers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            return bool(scorers)
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.server.process.pid)
            self.family += [parent, *parent.children(recursive=True)]
            for process in self.family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    if what == "both" or not is_scoring(process):
                        process.kill()
        self.server.process.wait(10)
        return True

    def all_scored(self, limit_s: float = 300.0) -> Entry:
        """What the server says of scoring once nothing is stale."""
        server, limit = self.answers(), time.monotonic() + limit_s
        while time.monotonic() < limit:
            # 429 while one runs; one of an earlier life may still be at it, unseen.
            requests.post(f"{server.url}/scoring/attention", json={}, timeout=60)
            state: Entry = requests.get(f"{server.url}/info/", timeout=60).json()["atlas8k"]
            if state["scored"] + state["failed"] == state["total"] == VOLUMES:
                return state
            time.sleep(1.0)
        raise AssertionError(f"scoring does not end: {state}\n{server.text()[-4000:]}")

    def hire(self, url: str) -> None:
        for number, name in enumerate(NAMES):
            folder = self.folder / f"annotator_{number:02d}"
            folder.mkdir()
            work = Work(url, name, str(folder), str(self.stop), SEED * 100 + number, PAUSE_S)
            with open(folder / "output.txt", "wb") as stream:
                self.people.append(
                    subprocess.Popen(
                        arguments(work),
                        cwd=REPOSITORY,
                        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'lib'}"},
                        stdout=stream,
                        stderr=subprocess.STDOUT,
                    )
                )

    def send_home(self) -> list[list[Entry]]:
        """Let everybody finish what is in hand; their journals."""
        self.stop.touch()
        journals = []
        for number, person in enumerate(self.people):
            folder = self.folder / f"annotator_{number:02d}"
            person.wait(90)
            assert person.returncode == 0, (folder / "output.txt").read_text()[-3000:]
            lines = (folder / "journal.jsonl").read_text().splitlines()
            journals.append([json.loads(line) for line in lines])
        return journals

    def close(self) -> None:
        for process in [*self.people, *self.family]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.server is not None:
            end(self.server.process)


def is_scoring(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return SCORING in process.cmdline()
    return False


def write_studies(studies: Path, count: int) -> dict[str, str]:
    """Tiny CTs, no two alike; SHA256 by id."""
    studies.mkdir()
    axes = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in GRID.shape)]
    inside = sum(axis**2 for axis in axes) < 0.8
    sums = {}
    for number in range(count):
        noise = np.random.default_rng(number).normal(40, 60, GRID.shape)
        ct = np.where(inside, noise, -1000).astype(np.int16)
        path = write_nifti(studies / f"case_{number:04d}.nii.gz", ct, GRID)
        sums[f"case_{number:04d}"] = f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    return sums


def networks(seed: int) -> dict[str, Any]:
    return {name: checkpoint(name, seed) for name in NETWORKS}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    app = tmp_path / "app"
    app.mkdir()
    shutil.copy(APP / "main.py", app)
    ModelStore(app / "model").publish(networks(0), note="first")
    opened = Office(app, tmp_path / "studies", tmp_path)
    yield opened
    opened.close()


SCORED_LOG = """
CREATE TABLE test_scored (volume INTEGER, model_version INTEGER, at REAL, failed INTEGER);
CREATE TRIGGER test_scored AFTER INSERT ON result BEGIN
  INSERT INTO test_scored VALUES (NEW.volume, NEW.model_version, NEW.at, NEW.reason IS NOT NULL);
END;
"""
"""Every score that was ever recorded, also one that another replaced."""


def test_nothing_is_lost_and_nobody_is_mixed_up(office: Office) -> None:
    rng = random.Random(SEED)
    sums = write_studies(office.studies, VOLUMES)
    ledger = locate(str(office.studies))
    Ledger(ledger).close()
    with contextlib.closing(sqlite3.connect(ledger)) as connection:
        connection.executescript(SCORED_LOG)

    before = time.monotonic()
    office.start()
    office.hire(office.answers().url)
    # A scoring process takes about as long to begin as the server: some are to get to work.
    longest_s = 2.5 * (time.monotonic() - before)
    killed: list[tuple[str, bool]] = []
    while len(killed) < KILLS:
        time.sleep(rng.uniform(0.0, longest_s))
        what = rng.choice(["scoring", "server", "both", "both"])
        scoring = bool(office.scorers())
        if not office.kill(what):
            continue
        killed.append((what, scoring))
        if len(killed) == (KILLS + 1) // 2:
            ModelStore(office.app / "model").publish(networks(1), note="second")
        if what != "scoring":
            office.start()
            if rng.random() < 0.75:  # else it may be killed before it has begun
                office.answers()
    server = office.answers()
    journals = office.send_home()
    everybody_at_once(server, "case_0000", journals)
    state = office.all_scored()
    office.close()

    figures = tally(journals) | collections.Counter(f"killed: {what}" for what, _ in killed)
    figures |= {"killed while scoring ran": sum(ran for _, ran in killed), "lives": office.lives}
    (office.folder / "figures.json").write_text(json.dumps(figures, indent=1))
    enough_happened(figures)
    check_consistent(ledger)
    check_images(journals, sums)
    check_leases(ledger, journals)
    check_labels(ledger, office.studies, journals)
    check_conflicts(ledger)
    check_scores(ledger, state["model_version"])


def everybody_at_once(server: Server, volume: str, journals: list[list[Entry]]) -> None:
    """Sixteen people save a label of one volume in the same moment; noted in the journals."""
    folder = server.log.parent / "at_once"
    folder.mkdir()

    def save(number: int) -> Entry:
        array = np.random.default_rng(10_000 + number).integers(0, 10, GRID.shape)
        path = write_nifti(folder / f"{number}.nii.gz", array.astype(np.uint8), GRID)
        with open(path, "rb") as stream:
            answer = requests.put(
                f"{server.url}/datastore/label?image={volume}&tag=final",
                files={"label": ("label.nii.gz", stream)},
                data={"params": json.dumps({"client_id": f"late-{number}"})},
                timeout=60,
            )
        assert answer.status_code == 200, answer.text
        return {"kind": "kept", "volume": volume, "digest": digest(array), "at": time.time()}

    with ThreadPoolExecutor(16) as pool:
        for entry, journal in zip(pool.map(save, range(16)), journals, strict=True):
            journal.append(entry)


def of(journals: list[list[Entry]], kind: str) -> list[Entry]:
    return [entry for journal in journals for entry in journal if entry["kind"] == kind]


def tally(journals: list[list[Entry]]) -> dict[str, int]:
    return collections.Counter(entry["kind"] for journal in journals for entry in journal)


def enough_happened(figures: dict[str, int]) -> None:
    """A run in which nothing went on proves nothing."""
    assert figures["given"] >= VOLUMES
    assert figures["kept"] >= VOLUMES / 2
    assert figures["skipped"] >= VOLUMES / 10
    assert figures["blunder"] >= 1
    assert figures["killed while scoring ran"] >= 1
    assert figures["lives"] > KILLS / 2


def check_images(journals: list[list[Entry]], sums: dict[str, str]) -> None:
    """Nobody was shown another image than the one that was meant."""
    looked = of(journals, "image")
    assert looked
    for entry in looked:
        assert entry["good"], entry
        assert entry["checksum"] == sums[entry["volume"]]


def check_leases(ledger: Path, journals: list[list[Entry]]) -> None:
    """No two held one volume: by the ledger's book, and by what people saw themselves."""
    assert held_twice(ledger) == []
    twice = query(
        ledger,
        "SELECT a.holder, a.id, b.id FROM lease a JOIN lease b ON a.holder = b.holder"
        " AND a.id < b.id WHERE NOT a.anonymous AND b.taken_at < coalesce(a.ended_at, 1e18)",
    )
    assert twice == [], "one person held two at once"
    names = dict(query(ledger, "SELECT id, name FROM volume"))
    book = {row[0]: row[1:] for row in query(ledger, "SELECT id, volume, anonymous FROM lease")}
    held: dict[str, list[tuple[float, float, int]]] = collections.defaultdict(list)
    for person, journal in enumerate(journals):
        for entry, rest in ((entry, journal[i + 1 :]) for i, entry in enumerate(journal)):
            if entry["kind"] != "given":
                continue
            volume, anonymous = book[entry["lease"]]
            assert (names[volume], bool(anonymous)) == (entry["volume"], person >= 8)
            ends = (e["at"] for e in rest if e["kind"] in {"sent", "skipped", "given"})
            last = min(next(ends, time.time()), entry["expires_at"])
            held[entry["volume"]].append((entry["at"], last, person))
    for volume, spans in held.items():
        spans.sort()
        for (_, until, one), (since, _, other) in itertools.pairwise(spans):
            assert until <= since, f"{volume}: held by annotators {one} and {other} at once"


def check_labels(ledger: Path, studies: Path, journals: list[list[Entry]]) -> None:
    """What was sent is current or in the history, and the ledger knows whose it was."""
    files = collections.defaultdict(set)
    in_force = {path.name.removesuffix(".nii.gz"): path for path in final_labels(studies)}
    for volume, path in in_force.items():
        files[volume, voxels(path)].add(sha256(path))
    for path in (studies / "labels" / ".history" / "final").rglob("*.nii.gz"):
        files[path.parent.name, voxels(path)].add(sha256(path))
    known = collections.defaultdict(set)
    for volume, sum_, file in query(
        ledger,
        "SELECT v.name, p.sha256, p.file FROM submission p JOIN volume v ON v.id = p.volume",
    ):
        known[volume].add(str(sum_).removeprefix("SHA256:") if sum_ else "")
        assert file
    kept = of(journals, "kept")
    for entry in kept:
        key = entry["volume"], entry["digest"]
        assert key in files, f"lost: {entry}"
        assert files[key] & known[entry["volume"]], f"not in the ledger: {entry}"
    # What was sent is all there is: no label came from anywhere else.
    sent = {(e["volume"], e["digest"]) for e in kept}
    assert files.keys() == sent
    assert of(journals, "refused") == []
    for entry in of(journals, "blunder"):
        assert entry["status"] == 422, entry
        assert json.loads(entry["reason"])["detail"]
    submitted = {
        name for (name,) in query(ledger, "SELECT name FROM volume WHERE status <> 'open'")
    }
    assert submitted == in_force.keys()


def final_labels(studies: Path) -> list[Path]:
    """Labels; a write that was killed leaves a hidden file, which no tool takes for one."""
    found = (studies / "labels" / "final").glob("*.nii.gz")
    return [path for path in found if not path.name.startswith(".")]


def voxels(path: Path) -> str:
    return digest(read_label(path).array)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_conflicts(ledger: Path) -> None:
    """Whose lease began before another's submission landed, and who submitted after it."""
    odd = query(
        ledger,
        "SELECT v.name, p.id FROM submission p JOIN volume v ON v.id = p.volume"
        " JOIN lease l ON l.id = p.lease WHERE NOT p.conflict AND EXISTS (SELECT 1"
        " FROM submission q WHERE q.volume = p.volume AND q.id < p.id AND q.holder <> p.holder"
        " AND q.submitted_at > l.taken_at)",
    )
    assert odd == [], "two submissions crossed and nobody was told"
    lost = query(
        ledger,
        "SELECT v.name FROM submission p JOIN volume v ON v.id = p.volume"
        " WHERE p.conflict AND v.status <> 'conflict'",
    )
    assert lost == []


def check_scores(ledger: Path, served: str) -> None:
    """Recorded once each, with every organ, under every model version; all under the last."""
    model_versions = dict(query(ledger, "SELECT name, id FROM model_version"))
    assert len(model_versions) == 2
    counts = query(
        ledger,
        "SELECT volume, model_version, count(*) FROM test_scored GROUP BY volume, model_version",
    )
    assert {count for _, _, count in counts} == {1}
    assert sum(1 for _, s, _ in counts if s == model_versions[served]) == VOLUMES
    assert query(ledger, "SELECT * FROM test_scored WHERE failed") == []
    organs = query(ledger, "SELECT count(*) FROM score GROUP BY volume, model_version")
    assert set(organs) == {(len(ORGAN_NAMES),)}
    results = query(ledger, "SELECT count(*) FROM result")
    assert len(organs) == results[0][0] == len(counts)
