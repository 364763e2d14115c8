"""Predictions kept: answers are the networks' own, room is bounded, nothing wanted goes."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from tests.attention.test_found_places import by_spread
from tests.server.tiny import checkpoint, write_ct

from atlas8k.attention import attention_sizes
from atlas8k.attention.quality_model import QUALITY_FILE
from atlas8k.core.errors import AttentionError, LedgerError
from atlas8k.core.settings import Settings
from atlas8k.core.volume import read_grid
from atlas8k.models.predict import Predictor
from atlas8k.models.store import ModelStore
from atlas8k.services.context import Context
from atlas8k.services.device_lock import Turn
from atlas8k.services.opening import most_wanted, open_context
from atlas8k.services.prediction.answers import Answers
from atlas8k.services.prediction.cache import GB, Key, PredictionCache
from atlas8k.services.scoring import Scoring

MB = bytes(10**6)


def cache(folder: Path, mb: float, wanted: tuple[str, ...] = (), **more: int) -> PredictionCache:
    return PredictionCache(folder, mb / 1000, lambda: wanted, **{"reserve_bytes": 0, **more})


def keys(*volumes: str, model_version: str = "one") -> list[Key]:
    return [Key(volume, "1", model_version) for volume in volumes]


def fill(store: PredictionCache, found: list[Key]) -> None:
    for age, key in enumerate(found):
        assert store.keep(key, "codes", MB)
        os.utime(store._path(key, "codes"), (1000 + age, 1000 + age))


def there(store: PredictionCache, found: list[Key]) -> list[str]:
    return [key.volume for key in found if store._path(key, "codes").is_file()]


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    store = cache(tmp_path / "c", 10)
    (key,) = keys("../a/b 'x'")  # a name is never a path
    assert store.read(key, "codes") is None
    assert store.keep(key, "codes", b"abc")
    assert store.read(key, "codes") == b"abc"
    assert store.read(key, "answers") is None
    assert {path.parent.name for path in tmp_path.rglob("*.codes")} == {"one"}
    store.forget(key, "codes")
    assert store.read(key, "codes") is None


def test_of_a_file_that_changed_only_the_new_state_is_kept(tmp_path: Path) -> None:
    store = cache(tmp_path / "c", 10)
    old, new = Key("a", "1", "one"), Key("a", "2", "one")
    store.keep(old, "codes", MB)
    store.keep(old, "answers", b"x")
    store.keep(new, "answers", b"y")
    assert not store._path(old, "codes").is_file()
    assert store.read(new, "answers") == b"y"


def test_the_oldest_go_first(tmp_path: Path) -> None:
    store, found = cache(tmp_path / "c", 4.5), keys("a", "b", "c", "d")
    fill(store, found)
    store.read(found[0], "codes")  # now the newest
    (extra,) = keys("e")
    assert store.keep(extra, "codes", MB)
    assert there(store, found) == ["a", "c", "d"]


def test_the_top_of_the_list_and_leased_volumes_stay(tmp_path: Path) -> None:
    store = cache(tmp_path / "c", 4.5, wanted=("a", "b"))
    found = keys("a", "b", "c", "d", "e", "f")
    fill(store, found)
    assert there(store, found) == ["a", "b", "e", "f"]


def test_what_is_wanted_less_does_not_push_out_what_is_wanted_more(tmp_path: Path) -> None:
    store = cache(tmp_path / "c", 2.5, wanted=("a", "b", "c"))
    fill(store, keys("b", "c"))
    assert not store.keep(*keys("x"), "codes", MB)
    assert store.keep(*keys("a"), "codes", MB)  # the most wanted pushes out the least
    assert there(store, keys("a", "b", "c", "x")) == ["a", "b"]


def test_where_it_is_not_known_what_is_wanted_nothing_goes(tmp_path: Path) -> None:
    def unknown() -> list[str]:
        raise LedgerError("locked")

    store = PredictionCache(tmp_path / "c", 0.0015, unknown, reserve_bytes=0)
    fill(store, keys("a"))
    assert not store.keep(*keys("b"), "codes", MB)
    assert there(store, keys("a")) == ["a"]


def test_superseded_networks_go_before_all_else(tmp_path: Path) -> None:
    store = cache(tmp_path / "c", 3.5, wanted=("a",))
    fill(store, keys("x", "y"))
    fill(store, keys("a", model_version="old"))
    assert store.keep(*keys("z"), "codes", MB)
    assert there(store, keys("x", "y", "z")) == ["x", "y", "z"]
    assert not there(store, keys("a", model_version="old"))


def test_the_bound_holds(tmp_path: Path) -> None:
    store = cache(tmp_path / "c", 3)
    for number in range(20):
        store.keep(Key(str(number), "1", "one"), "codes", bytes(700_000))
        assert sum(p.stat().st_size for p in tmp_path.rglob("*.codes")) <= 3e6
    assert not store.keep(*keys("big"), "codes", bytes(4_000_000))
    assert not cache(tmp_path / "d", 0).keep(*keys("a"), "codes", b"x")
    assert not (tmp_path / "d").exists()


def test_a_full_disk_is_refused_before_it_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = cache(tmp_path / "c", 100, reserve_bytes=2 * GB)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2 * GB + len(MB) - 1))
    with caplog.at_level(logging.WARNING):
        for key in keys("a", "b", "c"):
            assert not store.keep(key, "codes", MB)
    assert [record.message for record in caplog.records if "2 stay free" in record.message]
    assert len(caplog.records) == 1  # said once
    assert not list(tmp_path.rglob("*.codes"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2 * GB + len(MB)))
    assert store.keep(*keys("a"), "codes", MB)


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "c").write_text("a file")
    store = cache(tmp_path / "c", 10)
    assert not store.keep(*keys("a"), "codes", MB)
    assert store.read(*keys("a"), "codes") is None
    assert len(caplog.records) == 1


def test_leftovers_of_a_killed_process_are_cleared(tmp_path: Path) -> None:
    store = cache(tmp_path / "c", 1.5)
    fill(store, keys("a"))
    leftover = tmp_path / "c" / "one" / ".half"
    leftover.write_bytes(MB)
    os.utime(leftover, (1000, 1000))
    store.keep(*keys("b"), "codes", MB)
    assert not leftover.exists()


def _hammer(folder: Path, number: int) -> None:
    store = cache(folder, 5)
    for i in range(40):
        key = Key(f"{(number + i) % 9}", "1", "one")
        data = store.read(key, "codes")
        assert data is None or data == MB
        store.keep(key, "codes", MB)


def test_several_processes_share_one_folder(tmp_path: Path) -> None:
    context = get_context("spawn")
    workers = [context.Process(target=_hammer, args=(tmp_path / "c", n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(600)
        assert worker.exitcode == 0
    kept = list(tmp_path.rglob("*.codes"))
    assert 0 < sum(path.stat().st_size for path in kept) <= 5e6
    assert not [path for path in tmp_path.rglob(".*") if path.is_file() and path.name != ".lock"]


# --- with networks -------------------------------------------------------------------------


def no_networks(*_: object) -> None:
    raise AssertionError("the networks ran")


def test_answers_from_the_cache_are_the_networks_own(
    context: Context, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, grid = studies / "b.nii.gz", read_grid(studies / "b.nii.gz")
    ct, prediction, model_version = context.engine.predict(path)
    context.engine.answers(path, Turn.SCORING, "b")
    monkeypatch.setattr(Predictor, "predict", no_networks)
    fresh = open_context(context.settings, str(studies), context.models.root)
    try:
        on, found, by = fresh.engine.answers(path, volume="b")
    finally:
        fresh.studies.close()
    assert on.same_as(grid)
    assert by == model_version
    for model in (None, *prediction.names):
        assert np.array_equal(found.label_on(grid, model), prediction.label_on(grid, model=model))
    sizes = prediction.sizes()
    assert found.sizes.attention_ml == pytest.approx(sizes.attention_ml, rel=1e-6)
    assert (
        found.salient.regions
        == Answers.of(prediction, fresh.engine.salient, "b", ct).salient.regions
    )


def test_what_is_expected_is_kept_with_the_answers(
    studies: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Places, predicted quality, the figure volumes may rank by; refused for other networks."""
    model = by_spread(threshold=0.0)
    count = len(list((models / "embedded").glob("*.safetensors")))
    file = models / "embedded" / QUALITY_FILE
    file.write_text(json.dumps(replace(model, networks=count).as_dict()))
    opened = open_context(Settings(device="cpu"), str(studies), models)
    path = studies / "b.nii.gz"
    try:
        grid, first, _ = opened.engine.answers(path, Turn.SCORING, "b")
        monkeypatch.setattr(Predictor, "predict", no_networks)
        again = opened.engine.answers(path, volume="b")[1]
    finally:
        opened.close()
    assert first.expected is not None
    assert again.expected is not None
    assert 0 < len(first.regions) <= 10
    assert again.regions == first.regions
    assert np.array_equal(again.attention_label(), first.attention_label())
    assert again.expected.quality == first.expected.quality
    noted = first.noted(grid, "b")
    assert [one["organ"] for one in noted["regions"]] == [one.organ for one in first.regions]
    assert set(noted["quality"]) == set(first.expected.quality)
    for organ, score in first.organ_scores().items():
        assert score.figures["expected_error"] == first.expected.wrong_ml(organ)
    for region in first.regions:
        assert first.voxels_of(region).any()

    file.write_text(json.dumps(replace(model, networks=count + 1).as_dict()))
    monkeypatch.undo()
    other = open_context(Settings(device="cpu"), str(studies), models)
    try:
        assert other.engine.answers(path, volume="b")[1].expected is None
    finally:
        other.close()


