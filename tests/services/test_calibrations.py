"""Predicted quality as it is shown follows what comes in, for its own model version."""

from __future__ import annotations

from tests.store.kit import ANNA, scored, sizes, take

from atlas8k.attention.quality_model import UNKNOWN
from atlas8k.core.organ_states import OrganChange, QualityFound
from atlas8k.services.calibrations import Calibrations
from atlas8k.store import Ledger

LIVER = {"dice": 0.9, "low": 0.88, "high": 0.92, "wrong_ml": 10.0, "spread": 0.02}


def campaign(path: object) -> Ledger:
    """Thirty volumes, of each the liver predicted alike."""
    ledger = Ledger(path, budget=1.0)  # type: ignore[arg-type]
    names = [f"v{i:02d}" for i in range(30)]
    scored(ledger, dict.fromkeys(names, 5.0))
    for name in names:
        ledger.record_score(name, "one", sizes(5.0), explanation={"quality": {"liver": LIVER}})
    return ledger


def review(ledger: Ledger, count: int) -> None:
    for _ in range(count):
        name, _ = take(ledger)
        found = QualityFound(0.9, 0.02, 10.0, 0.9, 0.88, 0.92, 0, 0.8, 30.0)
        ledger.submit(
            name, ANNA, model_version="one", detail={"quality": {"liver": found}},
            organs={"liver": OrganChange("revised", 9, 9, 2, 0.8)},
        )  # fmt: skip


def test_what_is_shown_follows_the_submissions(tmp_path: object) -> None:
    ledger = campaign(f"{tmp_path}/ledger.sqlite")
    shown = Calibrations(ledger)

    def liver() -> dict[str, object]:
        noted = shown.explanation("v29", "one")
        assert noted is not None
        return dict(noted["quality"]["liver"])

    review(ledger, 19)
    assert liver() == {**LIVER, "calibrated": 0}
    assert "19 of 20" in shown.of("one").text
    review(ledger, 1)
    now = liver()
    assert (now["dice"], now["low"], now["high"], now["calibrated"]) == (0.8, 0.8, 0.8, 20)
    assert now["wrong_ml"] == 30.0
    noted = shown.explanation("v29", "one")
    assert noted is not None
    assert "not drawn at random" in noted["quality_basis"]  # the budget was the worst of the list
    # It is the model version's: new networks begin as embedded.
    ledger.register_model_version("two")
    ledger.record_score("v29", "two", sizes(5.0), explanation={"quality": {"liver": LIVER}})
    later = shown.explanation("v29", "two")
    assert later is not None
    assert later["quality"]["liver"] == {**LIVER, "calibrated": 0}
    ledger.close()


def test_a_score_without_predicted_quality_stays_as_it_is(tmp_path: object) -> None:
    ledger = campaign(f"{tmp_path}/ledger.sqlite")
    ledger.record_score("v00", "one", sizes(5.0), explanation={"regions": []})
    shown = Calibrations(ledger)
    assert shown.explanation("v00", "one") == {"regions": [], "quality_basis": UNKNOWN}
    assert shown.explanation("nobody's", "one") is None
    assert shown.explanation("v00", None) is None
    assert shown.of(None).pooled is None
    assert shown.of("never heard of").pooled is None
    ledger.close()


def test_submissions_are_read_again_only_where_one_came_in(tmp_path: object) -> None:
    ledger = campaign(f"{tmp_path}/ledger.sqlite")
    shown = Calibrations(ledger)
    review(ledger, 20)
    first = shown.of("one")
    assert shown.of("one") is first
    review(ledger, 1)
    assert shown.of("one") is not first
    ledger.close()
