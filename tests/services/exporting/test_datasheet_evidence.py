"""A datasheet says what predicted DSC was worth, by round and organ, or that it is too few."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.services.test_calibrations import campaign, review

from atlas8k.campaign.status import status
from atlas8k.services.exporting.datasheet import campaign_tables


@pytest.mark.parametrize(("count", "found"), [(19, "too few"), (20, "0.800")])
def test_predicted_and_found(tmp_path: Path, count: int, found: str) -> None:
    ledger = campaign(f"{tmp_path}/ledger.sqlite")
    before = [table.name for table in campaign_tables(status(ledger), [])]
    assert "quality" not in before
    review(ledger, count)
    tables = {table.name: table for table in campaign_tables(status(ledger), [])}
    ledger.close()
    text = tables["quality"].markdown()
    (liver,) = [line for line in text.splitlines() if "| liver |" in line]
    assert [part.strip() for part in liver.split("|")][3] == f"{count}"
    assert found in liver
    assert "submitted volumes" in text
