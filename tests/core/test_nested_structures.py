"""A structure within another, as a tumour in the liver: its voxels belong to both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from atlas8k.core.errors import SettingsError
from atlas8k.core.organ_states import OrganSource
from atlas8k.core.structure_sets import StructureSet, from_dict
from atlas8k.core.structures import using
from atlas8k.labels.fusion import SourceLabel, fuse
from atlas8k.metrics.overlap import counts, dsc
from atlas8k.metrics.surface import nsd

SET = from_dict(
    {"name": "tumours", "structures": ["liver", "spleen", "liver_tumor", "kidney_tumor"]}
)
LIVER, SPLEEN, TUMOR = (SET.ids[name] for name in ("liver", "spleen", "liver_tumor"))


@pytest.fixture(autouse=True)
def structures() -> Iterator[None]:
    with using(SET):
        yield


def label(*, tumor: bool = True) -> np.ndarray:
    array = np.zeros((20, 20, 20), np.uint8)
    array[2:12, 2:18, 2:18] = LIVER
    array[14:18, 2:10, 2:10] = SPLEEN
    if tumor:
        array[4:8, 6:10, 6:10] = TUMOR
    return array


def test_a_set_says_what_is_within_what() -> None:
    assert dict(SET.parts) == {LIVER: (LIVER, TUMOR)}
    assert SET.depths[TUMOR] == 1
    assert from_dict(SET.as_dict()).as_dict() == SET.as_dict()
    # Without its organ a tumour is a structure of its own.
    alone = from_dict({"name": "alone", "structures": ["liver_tumor", "spleen"]})
    assert (alone.organs[0].within, dict(alone.parts)) == (None, {})


@pytest.mark.parametrize(
    ("structures", "words"),
    [
        ({"spleen": {"within": "liver"}}, "spleen is within liver, which is not in the set"),
        ({"liver": {"within": "liver"}}, "liver is within itself"),
        ({"liver": {"within": "spleen"}, "spleen": {"within": "liver"}}, "is within itself"),
    ],
)
def test_what_cannot_be_within_is_refused(structures: dict, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        from_dict({"name": "mine", "structures": structures})


def test_an_organ_is_measured_with_its_tumour() -> None:
    truth, pred = label(), label(tumor=False)
    found = counts(pred, truth)
    assert found.truth[LIVER - 1] == found.both[LIVER - 1] == 10 * 16 * 16
    assert found.truth[TUMOR - 1] == 64
    assert dsc(pred, truth)[:3] == pytest.approx([1.0, 1.0, 0.0])
    assert nsd(pred, truth, (1, 1, 1))[:3] == pytest.approx([1.0, 1.0, 0.0])


def test_a_tumour_of_one_source_lies_on_the_liver_of_another() -> None:
    """Whatever comes first, and where nobody has a tumour its voxels are liver, no hole."""
    whole, drawn = label(tumor=False), label()
    revised = OrganSource("revised", "revised")
    public = OrganSource("public", "present")
    cases = (
        [SourceLabel("public", whole, {"liver": public}),
         SourceLabel("revised", drawn, {"liver_tumor": revised})],
        [SourceLabel("public", drawn, {"liver_tumor": public}),
         SourceLabel("revised", whole, {"liver": revised})],
    )  # fmt: skip
    for sources in cases:
        fused = fuse(whole.shape, sources)
        assert np.array_equal(fused.array, np.where(drawn == SPLEEN, 0, drawn))
        assert fused.overlaps == ()
    absent = SourceLabel("public", None, {"liver_tumor": OrganSource("public", "absent")})
    fused = fuse(whole.shape, [absent, SourceLabel("revised", drawn, {"liver": revised})])
    assert np.array_equal(fused.array == LIVER, whole == LIVER)


def test_a_tumour_that_was_drawn_leaves_its_organ_as_it_was(tmp_path: Path) -> None:
    from atlas8k.core.grid import Grid
    from atlas8k.labels.ingest import Submitted
    from atlas8k.labels.submission_diff import compare_with_draft

    sent = Submitted(label(), Grid((20, 20, 20), np.eye(4)), frozenset(SET.names), "codes", {})
    found = compare_with_draft(label(tumor=False), sent)
    assert found["liver"].state == "not_assessed"
    assert (found["liver_tumor"].state, found["liver_tumor"].voxels_after) == ("revised", 64)


def test_each_has_its_mask_in_an_export() -> None:
    from atlas8k.services.exporting.layouts import label_files

    files = {
        name: array
        for name, array, _ in label_files(
            "abdomenatlas", "a", label(), ["liver", "liver_tumor"], True, None
        )
    }
    masks = {name.split("/")[1]: array for name, array in files.items() if "/" in name}
    assert masks["liver.nii.gz"].sum() == 10 * 16 * 16
    assert masks["liver_tumor.nii.gz"].sum() == 64
    assert (files["combined_labels.nii.gz"] == TUMOR).sum() == 64
    for layout in ("abdomenatlas", "nnunet"):  # where the tumour is unknown, it is liver
        made = {
            name: array
            for name, array, _ in label_files(layout, "a", label(), ["liver"], True, None)
        }
        assert all((array > 0).sum() == 10 * 16 * 16 for array in made.values()), layout


def test_networks_learn_the_organ_with_its_tumour() -> None:
    from tests.models.tiny import tiny

    from atlas8k.training.losses import _channels, _nested, segmentation_loss

    both = tiny("unet", organs=("spleen", "liver_tumor", "liver"))
    assert _nested(both) == [(2, 1)]
    liver = tiny("unet", organs=("liver",))
    assert int(_channels(liver)[0][TUMOR]) == 1  # its tumour is liver to it
    truth = torch.from_numpy(np.array([0, 1, 3, 2], np.uint8)).reshape(1, 4, 1, 1)
    channels, _ = _channels(both)
    wanted = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 1, 0]]).float()
    logits = (wanted[None, :, :, None, None] - 0.5) * 60
    known = torch.ones(1, 3, dtype=torch.bool)
    label_ = channels[truth.long()]
    assert float(segmentation_loss(logits, label_, known, "sigmoid", 0, [(2, 1)])) < 1e-3
    assert float(segmentation_loss(logits, label_, known, "sigmoid", 0)) > 0.1


def test_the_ensemble_puts_a_tumour_on_top() -> None:
    from atlas8k.models.ensemble import label_map

    probs = np.zeros((1, 3, 20, 20, 20), np.float16)
    probs[0, 0] = np.where(label() != SPLEEN, (label() > 0) * 0.9, 0)
    probs[0, 2] = (label() == TUMOR) * 0.6
    found = label_map(probs, np.ones((1, 3), bool), [LIVER, SPLEEN, TUMOR])
    assert np.array_equal(found, np.where(label() == SPLEEN, 0, label()))


def test_a_dicom_seg_has_a_segment_each(tmp_path: Path) -> None:
    from tests.formats import test_dicom_seg_writing as kit

    from atlas8k.formats.dicom_seg_writing import write_segmentation

    grid = kit.GRIDS[1]
    headers = kit.read_headers(kit.save_series(tmp_path, grid))
    array = np.zeros(kit.SHAPE, np.uint8)
    array[1:-1, 1:-1, 1:-1] = LIVER
    array[2:4, 2:4, 2:4] = TUMOR
    path = tmp_path / "seg.dcm"
    write_segmentation(array, grid, headers, path, **kit.WORDS)
    data = pydicom.dcmread(path)
    assert [one.SegmentLabel for one in data.SegmentSequence] == ["liver", "liver_tumor"]
    voxels = kit.voxels_by_name(path, grid)
    assert len(voxels["liver"]) == (array > 0).sum()
    assert len(voxels["liver_tumor"]) == (array == TUMOR).sum()
    taken = kit.ingest(path, grid)  # segments that lie on each other, and no overlap is reported
    assert np.array_equal(taken.array, array)
    assert taken.overlaps == ()


def test_a_store_keeps_it(tmp_path: Path) -> None:
    assert StructureSet("again", SET.organs).parts == SET.parts
