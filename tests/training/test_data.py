"""Cases on a network's grid, and random patches of them."""

import dataclasses
import logging
import weakref

import numpy as np
import pytest
import torch

from atlas8k.core.errors import TrainingError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.models.checkpoint import Preprocessing
from atlas8k.training.augment import draw
from atlas8k.training.config import TrainingConfig
from atlas8k.training.data import Prepared, TrainingCase
from atlas8k.training.patches import PatchSource

SAME = Preprocessing(spacing_mm=(4.0,) * 3, window_size=(16, 16, 16))
HALF = Preprocessing(spacing_mm=(2.0,) * 3, window_size=(16, 16, 16))


def test_image_and_label_on_the_networks_grid(case):
    prepared = case("a").load(HALF)
    assert prepared.image.shape == prepared.label.shape == (48, 40, 32)
    assert prepared.image.dtype == torch.float16
    inside = prepared.image[prepared.label == 5].float()
    assert float(inside.median()) == pytest.approx((170 + 175) / 425, abs=0.01)
    assert bool(prepared.known.all())
    for organ, points in prepared.points.items():
        assert (prepared.label.numpy()[tuple(points.T)] == organ).all()
    assert set(prepared.points) == {5, 8}


def test_orientation_of_the_file_does_not_matter(case):
    straight, flipped = case("a").load(SAME), case("b", flip=True).load(SAME)
    assert torch.equal(straight.label, flipped.label)
    assert torch.allclose(straight.image.float(), flipped.image.float(), atol=1e-3)


def test_unknown_organs_are_background_and_marked(case):
    made = case("a")
    prepared = dataclasses.replace(made, known_organs=("liver", "aorta")).load(SAME)
    assert set(prepared.label.unique().tolist()) == {0, 5}
    names = [n for n, known in zip(ORGAN_NAMES, prepared.known.tolist(), strict=True) if known]
    assert names == ["aorta", "liver"]


def test_a_label_that_does_not_fit_is_refused(case, tmp_path):
    made = case("a")
    grid = Grid((24, 20, 16), np.diag([4.0, 4.0, 5.0, 1.0]))
    other = write_nifti(tmp_path / "other.nii.gz", np.zeros((24, 20, 16), np.uint8), grid)
    with pytest.raises(TrainingError, match=r"other\.nii\.gz.*grid"):
        dataclasses.replace(made, label_path=other).load(SAME)
    grid = Grid((24, 20, 16), np.diag([4.0, 4.0, 4.0, 1.0]))
    high = write_nifti(tmp_path / "high.nii.gz", np.full((24, 20, 16), 10, np.uint8), grid)
    with pytest.raises(TrainingError, match="value 10"):
        dataclasses.replace(made, label_path=high).load(SAME)
    for wrong in ((), ("lung",)):
        with pytest.raises(TrainingError, match="known organs"):
            dataclasses.replace(made, known_organs=wrong).load(SAME)


def test_a_patch_is_a_piece_of_the_volume(case):
    prepared = case("a").load(SAME)
    rng = np.random.default_rng(0)
    for _ in range(20):
        image, label = draw(prepared, (8, 8, 8), rng, balance=0.5, augment=0)
        volume = prepared.image.float().unfold(0, 8, 1).unfold(1, 8, 1).unfold(2, 8, 1)
        assert bool((volume == image).all(dim=(3, 4, 5)).any())
        assert label.shape == image.shape == (8, 8, 8)


def test_a_patch_larger_than_the_volume_is_padded_with_air(case):
    prepared = case("a").load(SAME)
    rng = np.random.default_rng(0)
    image, label = draw(prepared, (32, 32, 32), rng, balance=0.5, augment=0)
    assert int((label > 0).sum()) == int((prepared.label > 0).sum())
    assert float(image.sum()) == pytest.approx(float(prepared.image.float().sum()), rel=1e-4)


