"""A campaign's own evidence of its places: counted from submissions, and silent where few."""

from __future__ import annotations

import pytest
from tests.campaign.kit import CONFIRMED, REVISED, worked

from atlas8k.campaign.evidence import FEWEST, evidence, predicted_and_found
from atlas8k.campaign.reports import PlaceEvidence
from atlas8k.core.organ_states import PlacesChanged, QualityFound
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import Worked

FOUND = PlacesChanged(2, 1, 10.0, 8.0)
RIGHT = PlacesChanged(1, 0, 0.0, 0.0)


def volumes(n: int) -> list[Worked]:
    """In every second one the liver was changed; in all of them the spleen was right."""
    return [
        worked(
            i, f"v{i}", 10.0 + 100 * (i % 4 == 0),
            organs={"liver": REVISED if i % 2 == 0 else CONFIRMED, "spleen": CONFIRMED},
            places={"liver": FOUND if i % 2 == 0 else RIGHT, "spleen": RIGHT},
        )
        for i in range(n)
    ]  # fmt: skip


def of(rows: list[PlaceEvidence], organ: str) -> PlaceEvidence:
    (row,) = [row for row in rows if row.organ == organ]
    return row


def test_shares_are_of_all_volumes_together() -> None:
    rows = evidence(volumes(FEWEST))
    assert [row.organ for row in rows] == [*ORGAN_NAMES, "all"]
    liver, spleen, every = (of(rows, name) for name in ("liver", "spleen", "all"))
    assert (liver.volumes, liver.changed_ml, liver.inside_ml) == (20, 100.0, 80.0)
    assert liver.share_inside == pytest.approx(0.8)
    assert (liver.places, liver.changed_places) == (30, 10)
    assert liver.share_places == pytest.approx(1 / 3)
    assert liver.minutes == pytest.approx((5 * 60 + 5 * 10) / 10)  # idle ones count as 60
    assert (spleen.share_inside, spleen.share_places, spleen.minutes) == (None, 0.0, None)
    assert every.share_places == pytest.approx(10 / 50)
    assert of(rows, "aorta").volumes == 0


def test_under_twenty_volumes_are_too_few() -> None:
    liver = of(evidence(volumes(FEWEST - 1)), "liver")
    assert not liver.enough
    assert (liver.share_inside, liver.share_places, liver.minutes) == (None, None, None)
    assert liver.changed_ml > 0  # what was counted is there


def test_the_first_submission_of_an_annotator_counts_and_no_other() -> None:
    first, *rest = volumes(FEWEST)
    later = worked(90, "v0", places={"liver": PlacesChanged(9, 9, 900.0, 900.0)})
    review = worked(91, "v1", purpose="review", places={"liver": FOUND})
    without = worked(92, "v99")
    assert evidence([first, *rest, later, review, without]) == evidence([first, *rest])
    assert all(row.volumes == 0 for row in evidence([without]))


def test_a_campaign_without_submissions_has_rows_without_volumes() -> None:
    assert {row.volumes for row in evidence([])} == {0}


def predicted(found: float, shown: float = 0.9, calibrated: int = 0) -> QualityFound:
    return QualityFound(0.85, 0.05, 5.0, shown, 0.8, 0.95, calibrated, found, 4.0)


def test_predicted_dice_is_judged_by_what_was_found_after_it() -> None:
    work = [
        worked(
            i, f"v{i}",
            quality={
                "liver": predicted(0.9 if i % 4 else 0.6, calibrated=i // 20 * 20),
                **({"spleen": predicted(1.0)} if i < 5 else {}),
            },
        )
        for i in range(40)
    ]  # fmt: skip
    again = worked(90, "v0", quality={"liver": predicted(0.1)})
    rows = {row.organ: row for row in predicted_and_found([*work, again], {"v1", "v2", "v77"})}
    liver, spleen, every = (rows[name] for name in ("liver", "spleen", "all"))
    assert (liver.volumes, liver.drawn_at_random) == (40, 2)
    assert (liver.predicted, liver.found) == (pytest.approx(0.9), pytest.approx(0.825))
    assert liver.error == pytest.approx(0.075)
    assert liver.inside == pytest.approx(0.75)
    assert (liver.recalibrated, liver.inside_recalibrated) == (20, pytest.approx(0.75))
    assert (spleen.volumes, spleen.enough, spleen.found, spleen.inside) == (5, False, None, None)
    assert every.inside == pytest.approx(30 / 45)
    assert {row.volumes for row in predicted_and_found([])} == {0}
