from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store.kit import Clock, check_consistent

from atlas8k.store import Ledger


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    """A ledger with a budget of a fifth; checked after every test."""
    ledger = Ledger(tmp_path / "ledger.sqlite", budget=0.2, lease_minutes=90, clock=clock)
    ledger.set_campaign(audit_percent=0)  # audits come where a test asks for them
    yield ledger
    ledger.close()
    check_consistent(ledger.path)
