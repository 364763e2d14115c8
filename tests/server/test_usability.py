"""CTs that are none, or show no abdomen, from the folder to the list; and what people decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.tiny import GRID, write_ct

from atlas8k.campaign.status import status
from atlas8k.core.errors import NoOrganError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import read_ct, write_nifti
from atlas8k.server.archive_datastore import datastore_of
from atlas8k.server.tasks.strategy import LedgerStrategy
from atlas8k.services.cases import Cases
from atlas8k.services.context import Context
from atlas8k.services.errors import ConflictError, NotFoundError, RequestError
from atlas8k.services.scoring import NewVolumes, Scoring
from atlas8k.services.training.cases import cases
from atlas8k.store import Holder

ANNA = Holder.identify(client_id="anna")


def anna(context: Context) -> Cases:
    return Cases(context, [ANNA])


def score(context: Context) -> dict[str, Any]:
    return Scoring(context).run()


def ask(context: Context, **request: Any) -> dict[str, Any] | None:
    return LedgerStrategy(context, "attention")(
        {"client_id": "anna", **request}, datastore_of(context)
    )


def listed(context: Context) -> set[str]:
    return {row.volume for row in context.ledger.ranking(context.model_version())}


def reasons(context: Context) -> dict[str, str]:
    return {one.volume: one.reason for one in context.ledger.not_usable()}


@pytest.fixture
def odd(studies: Path) -> Path:
    """Beside three good CTs one that is shifted, and a label map."""
    ct = read_ct(studies / "b.nii.gz")
    write_nifti(studies / "shifted.nii.gz", ct.array + 1024, ct.grid)
    label = np.zeros(GRID.shape, np.int16)
    label[5:12, 5:12, 4:12] = 5
    label[12:15, 5:12, 4:12] = 8
    write_nifti(studies / "label.nii.gz", label, GRID)
    return studies


def test_what_is_no_ct_is_set_aside_before_its_prediction_is_believed(
    odd: Path, context: Context
) -> None:
    assert score(context) == {"scored": 3, "failed": 0, "set_aside": 2}
    assert listed(context) == {"a", "b", "c"}
    assert context.progress().complete
    found = reasons(context)
    assert found["shifted"].startswith("values look shifted by about +1024: air at 24 HU.")
    assert "a label map, not a CT" in found["label"]
    remarks = context.remarks()["volumes"]
    said = {
        (name, r["kind"]) for name, all_ in remarks.items() for r in all_ if r["level"] != "note"
    }
    assert said == {("shifted", "not_hu"), ("label", "label_map")}
    assert score(context) == {"scored": 0, "failed": 0, "set_aside": 0}
    report = status(context.ledger, model_version=context.model_version())
    assert (report.volumes.total, report.volumes.excluded) == (3, 2)
    assert [(one.volume, one.kind) for one in report.not_usable] == [
        ("label", "label_map"),
        ("shifted", "not_hu"),
    ]


def test_what_somebody_includes_is_ranked_and_stays(odd: Path, context: Context) -> None:
    score(context)
    assert anna(context).include("shifted", "I know")
    assert score(context)["scored"] == 1
    assert listed(context) == {"a", "b", "c", "shifted"}
    last = context.ledger.usability("shifted")[-1]
    assert (last.usable, last.reason, last.holder) == (True, "I know", ANNA.key)


def test_a_mended_file_counts_again_by_itself(odd: Path, context: Context) -> None:
    score(context)
    write_ct(odd / "shifted.nii.gz", 7)
    anna(context).include("label", "")  # a person's word on this file alone
    context.sync(thorough=True)
    context.admit("shifted")
    assert reasons(context) == {}


def test_nobody_is_given_what_was_not_looked_at_before(odd: Path, context: Context) -> None:
    """Without a score samples come by name, and `label` would be among the first."""
    given = [ask(context, client_id=f"p{i}") for i in range(4)]
    assert [one["id"] if one else None for one in given] == ["a", "b", "c", None]
    assert set(reasons(context)) == {"shifted", "label"}


def test_the_look_can_be_switched_off(odd: Path, context: Context) -> None:
    context.settings = context.settings.model_copy(update={"check_content": False})
    assert score(context)["scored"] == 5


def test_the_page_excludes_what_is_in_hand_and_counts_it_again(context: Context) -> None:
    score(context)
    sample = ask(context)
    assert sample is not None
    mine = anna(context)
    mine.exclude(sample["id"], "motion")
    assert mine.open() == []
    assert [one.reason for one in context.ledger.not_usable()] == ["motion"]
    assert sample["id"] not in listed(context)
    assert mine.include(sample["id"], "")
    assert sample["id"] in listed(context)


def test_an_exclusion_is_refused_with_the_reason(context: Context) -> None:
    score(context)
    sample = ask(context)
    assert sample is not None
    with pytest.raises(ConflictError, match="somebody else works on it"):
        Cases(context, [Holder("client:ben")]).exclude(sample["id"], "motion")
    with pytest.raises(RequestError, match="say why"):
        anna(context).exclude(sample["id"], " ")
    with pytest.raises(NotFoundError):
        anna(context).exclude("nope", "motion")
    assert reasons(context) == {}


def test_what_is_not_usable_is_not_trained_on(context: Context, tmp_path: Path) -> None:
    score(context)
    for name in ("a", "b"):
        label = np.zeros(GRID.shape, np.uint8)
        label[8:14, 8:13, 6:12] = 5
        sent = write_nifti(tmp_path / f"{name}.nii.gz", label, GRID)
        assert context.label_service is not None
        context.label_service.submit(name, sent, ANNA, {})
    assert [case.name for case in cases(context)] == ["a", "b"]
    anna(context).exclude("a", "metal")
    assert [case.name for case in cases(context)] == ["b"]
    assert [case.name for case in cases(context, read_only=True)] == ["b"]
    anna(context).include("a", "")
    assert [case.name for case in cases(context)] == ["a", "b"]


def test_nine_absent_organs_are_no_review(context: Context, tmp_path: Path) -> None:
    score(context)
    empty = write_nifti(tmp_path / "empty.nii.gz", np.zeros(GRID.shape, np.uint8), GRID)
    assert context.label_service is not None
    with pytest.raises(NoOrganError, match="not usable, say so with a reason"):
        context.label_service.submit("a", empty, ANNA, {"absent": list(ORGAN_NAMES)})
    assert context.ledger.submissions("a") == []
    context.label_service.submit("a", empty, ANNA, {"absent": list(ORGAN_NAMES[:8])})
    assert len(context.ledger.submissions("a")) == 1


def test_a_sample_says_what_was_given_back(context: Context) -> None:
    score(context)
    first, second = ask(context), ask(context)
    assert first is not None
    assert second is not None
    assert first["given_back"] == ()
    assert second["given_back"] == (first["id"],)
    assert f"given back without a submission: {first['id']} (" in second["message"]


def test_new_cts_are_scored_by_themselves_once_others_were(context: Context, studies: Path) -> None:
    runs: list[dict[str, Any]] = []
    new = NewVolumes(context, lambda: runs.append(score(context)), lambda: False)
    assert new.look() == 0  # the first scoring of a folder is asked for
    score(context)
    assert new.look() == 0
    write_ct(studies / "d.nii.gz", 9)
    context.studies.refresh()
    assert new.look() == 1
    assert [one["scored"] for one in runs] == [1]
    assert new.look() == 0


def test_what_a_run_left_is_not_tried_again_and_none_begins_beside_another(
    context: Context, studies: Path
) -> None:
    score(context)
    write_ct(studies / "d.nii.gz", 9)
    context.studies.refresh()
    begun: list[int] = []
    busy = NewVolumes(context, lambda: begun.append(1), lambda: True)
    assert busy.look() == 0
    idle = NewVolumes(context, lambda: begun.append(1), lambda: False)
    assert idle.look() == 1
    assert idle.look() == 0  # it was stopped, say: asked for again by hand
    write_ct(studies / "e.nii.gz", 10)
    context.studies.refresh()
    assert idle.look() == 1
    assert len(begun) == 2
