"""The log is taken over by a thread, and stays short however much is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas8k.ledger import Ledger, OrganScore, checkpoints


def log_after_300_scores(path: Path) -> int:
    ledger = Ledger(path)
    ledger.register_signature("s", {})
    names = [f"v{i}" for i in range(50)]
    ledger.sync_volumes(names)
    for i in range(300):
        ledger.record_score(names[i % 50], "s", {"liver": OrganScore(float(i), 1, 1, 1)})
        if i % 20 == 0:  # a prediction lies between, long enough for a checkpoint
            ledger._db._checkpoints.wait(10)
    length = path.with_name(f"{path.name}-wal").stat().st_size
    assert Ledger(path).progress("s").scored == 50
    ledger.close()
    return length


def test_log_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = log_after_300_scores(tmp_path / "never.sqlite")
    monkeypatch.setattr(checkpoints, "EVERY", 20)
    # A thread takes the log over: on a busy machine it may come late, not every time.
    found = (log_after_300_scores(tmp_path / f"every-{i}.sqlite") for i in range(5))
    assert any(size < never / 2 for size in found)


def test_scores_survive_a_kill_after_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.register_signature("s", {})
    ledger.sync_volumes(["a"])
    ledger.record_score("a", "s", {"liver": OrganScore(1.0, 1, 1, 1)})
    ledger._db._checkpoints._running.acquire()
    ledger._db._checkpoints._run()
    # What another process sees now comes from the file as well as from the log.
    assert Ledger(path).progress("s").scored == 1
