"""A reviewer takes organs from one of two labels; what nobody looked at stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.services.exporting.kit import ANNA, BEN, GRID, Campaign, columns

from atlas8k.core.errors import VolumeError
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_label
from atlas8k.services.errors import ConflictError, RequestError
from atlas8k.services.labels import by_organ
from atlas8k.services.labels.by_organ import Decided, Shown, Side, decide_by_organ
from atlas8k.services.labels.comparison import labels
from atlas8k.store import Assistance, Holder, OrganSource

RITA = Holder.identify(user="rita")
FIRST, SECOND = "1", "2"


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    """Anna has changed the spleen; Ben, who did not know, the stomach, and says no liver."""
    made = Campaign.begun(tmp_path, "a")
    made.pseudo("a", "liver", "spleen", "stomach", "pancreas")
    made.service.ledger.lease("a", BEN)  # before Anna submits
    made.submit("a", drawn("spleen"))
    made.submit("a", drawn("stomach", gone=("liver",)), BEN, absent=["liver"])
    return made


def drawn(*moved: str, gone: tuple[str, ...] = ()) -> np.ndarray:
    """The prediction, some organs elsewhere, some gone."""
    rest = [o for o in ("liver", "spleen", "stomach", "pancreas") if o not in (*moved, *gone)]
    return columns(*rest) | columns(*moved, start=2)


def decide(campaign: Campaign, shown: Shown | None = None, **counts: Side) -> Decided:
    return decide_by_organ(campaign.service, "a", (FIRST, SECOND), counts, RITA, shown)


def label(campaign: Campaign) -> np.ndarray:
    return read_label(campaign.studies / "labels" / "final" / "a.nii.gz").array


def held(campaign: Campaign) -> list[str]:
    return [one.holder for one in campaign.service.ledger.leases() if one.holder == RITA.key]


def test_an_organ_is_absent_where_the_label_that_counts_has_none(campaign: Campaign) -> None:
    assert campaign.service.ledger.status("a") == "conflict"
    found = decide(campaign, liver="second", spleen="first", stomach="second")
    made = found.receipt
    assert (made.is_current, found.lost_ml) == (True, {})
    expected = columns("pancreas") | columns("spleen", "stomach", start=2)
    assert np.array_equal(label(campaign), expected)
    states = {organ: made.changes[organ].state for organ in ("liver", "spleen", "stomach")}
    assert states == {"liver": "absent", "spleen": "confirmed", "stomach": "revised"}
    assert made.changes["pancreas"].state == "not_assessed"
    assert campaign.service.ledger.reviews("a") == []


def test_what_is_not_decided_stays_whatever_the_two_labels_have(campaign: Campaign) -> None:
    """Neither of the pair is current: the spleen that Anna corrected is the same in both."""
    decide(campaign, liver="first", spleen="first", stomach="first")
    pair = ("pseudo", SECOND)
    decide_by_organ(campaign.service, "a", pair, {"liver": "first", "stomach": "second"}, RITA)
    assert np.array_equal(label(campaign), drawn("spleen", "stomach"))
    assert campaign.service.ledger.sources("a")["spleen"].submission == 3


def test_nothing_is_decided_without_a_choice(campaign: Campaign) -> None:
    with pytest.raises(RequestError, match="not decided: liver, stomach"):
        decide(campaign, spleen="first")
    with pytest.raises(RequestError, match="organs of two different labels"):
        decide(campaign)
    with pytest.raises(RequestError, match="two different labels"):
        decide_by_organ(campaign.service, "a", (FIRST, FIRST), {"liver": "first"}, RITA)
    assert (held(campaign), len(campaign.service.ledger.submissions("a"))) == ([], 2)


def test_what_was_not_seen_is_not_decided(campaign: Campaign) -> None:
    there = {one.key: one.sha256 for one in labels(campaign.service, "a")}
    seen = Shown(there[FIRST], there[SECOND], 2)
    choice: dict[str, Side] = dict.fromkeys(("liver", "spleen", "stomach"), "first")
    for other in (Shown("0" * 64, seen.second, 2), Shown(seen.first, seen.second, 1)):
        with pytest.raises(ConflictError, match="since you looked"):
            decide(campaign, other, **choice)
    assert held(campaign) == []
    assert decide(campaign, seen, **choice).receipt.is_current


def test_who_has_begun_to_correct_it_does_that_first(campaign: Campaign) -> None:
    choice: dict[str, Side] = dict.fromkeys(("liver", "spleen", "stomach"), "first")
    campaign.service.reviews.take_over("a", RITA)
    with pytest.raises(ConflictError, match="begun to correct it yourself"):
        decide(campaign, **choice)
    assert held(campaign) == [RITA.key]
    campaign.service.ledger.release("a", RITA)
    campaign.service.ledger.lease("a", ANNA)
    with pytest.raises(ConflictError, match="somebody else has it"):
        decide(campaign, **choice)


@pytest.mark.parametrize("error", [OSError("no space"), VolumeError("a", "refused")])
def test_the_case_is_free_again_where_it_fails(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(by_organ, "write_nifti", fails)
    with pytest.raises(type(error)):
        decide(campaign, liver="first", spleen="first", stomach="first")
    assert held(campaign) == []
    assert len(campaign.service.ledger.reviews("a")) == 1


def test_what_helped_goes_with_the_organ_that_is_taken(tmp_path: Path) -> None:
    tool, other = Assistance("nnInteractive", "CC BY-NC-SA 4.0"), Assistance("other", "MIT")
    made = Campaign.begun(tmp_path, "a")
    made.pseudo("a", "liver", "spleen", "stomach", "pancreas")
    made.service.ledger.note_assistance("a", "spleen", tool, [ANNA.key])
    made.service.ledger.note_assistance("a", "spleen", other, [BEN.key])
    made.service.ledger.lease("a", BEN)  # before Anna submits
    made.submit("a", drawn("spleen"))
    array = drawn()
    array[ORGAN_IDS["spleen"], 5, 2:6] = ORGAN_IDS["spleen"]
    made.submit("a", array, BEN)
    number = decide(made, spleen="second").receipt.submission.id
    assert made.service.ledger.helped(number) == {"spleen": [other]}


def test_an_organ_of_a_dataset_stays_the_datasets(tmp_path: Path) -> None:
    made = Campaign.begun(tmp_path, "a")
    made.pseudo("a", "liver", "spleen")
    made.public("a", liver="present")
    made.submit("a", columns("spleen") | columns("liver", start=2))
    made.service.reviews.decide_organ("a", "liver", "revised", RITA.key)
    decide_by_organ(
        made.service, "a", ("public", FIRST), {"liver": "first", "spleen": "second"}, RITA
    )
    found = made.service.ledger.sources("a")["liver"]
    assert found == OrganSource("public", "present", "BTCV")
    draft = read_label(made.studies / "labels" / "original" / "a.nii.gz").array
    assert np.array_equal(draft, columns("liver", "spleen"))
    assert draft.shape == GRID.shape
