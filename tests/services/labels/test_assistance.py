"""A tool from outside that helped with an organ is kept with it, whoever looks at it later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.services.exporting.kit import ANNA, BEN, Campaign, columns

from atlas8k.labels.provenance import read_provenance
from atlas8k.services.exporting.datasheet import read_manifest, tables_of
from atlas8k.services.labels.service import LabelService
from atlas8k.services.rebuild import rebuild_ledger
from atlas8k.store import Assistance, Holder, locate

TOOL = Assistance("nnInteractive", "CC BY-NC-SA 4.0")
SAID = {"tool": "nnInteractive", "licence": "CC BY-NC-SA 4.0"}


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    made = Campaign.begun(tmp_path, "a", "b")
    for volume in "ab":
        made.pseudo(volume, "liver", "spleen", "stomach")
    return made


def helped(campaign: Campaign, number: int) -> dict[str, list[Assistance]]:
    found: dict[str, list[Assistance]] = campaign.service.ledger.helped(number)
    return found


def drawn(*organs: str) -> np.ndarray:
    """The label that is given out, these organs elsewhere."""
    rest = [one for one in ("liver", "spleen", "stomach") if one not in organs]
    return columns(*rest) | columns(*organs, start=2)


def test_it_is_kept_with_the_organs_that_were_changed(campaign: Campaign) -> None:
    ledger = campaign.service.ledger
    for organ in ("liver", "spleen"):
        ledger.note_assistance("a", organ, TOOL, [ANNA.key])
        ledger.note_assistance("a", organ, TOOL, [ANNA.key])
    receipt = campaign.submit("a", drawn("liver"), looked_at=["spleen"])
    assert helped(campaign, receipt.submission.id) == {"liver": [TOOL]}
    path = campaign.studies / "labels" / "final" / "a.nii.gz"
    origin = read_provenance(path)
    assert origin is not None
    assert origin.detail["tools"] == {"liver": [SAID]}


def test_others_and_other_volumes_have_nothing_of_it(campaign: Campaign) -> None:
    ledger = campaign.service.ledger
    ledger.note_assistance("a", "liver", TOOL, [BEN.key])
    ledger.note_assistance("b", "liver", TOOL, [ANNA.key])
    receipt = campaign.submit("a", drawn("liver"))
    assert helped(campaign, receipt.submission.id) == {}


def test_no_client_can_say_it_or_take_it_away(campaign: Campaign) -> None:
    campaign.service.ledger.note_assistance("a", "liver", TOOL, [ANNA.key])
    receipt = campaign.submit("a", drawn("liver"), tools={"spleen": [SAID]})
    assert helped(campaign, receipt.submission.id) == {"liver": [TOOL]}


def test_who_confirms_the_organ_or_changes_it_again_does_not_lose_it(campaign: Campaign) -> None:
    campaign.service.ledger.note_assistance("a", "liver", TOOL, [ANNA.key])
    campaign.submit("a", drawn("liver"))
    again = campaign.submit("a", drawn("liver", "spleen"), BEN, looked_at=["liver"])
    assert helped(campaign, again.submission.id) == {"liver": [TOOL]}
    more = drawn("liver", "spleen")
    more[1:, 8:, 8] = columns("liver").max()
    third = campaign.submit("a", more, Holder.identify(user="rita"))
    assert helped(campaign, third.submission.id) == {"liver": [TOOL]}


def test_a_ledger_that_is_made_anew_from_the_files_has_it(campaign: Campaign) -> None:
    campaign.service.ledger.note_assistance("a", "liver", TOOL, [ANNA.key])
    receipt = campaign.submit("a", drawn("liver"))
    campaign.service.close()
    path = locate(str(campaign.studies))
    for one in path.parent.glob(f"{path.name}*"):
        one.unlink()
    rebuild_ledger(campaign.studies, path)
    campaign.service = LabelService.open(campaign.studies)
    assert helped(campaign, receipt.submission.id) == {"liver": [TOOL]}


def test_an_export_says_it_by_organ_and_the_datasheet_counts_it(campaign: Campaign) -> None:
    campaign.service.ledger.note_assistance("a", "liver", TOOL, [ANNA.key])
    campaign.submit("a", drawn("liver"))
    out = campaign.export(require="any").out
    table = pd.read_csv(out / "manifest.csv", keep_default_na=False)
    words = "nnInteractive, weights under CC BY-NC-SA 4.0"
    assert table.loc[table["tools"] == words, ["volume", "organ"]].to_numpy().tolist() == [
        ["a", "liver"]
    ]
    (found,) = (one for one in tables_of(read_manifest(out)) if one.name == "tools")
    assert found.rows == ((words, "1", "1"),)


def test_without_any_there_is_no_such_table(campaign: Campaign) -> None:
    campaign.submit("a", drawn("liver"))
    out = campaign.export(require="any").out
    assert "tools" not in {one.name for one in tables_of(read_manifest(out))}
