"""Scores and draft labels for what is stale."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.attention.test_found_places import by_spread
from tests.server.tiny import checkpoint, write_ct

from atlas8k.attention.quality_model import QUALITY_FILE
from atlas8k.content.familiar import RANGE_FILE, trained_ranges
from atlas8k.core.errors import CheckpointError
from atlas8k.core.files import only_one, write_json
from atlas8k.core.settings import Settings
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_grid, read_label
from atlas8k.models.store import ModelStore
from atlas8k.server.archive_datastore import datastore_of
from atlas8k.services.context import Context, message
from atlas8k.services.opening import open_context
from atlas8k.services.scoring import Scoring, duration
from atlas8k.store import Progress


def score(context: Context) -> dict[str, Any]:
    return Scoring(context).run()


def test_every_volume_gets_a_score_and_a_start_label(context: Context, studies: Path) -> None:
    assert score(context) == {"scored": 3, "failed": 0, "set_aside": 0}
    model_version = context.model_version()
    assert context.ledger.progress(model_version).complete
    for row in context.ledger.ranking(model_version):
        prediction = context.engine.predict(studies / f"{row.volume}.nii.gz")[1]
        assert row.attention_ml == pytest.approx(prediction.sizes().total_ml, rel=1e-6)
        path = datastore_of(context).get_label_uri(row.volume, "original")
        grid = read_grid(studies / f"{row.volume}.nii.gz")
        label = read_label(path)
        assert label.grid.same_as(grid)
        assert np.array_equal(label.array, prediction.label_on(grid))
        info = datastore_of(context).get_label_info(row.volume, "original")
        assert info["model_version"] == model_version
        assert info["params"]["label_names"] == dict(ORGAN_IDS)
    assert context.studies.now().status()["completed"] == 0


def test_whether_a_ct_is_like_the_training_cts_is_kept_with_its_score(
    context: Context, models: Path
) -> None:
    score(context)
    noted = context.ledger.familiar(context.model_version())
    assert {name: one["like"] for name, one in noted.items()} == dict.fromkeys("abc")
    assert context.unlike() == {"count": 0, "of": 3, "volumes": {}}
    # Of other networks it is known what they were trained on: nothing as tall as these.
    write_json(models / "embedded" / RANGE_FILE, trained_ranges([{"height_mm": 90.0}], "made up"))
    order = [one.volume for one in context.ledger.ranking(context.model_version())]
    ModelStore(models).publish({"unet": checkpoint("unet", 3)})
    score(context)
    assert context.unlike(most=1)["count"] == 3
    assert list(context.unlike(most=1)["volumes"]) == ["a"]
    assert "height 240 mm, trained 90 to 90" in context.unlike()["volumes"]["b"][0]
    assert len(context.ledger.ranking(context.model_version())) == len(order)


def test_what_is_scored_is_not_scored_again(context: Context, studies: Path) -> None:
    score(context)
    assert score(context) == {"scored": 0, "failed": 0, "set_aside": 0}
    write_ct(studies / "d.nii.gz", 9)
    assert score(context) == {"scored": 1, "failed": 0, "set_aside": 0}


def test_new_networks_make_every_score_stale(context: Context, models: Path) -> None:
    score(context)
    old = context.model_version()
    new = ModelStore(models).publish({"unet": checkpoint("unet", 3)})
    status = context.status()
    assert (status["scored"], status["total"], status["ranked_by"]) == (0, 3, old)
    assert f"ranked by {old}" in status["message"]
    assert score(context) == {"scored": 3, "failed": 0, "set_aside": 0}
    assert context.status()["ranked_by"] == new


def test_networks_published_during_a_run_are_taken_up_by_it(context: Context, models: Path) -> None:
    seen: list[Progress] = []

    def publish(progress: Progress, seconds_each: float, left: int) -> None:
        if not seen:
            ModelStore(models).publish({"nnunet": checkpoint("nnunet", 5)})
        seen.append(progress)

    counts = Scoring(context, publish).run()
    assert counts == {
        "scored": 4,
        "failed": 0,
        "set_aside": 0,
    }  # one under the old set, three under the new
    assert context.progress().complete


def test_a_volume_that_cannot_be_read_is_named_and_passed_over(
    context: Context, studies: Path
) -> None:
    (studies / "0_first.nii.gz").write_bytes(b"no image")
    assert score(context) == {"scored": 3, "failed": 1, "set_aside": 0}
    assert "0_first.nii.gz" in context.status()["failures"]["0_first"]
    assert score(context) == {"scored": 0, "failed": 0, "set_aside": 0}
    write_ct(studies / "0_first.nii.gz", 4)
    assert score(context) == {"scored": 1, "failed": 0, "set_aside": 0}


def test_a_damaged_network_ends_the_run_without_a_score(context: Context, models: Path) -> None:
    (models / "embedded" / "unet.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="unet"):
        score(context)
    assert context.progress().scored == 0


def test_networks_that_give_no_probabilities_are_a_failure_that_names_the_volume(
    context: Context, models: Path
) -> None:
    broken = checkpoint("unet")
    # Finite, so that the set is taken; what they add up to is not.
    state = {name: tensor.sign() * 1e38 for name, tensor in broken.state.items()}
    ModelStore(models).publish({"unet": replace(broken, state=state)})
    assert score(context) == {"scored": 0, "failed": 3, "set_aside": 0}
    reasons = context.status()["failures"]
    assert all(f"{name}.nii.gz" in why and "NaN" in why for name, why in reasons.items())
    assert not list(context.state.rglob("*.answers"))


def test_a_second_run_does_nothing_while_one_runs(context: Context) -> None:
    with only_one(context.state / "scoring.lock") as alone:
        assert alone
        assert score(context) == {"scored": 0, "failed": 0, "set_aside": 0}
    assert context.progress().scored == 0
    assert score(context)["scored"] == 3


@pytest.mark.parametrize(
    ("progress", "ranked_by", "text"),
    [
        (Progress(3, 1, 40), "old", "scored 3 of 40, 1 cannot be scored under the new networks"),
        (Progress(3, 0, 40), "new", "not final"),
        (Progress(40, 0, 40), "new", "scored 40 of 40 under new"),
        (Progress(0, 0, 0), None, "scored 0 of 0"),
    ],
)
def test_the_message_says_how_far_scoring_is(
    progress: Progress, ranked_by: str | None, text: str
) -> None:
    assert text in message(progress, "new", ranked_by)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 s"), (100, "2 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_ranking_by_expected_error_needs_networks_whose_errors_are_known(
    studies: Path, models: Path
) -> None:
    """Refused before anything is predicted; with what was learnt, volumes rank by it."""
    settings = Settings(device="cpu", ranking="expected_error")
    without = open_context(settings, str(studies), models)
    try:
        with pytest.raises(CheckpointError, match="errors were learnt"):
            Scoring(without).run()
        assert without.ledger.progress(without.model_version()).scored == 0
    finally:
        without.close()
    learnt = json.dumps(by_spread(threshold=0.0).as_dict())
    (models / "embedded" / QUALITY_FILE).write_text(learnt)
    context = open_context(settings, str(studies), models)
    try:
        assert Scoring(context).run()["scored"] == 3
        assert context.ledger.ranked_by() == "expected_error"
        assert len(context.ledger.ranking(context.model_version())) == 3
    finally:
        context.close()
