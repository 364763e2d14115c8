"""The campaign's tables of a datasheet, with the figures that its ledger gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store.kit import ANNA, BEN, CONFIRMED, full, take

from atlas8k.campaign.status import status
from atlas8k.core.findings import Finding
from atlas8k.core.organ_states import OrganChange
from atlas8k.reports.tables import Table
from atlas8k.services.exporting.datasheet import campaign_tables
from atlas8k.store import Ledger, checks, reviews


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger.sqlite", budget=0.5)
    made.set_campaign(audit_percent=0)
    full(made)
    yield made
    made.close()


def tables(ledger: Ledger) -> dict[str, Table]:
    return {one.name: one for one in campaign_tables(status(ledger), ledger.agreements())}


def rows(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_label_noise_before_and_after(ledger: Ledger) -> None:
    gap = Finding("aorta", "gap", "9 slices show postcava but no aorta")
    touch = Finding("stomach", "touching", "stomach and aorta meet")
    found = {"v00": [gap, touch], "v01": [gap], "v02": []}
    with ledger.write() as tx:
        for name, before in found.items():
            checks.record(tx, name, "pseudo", before)
        checks.record(tx, "v00", "fused", [gap])
        checks.record(tx, "v01", "fused", [])
    noise = {row["organ"]: row for row in rows(tables(ledger)["noise"])}
    for organ, before, after in (("aorta", "2", "1"), ("stomach", "1", "0")):
        row = noise[organ]
        assert (row["checked"], row["before"], row["after"]) == ("3", before, after)


def test_errors_left_by_audit(ledger: Ledger) -> None:
    ledger.set_campaign(audit_percent=50)  # of the ten below the budget: five
    wrong = {"liver": OrganChange("revised", 100, 90, 20, 0.9)}
    audits = 0
    for _ in range(15):
        name, audit = take(ledger)
        audits += audit
        ledger.submit(name, ANNA, organs=wrong if audit and audits == 1 else CONFIRMED)
    assert audits == 5
    (row,) = rows(tables(ledger)["audit"])
    assert (row["audited"], row["wrong"], row["of"]) == ("5", "1", "5")
    # One of five drawn of ten was wrong: one of the five that nobody has seen, at most four.
    assert float(row["errors left"]) == pytest.approx(1, abs=0.5)
    assert int(row["at least"]) == 0
    assert 1 <= int(row["at most"]) <= 5


def test_agreement_of_readers(ledger: Ledger) -> None:
    assert "agreement" not in tables(ledger)
    numbers = []
    for who in (ANNA, BEN, ANNA, BEN):
        name, _ = take(ledger, who)
        ledger.submit(name, who, organs=CONFIRMED)
        current = ledger.current_submission(name)
        assert current is not None
        numbers.append(current.id)
    for first, second, dsc in ((0, 1, 0.9), (2, 3, 0.7)):
        change = OrganChange("revised", 100, 90, 20, dsc)
        both_empty = OrganChange("confirmed", 0, 0, 0, None)
        with ledger.write() as tx:
            found = {"liver": change, "spleen": both_empty}
            reviews.keep_agreement(tx, numbers[first], numbers[second], found)
    assert rows(tables(ledger)["agreement"]) == [
        {"organ": "liver", "readings": "2", "mean DSC": "0.8", "least": "0.7"}
    ]
