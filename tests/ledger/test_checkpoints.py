"""The log is taken over by a thread, and stays short however much is written."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from atlas8k.ledger import Ledger, OrganScore, checkpoints


def log_bytes(path: Path) -> int:
    return path.with_name(f"{path.name}-wal").stat().st_size


def test_log_stays_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "LOG_BYTES", 400_000)
    monkeypatch.setattr(checkpoints, "AT_MOST_EVERY_S", 0.0)
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.register_signature("s", {})
    names = [f"v{i}" for i in range(50)]
    ledger.sync_volumes(names)
    largest = 0
    for i in range(1500):
        ledger.record_score(names[i % 50], "s", {"liver": OrganScore(float(i), 1, 1, 1)})
        largest = max(largest, log_bytes(path))
        time.sleep(0.0005)
    # Without the thread: 1,500 commits of some 30 KB, 45 MB, as nothing else is due.
    assert 400_000 < largest < 20_000_000
    assert Ledger(path).progress("s").scored == 50
    ledger.close()


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