def test_probabilities_from_the_cache_give_the_same_sizes(context: Context, studies: Path) -> None:
    path = studies / "b.nii.gz"
    _, prediction, _ = context.engine.predict(path)
    context.engine.answers(path, Turn.SCORING, "b")
    context.engine._last = None
    codes, grid, _ = context.engine.probabilities(path, volume="b")
    assert grid.same_as(prediction.grid)
    total = attention_sizes(codes, grid.voxel_ml).total_ml
    assert total == pytest.approx(prediction.sizes().total_ml, rel=0.01)


def test_a_scored_volume_is_answered_without_networks(
    context: Context, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Scoring(context).run()
    monkeypatch.setattr(context.engine, "predict", no_networks)
    for volume in "abc":
        context.engine.answers(studies / f"{volume}.nii.gz", volume=volume)
    with pytest.raises(AssertionError, match="networks ran"):
        context.engine.answers(studies / "a.nii.gz")  # an upload is nobody's volume


def test_another_file_other_networks_or_settings_are_no_hit(
    context: Context, studies: Path, models: Path
) -> None:
    path = studies / "a.nii.gz"
    first = context.engine.answers(path, Turn.SCORING, "a")[1]
    write_ct(path, seed=8, scale=0.7)
    changed = context.engine.answers(path, Turn.SCORING, "a")[1]
    assert changed.labels.shape != first.labels.shape or not np.array_equal(
        changed.sizes.total_ml, first.sizes.total_ml
    )
    ModelStore(models).publish({"unet": checkpoint("unet", 4)})
    assert context.engine.answers(path, Turn.SCORING, "a")[1].sizes != changed.sizes
    other = open_context(Settings(device="cpu", min_region_ml=50.0), str(studies), models)
    try:
        regions = other.engine.answers(path, Turn.SCORING, "a")[1].salient.regions
    finally:
        other.studies.close()
    assert all(region.ml >= 50 for region in regions)


@pytest.mark.parametrize("kind", ["answers", "codes"])
def test_a_damaged_file_is_predicted_again(
    context: Context, studies: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = studies / "a.nii.gz"
    before = context.engine.answers(path, Turn.SCORING, "a")[1]
    (file,) = studies.rglob(f"*.{kind}")
    file.write_bytes(file.read_bytes()[:-40])
    if kind == "answers":
        again = context.engine.answers(path, Turn.SCORING, "a")[1]
        assert np.array_equal(again.labels, before.labels)
    else:
        context.engine.probabilities(path, volume="a")
    assert "a.nii.gz" in caplog.text
    assert "predicted again" in caplog.text


def test_answers_of_another_release_are_named() -> None:
    with pytest.raises(AttentionError, match="case 7"):
        Answers.unpacked(b"something else", "case 7")


def test_an_incomplete_set_is_not_kept(context: Context, studies: Path) -> None:
    path = studies / "a.nii.gz"
    context.engine.predict(path)
    predictor = context.engine._predictor
    assert predictor is not None
    context.engine._last = None
    predictor[1].failures["unet"] = "damaged"
    answers = context.engine.answers(path, Turn.SCORING, "a")[1]
    assert answers.failures == {"unet": "damaged"}
    assert not list(studies.rglob("*.answers"))


def test_wanted_are_leases_first_then_the_list(context: Context) -> None:
    from atlas8k.store import Holder

    Scoring(context).run()
    model_version = context.model_version()
    order = [line.volume for line in context.ledger.ranking(model_version)]
    context.ledger.set_campaign(budget=1.0)
    context.ledger.lease(order[-1], Holder("user:anna"))
    assert most_wanted(context.ledger, model_version) == [order[-1], *order[:2]]
