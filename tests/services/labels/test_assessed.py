"""What nobody looked at: it is kept, follows the networks, and is nobody's truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.services.labels.test_label_service import (
    ANNA,
    GRID,
    INFO,
    LIVER,
    SHAPE,
    SPLEEN,
    START,
    STOMACH,
    Work,
    label_service,
    slabs,
    studies,
    work,
)

from atlas8k.campaign.reviewed import reviewed
from atlas8k.core.errors import GridMismatchError, LabelNameError
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import write_nifti
from atlas8k.labels.provenance import read_provenance
from atlas8k.services.training.cases import learnt
from atlas8k.store import OrganSource

__all__ = ["label_service", "studies", "work"]  # fixtures

ONE = slabs(liver=(1, 5), spleen=(6, 8), stomach=(9, 10))
"""The draft label with another liver: what Slicer sends after one organ was corrected."""


def box(organ: int, edge: int) -> np.ndarray:
    """An organ that no border cuts, 12 mm3 a voxel."""
    array = np.zeros(SHAPE, np.uint8)
    array[4 : 4 + edge, 4 : 4 + edge, 3 : 3 + edge] = organ
    return array


def test_correcting_one_organ_certifies_no_other(work: Work) -> None:
    work.give(ANNA)
    receipt = work.send(ANNA, ONE)
    assert receipt.organs == {
        **dict.fromkeys(ORGAN_IDS, "not_assessed"),
        "liver": "revised",
    }
    assert receipt.recorded.startswith("changed: liver; not assessed: aorta, ")
    sources = work.label_service.ledger.sources("a")
    assert sources == {"liver": OrganSource("revised", "revised", None, receipt.submission.id)}
    assert learnt(sources) == ("liver",)
    assert '"present": ["liver"]' in work.label_service.folder.known_label("a", "final").info
    # They go with the networks still; what was drawn does not.
    work.label_service.keep_pseudo("a", slabs(spleen=(5, 6)), GRID, {"model_version": "m0"})
    assert (work.organ(LIVER), work.organ(SPLEEN), work.organ(STOMACH)) == ([1, 2, 3, 4], [5], [])


def test_nothing_said_is_no_review_and_no_stop(work: Work) -> None:
    work.give(ANNA)
    assert set(work.send(ANNA, START).organs.values()) == {"not_assessed"}
    assert work.label_service.ledger.sources("a") == {}
    (volume,) = reviewed(work.label_service.ledger.worked()).values()
    assert (volume.wrong, volume.outcome) == ([], "not_assessed")


@pytest.mark.parametrize("said", ["all", ["liver", "spleen", "stomach"]])
def test_what_was_looked_at_is_confirmed_and_what_is_empty_only_by_name(
    work: Work, said: object
) -> None:
    work.give(ANNA)
    receipt = work.send(ANNA, START, looked_at=said)
    drawn = ("liver", "spleen", "stomach")
    assert receipt.organs == {
        organ: "confirmed" if organ in drawn else "not_assessed" for organ in ORGAN_IDS
    }
    (volume,) = reviewed(work.label_service.ledger.worked()).values()
    assert volume.outcome == "confirmed"
    kept = read_provenance(work.label_service.folder.path / str(receipt.submission.file))
    assert kept is not None
    assert kept.detail["looked_at"] == (said if said == "all" else sorted(said))
    assert kept.changes == work.label_service.ledger.changes(receipt.submission.id)


def test_what_is_said_with_the_next_sample_holds_for_its_label(work: Work) -> None:
    ledger = work.label_service.ledger
    sample = ledger.next_sample(holder=ANNA, strategy="first", looked_at="all")
    assert sample is not None
    assert work.send(ANNA, ONE).organs["spleen"] == "confirmed"
    sample = ledger.next_sample(holder=ANNA, strategy="first", looked_at="all")
    assert sample is not None
    assert sample.volume == "b"
    # What comes with the label counts.
    assert work.send(ANNA, ONE, "b", looked_at=["stomach"]).organs["spleen"] == "not_assessed"


def test_the_same_file_with_another_word_is_another_answer(work: Work) -> None:
    work.give(ANNA)
    first = work.send(ANNA, START)
    assert work.send(ANNA, START).again
    second = work.send(ANNA, START, looked_at="all")
    assert not second.again
    assert second.organs["liver"] == "confirmed"
    assert work.send(ANNA, START, looked_at="all").again
    assert [one.id for one in work.label_service.ledger.submissions("a")] == [
        first.submission.id,
        second.submission.id,
    ]


def test_an_implausible_volume_is_asked_about_and_kept(work: Work) -> None:
    work.give(ANNA)
    drawn = START.copy()
    drawn[START == SPLEEN] = 0
    drawn[box(1, 3) > 0] = SPLEEN  # 0.3 ml, away from every border
    drawn[START == LIVER] = LIVER
    receipt = work.send(ANNA, drawn, looked_at="all")
    assert receipt.organs["spleen"] == "not_assessed"
    assert receipt.organs["liver"] == "confirmed"  # cut by the border: not judged by its volume
    assert "asked about: spleen 0." in receipt.recorded
    # What was drawn is shown, and nobody learns from it.
    assert np.array_equal(work.label("original") == SPLEEN, drawn == SPLEEN)
    sources = work.label_service.ledger.sources("a")
    assert sources["spleen"][:2] == ("revised", "not_assessed")
    assert "spleen" not in learnt(sources)
    assert (
        '"present": ["liver", "stomach"]'
        in work.label_service.folder.known_label("a", "final").info
    )
    (volume,) = reviewed(work.label_service.ledger.worked()).values()
    assert volume.outcome == "not_assessed"
    # Said to be right, it counts.
    again = work.send(ANNA, drawn, looked_at="all", volume_is_right=["spleen"])
    assert again.organs["spleen"] == "revised"
    assert "spleen" in learnt(work.label_service.ledger.sources("a"))


def test_an_untouched_organ_of_half_a_millilitre_is_not_confirmed_without_a_question(
    work: Work,
) -> None:
    work.label_service.keep_pseudo("a", box(LIVER, 3), GRID, {"model_version": "m0"})
    work.give(ANNA)
    receipt = work.send(ANNA, box(LIVER, 3), looked_at="all")
    assert receipt.organs["liver"] == "not_assessed"
    assert "liver 0.3 ml, where 344.9 to 7,531.5 ml are plausible" in receipt.recorded
    right = work.send(ANNA, box(LIVER, 3), looked_at="all", volume_is_right=["liver"])
    assert right.organs["liver"] == "confirmed"


def test_a_stamp_in_the_air_is_no_whole_label(work: Work) -> None:
    part = (slice(0, 1), slice(0, 5), slice(0, 5))
    stamp = np.full((1, 5, 5), SPLEEN, np.uint8)
    path = write_nifti(work.folder / "stamp.nii.gz", stamp, GRID.crop(part))
    work.give(ANNA)
    with pytest.raises(GridMismatchError, match=r"liver 270, spleen 180, stomach 90.*partial"):
        work.label_service.submit("a", path, ANNA, {"label_info": INFO})
    assert work.label_service.ledger.submissions("a") == []
    receipt = work.label_service.submit("a", path, ANNA, {"label_info": INFO, "partial": True})
    assert (receipt.organs["liver"], receipt.organs["spleen"]) == ("not_assessed", "revised")
    due = START.copy()
    due[part] = SPLEEN
    assert np.array_equal(work.label("final"), due)


@pytest.mark.parametrize(
    "params", [{"looked_at": "liver"}, {"looked_at": 1}, {"volume_is_right": ["heart"]}]
)
def test_what_means_nothing_is_refused(work: Work, params: dict[str, object]) -> None:
    with pytest.raises(LabelNameError):
        work.send(ANNA, START, **params)
    assert work.label_service.ledger.submissions("a") == []


def test_a_check_books_nothing(work: Work, tmp_path: Path) -> None:
    work.give(ANNA)
    path = write_nifti(tmp_path / "checked.nii.gz", ONE, GRID)
    ready = work.label_service.check("a", path, ANNA, {"label_info": INFO})
    assert ready.organs["liver"].state == "revised"
    assert work.label_service.ledger.submissions("a") == []