def test_balanced_patches_show_organs(case):
    prepared = case("a").load(SAME)
    rng = np.random.default_rng(0)
    shown = [
        bool((draw(prepared, (8, 8, 8), rng, balance=1, augment=0)[1] > 0).any()) for _ in range(40)
    ]
    assert np.mean(shown) > 0.9


def test_a_turned_patch_keeps_image_and_label_together_and_the_sides(case):
    prepared = case("a").load(SAME)
    rng = np.random.default_rng(1)
    for _ in range(20):
        image, label = draw(prepared, (32, 32, 32), rng, balance=0, augment=1)
        assert 0 <= float(image.min()) <= float(image.max()) <= 1
        liver, spleen = torch.nonzero(label == 5)[:, 0], torch.nonzero(label == 8)[:, 0]
        assert liver.float().mean() > spleen.float().mean()
        assert image[label == 5].median() > image[label == 8].median() + 0.3


def test_batches_depend_on_seed_and_epoch_alone(case):
    cases = [case("a", 1), case("b", 2), case("c", 3, known=("liver",))]
    settings = TrainingConfig(steps_per_epoch=4, batch_size=2, workers=0)
    one, two = PatchSource(cases, SAME, settings), PatchSource(cases, SAME, settings)
    list(one.batches(0))
    for a, b in zip(one.batches(1), two.batches(1), strict=True):
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.label, b.label)
        assert torch.equal(a.known, b.known)
    assert a.image.shape == (2, 1, 16, 16, 16)
    other = next(iter(one.batches(2)))
    assert not torch.equal(other.image, next(iter(two.batches(1))).image)


def test_memory_is_bounded_and_every_case_has_its_turn(case, monkeypatch):
    cases = [case(f"c{i}", i) for i in range(6)]
    settings = TrainingConfig(steps_per_epoch=1, batch_size=1, workers=0)
    source = PatchSource(cases, SAME, settings)
    size = cases[0].load(SAME).nbytes
    # The smallest bound a user can set holds all of these; the test needs a smaller one.
    object.__setattr__(source.config, "memory_mb", 2.5 * size / (1 << 20))
    seen = set()
    for epoch in range(6):
        list(source.batches(epoch))
        assert len(source._loaded) == 2
        seen |= set(source._loaded)
    assert seen == {f"c{i}" for i in range(6)}


def test_what_leaves_the_window_goes_before_anything_comes(case):
    """Or twice the memory would be held while an epoch's cases are read."""
    cases = [case(f"c{i}", i) for i in range(6)]
    size = cases[0].load(SAME).nbytes
    alive: set[int] = set()
    most = 0

    class Watched:
        def __init__(self, one: TrainingCase) -> None:
            self.name, self._one = one.name, one

        def load(self, preprocessing: Preprocessing) -> Prepared:
            nonlocal most
            made = self._one.load(preprocessing)
            alive.add(id(made))
            weakref.finalize(made, alive.discard, id(made))
            most = max(most, len(alive))
            return made

    settings = TrainingConfig(epochs=3, steps_per_epoch=6, batch_size=1, workers=0)
    source = PatchSource([Watched(one) for one in cases], SAME, settings)
    object.__setattr__(source.config, "memory_mb", 2.5 * size / (1 << 20))
    met = set()
    for epoch in range(3):
        list(source.batches(epoch))
        met |= set(source._loaded)
    assert met == {f"c{i}" for i in range(6)}  # in as many epochs as there are
    assert most <= 3  # two that are held, and one that turns out not to fit


def test_a_case_that_cannot_be_read_is_left_out_and_logged(case, caplog):
    good, bad = case("good"), case("bad")
    bad.ct_path.write_bytes(b"no image")
    settings = TrainingConfig(steps_per_epoch=2, workers=0)
    with caplog.at_level(logging.WARNING):
        assert len(list(PatchSource([good, bad], SAME, settings).batches(0))) == 2
    assert "bad.nii.gz" in caplog.text
    with pytest.raises(TrainingError, match="none of the cases"):
        list(PatchSource([bad], SAME, settings).batches(0))
    with pytest.raises(TrainingError, match="no case"):
        PatchSource([], SAME, settings)
