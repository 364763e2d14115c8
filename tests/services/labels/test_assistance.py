"""A tool from outside that helped with an organ is kept with it, whoever looks at it later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.services.exporting.kit import ANNA, BEN, INFO, Campaign, columns

from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import write_nifti
from atlas8k.labels.provenance import read_provenance
from atlas8k.services.exporting.bring_in import bring_in, records
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


def test_an_organ_of_an_odd_volume_has_it_though_nobody_vouches_for_it(tmp_path: Path) -> None:
    grid = Grid((24, 24, 24), np.diag([2.0, 2.0, 2.0, 1.0]))
    ct = np.random.default_rng(0).integers(-100, 100, grid.shape).astype(np.int16)
    write_nifti(tmp_path / "a.nii.gz", ct, grid)
    service = LabelService.open(tmp_path)
    service.ledger.register_model_version("m0")
    array = np.zeros(grid.shape, np.uint8)
    array[8:12, 8:12, 8:12] = ORGAN_IDS["liver"]
    service.keep_pseudo("a", array, grid, {"model_version": "m0"})
    service.ledger.note_assistance("a", "liver", TOOL, [ANNA.key])
    array[8:14, 8:12, 8:12] = ORGAN_IDS["liver"]
    sent = write_nifti(tmp_path / "labels" / "sent.nii.gz", array, grid)
    first = service.submit("a", sent, ANNA, {"label_info": INFO}).submission
    assert service.ledger.changes(first.id)["liver"].state == "not_assessed"
    assert service.ledger.helped(first.id) == {"liver": [TOOL]}
    said = {"label_info": INFO, "looked_at": ["liver"], "volume_is_right": ["liver"]}
    confirmed = service.submit("a", sent, BEN, said).submission
    assert service.ledger.changes(confirmed.id)["liver"].state == "confirmed"
    assert service.ledger.helped(confirmed.id) == {"liver": [TOOL]}
    service.close()


def test_an_export_for_commercial_use_leaves_it_out(campaign: Campaign) -> None:
    campaign.service.ledger.note_assistance("a", "liver", TOOL, [ANNA.key])
    campaign.submit("a", drawn("liver", "spleen"))
    out = campaign.export(require="any", purpose="commercial").out
    rows = pd.read_csv(out / "left_out.csv", keep_default_na=False).to_numpy().tolist()
    why = "nnInteractive helped, whose weights (CC BY-NC-SA 4.0) are not for commercial use"
    assert ["a", "liver", why] in rows
    assert not any(row[:2] == ["a", "spleen"] for row in rows)


def test_an_export_that_is_brought_into_another_campaign_has_it_there(
    campaign: Campaign, tmp_path: Path
) -> None:
    campaign.service.ledger.note_assistance("a", "liver", TOOL, [ANNA.key])
    campaign.submit("a", drawn("liver"))
    out = campaign.export(require="any").out
    (tmp_path / "other").mkdir()
    other = Campaign.begun(tmp_path / "other", "a", "b")
    for one in records(out):
        bring_in(other.service, one["name"], out, one, "ours")
    current = other.service.ledger.current_submission("a")
    assert current is not None
    assert helped(other, current.id) == {"liver": [TOOL]}


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
