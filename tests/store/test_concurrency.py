"""Several processes at once, some of them killed."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from tests.apart import ended, start
from tests.store.kit import NOBODY, check_consistent, held_twice, names, query, scored, sizes

from atlas8k.store import Holder, Ledger


def annotate(path: Path, number: int, asks: int) -> None:
    """Ask, then submit, skip or give back; a third of the annotators have no name."""
    ledger = Ledger(path, timeout_s=30)
    rng = random.Random(number)
    holder = NOBODY if number % 3 == 0 else Holder.identify(user=f"annotator {number}")
    for _ in range(asks):
        strategy = rng.choice(["attention", "attention", "first", "random"])
        sample = ledger.next_sample(holder=holder, model_version="one", strategy=strategy)  # type: ignore[arg-type]
        if sample is None:
            return
        deed = rng.random()
        if deed < 0.6:
            ledger.submit(sample.volume, holder, sha256=f"{number:064d}")
        elif deed < 0.7:
            ledger.release(sample.volume, holder)


def score(path: Path, model_version: str) -> None:
    ledger = Ledger(path, timeout_s=30)
    for volume in ledger.stale(model_version):
        ledger.record_score(volume, model_version, sizes(random.random()))


def begin(path: Path, number: int) -> None:
    ledger = Ledger(path, timeout_s=30)
    ledger.sync_volumes(names(50))
    ledger.register_model_version("one")
    ledger.submit(f"case_{number:04d}", NOBODY)


def work(path: Path, accepted: Path, number: int) -> None:
    """Submit one after another and write down what was accepted."""
    ledger = Ledger(path, timeout_s=30)
    holder = Holder.identify(user=f"u{number}")
    with accepted.open("a") as stream:
        while sample := ledger.next_sample(holder=holder, model_version="one"):
            kept = ledger.submit(sample.volume, holder)
            stream.write(f"{kept.id} {sample.volume}\n")
            stream.flush()
            ledger.record_score(sample.volume, "one", sizes(1))
            ledger.reopen(sample.volume)


def test_sixteen_processes_never_hold_one_volume_twice(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    ledger = Ledger(path)
    scored(ledger, {name: random.random() for name in names(500)})
    ledger.register_model_version("two", new_round=False)
    workers = [start(annotate, path, i, 30) for i in range(16)] + [start(score, path, "two")]
    assert [ended(worker) for worker in workers] == [0] * 17
    assert held_twice(path) == []
    taken = query(path, "SELECT count(*), count(DISTINCT holder) FROM lease")[0]
    assert taken[0] == 16 * 30
    assert taken[1] == 11  # ten with a name, the rest as one
    twice = query(path, "SELECT volume FROM submission GROUP BY volume HAVING count(*) > 1")
    assert twice == []
    assert ledger.progress("two").scored == 500
    check_consistent(path)


def test_first_start_of_many_processes_makes_one_ledger(tmp_path: Path) -> None:
    path = tmp_path / "new" / "l.sqlite"
    workers = [start(begin, path, i) for i in range(8)]
    assert [ended(worker) for worker in workers] == [0] * 8
    ledger = Ledger(path)
    assert ledger.counts().submitted == 8
    assert len(ledger.rounds()) == 1
    check_consistent(path)


def test_killed_at_any_moment_the_ledger_is_whole_and_keeps_what_was_accepted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "l.sqlite"
    accepted = tmp_path / "accepted"
    scored(Ledger(path), {name: random.random() for name in names(300)})

    def lines() -> list[str]:
        return accepted.read_text().splitlines() if accepted.exists() else []

    rng = random.Random(0)
    for attempt in range(20):
        workers = [start(work, path, accepted, 2 * attempt + i) for i in range(2)]
        # At any moment, but not before it gets anywhere, however slow the machine.
        enough = time.monotonic() + 20
        while len(lines()) < 3 * attempt and time.monotonic() < enough:
            time.sleep(0.001)
        time.sleep(rng.random() / 25)
        for worker in workers:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
        for worker in workers:
            ended(worker)
    told = {
        tuple(line.split())
        for line in accepted.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    }
    kept = query(path, "SELECT p.id, v.name FROM submission p JOIN volume v ON v.id = p.volume")
    assert len(told) > 20, "the test must get somewhere before it kills"
    assert told <= {(str(number), name) for number, name in kept}
    assert held_twice(path) == []
    check_consistent(path)
    # The dead still hold theirs until the lease ends; everybody else goes on.
    assert Ledger(path).next_sample(holder=NOBODY, model_version="one") is not None
