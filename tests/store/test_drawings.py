"""What is drawn and not submitted: one a volume and person, in versions, gone with a submission."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atlas8k.store import Drawing, Holder, Ledger

ANNA, BEN = Holder("client:anna"), Holder("client:ben")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    found = Ledger(tmp_path / "ledger.sqlite")
    found.add_volumes(["a", "b"])
    return found


def save(ledger: Ledger, version: int, holder: Holder = ANNA, volume: str = "a") -> bool:
    said: dict[str, Any] = {"organs": {"liver": "changed"}}
    kept: bool = ledger.save_drawing(
        volume,
        holder.key,
        version=version,
        file=f"{holder.key[-3:]}{version}",
        sha256="0",
        fingerprint="x",
        said=said,
    )
    return kept


def test_a_version_follows_the_one_before(ledger: Ledger) -> None:
    assert ledger.drawing("a", [ANNA.key]) is None
    assert not save(ledger, 2)
    assert save(ledger, 1)
    assert not save(ledger, 1)
    assert save(ledger, 2)
    found = ledger.drawing("a", ["client:other", ANNA.key])
    assert isinstance(found, Drawing)
    assert (found.version, found.file, found.said["organs"]) == (2, "nna2", {"liver": "changed"})


def test_it_is_ones_own_and_of_one_volume(ledger: Ledger) -> None:
    assert save(ledger, 1)
    assert save(ledger, 1, BEN)
    assert save(ledger, 1, volume="b")
    assert ledger.drawing_files() == {"nna1", "ben1"}
    ledger.remove_drawing("a", ANNA.key)
    assert ledger.drawing("a", [ANNA.key]) is None
    assert ledger.drawing("a", [BEN.key]) is not None
    assert ledger.drawing("b", [ANNA.key]) is not None


def test_a_submission_ends_it(ledger: Ledger) -> None:
    assert save(ledger, 1)
    assert save(ledger, 1, BEN)
    ledger.submit("a", ANNA)
    assert ledger.drawing("a", [ANNA.key]) is None
    assert ledger.drawing("a", [BEN.key]) is not None


def test_a_lease_is_renewed_while_it_runs(tmp_path: Path) -> None:
    now = [1000.0]
    ledger = Ledger(tmp_path / "ledger.sqlite", lease_minutes=10, clock=lambda: now[0])
    ledger.add_volumes(["a"])
    lease = ledger.lease("a", Holder("anonymous:x", anonymous=True))
    assert lease is not None
    now[0] += 500
    renewed = ledger.renew(lease.id)
    assert renewed is not None
    assert renewed.expires_at == 1500 + 600
    now[0] += 601
    assert ledger.renew(lease.id) is None
    assert ledger.renew(99) is None
