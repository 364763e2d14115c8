import numpy as np
import pytest

from atlas8k.core.errors import EvaluationError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import Grid, Volume, to_canonical, write_nifti
from atlas8k.labels.datasets import find_dataset
from atlas8k.metrics.overlap import dsc
from atlas8k.reports.evaluate import evaluate_folder, evaluation_table
from atlas8k.reports.false_positives import false_positive_table
from atlas8k.reports.folders import find_labels
from atlas8k.reports.groups import group_by
from atlas8k.reports.sheets import read_sheet

SHAPE = (24, 20, 16)


def grid(spacing=(1.0, 1.0, 2.0), flip=False):
    affine = np.diag([*spacing, 1.0])
    if flip:
        affine[0, 0] *= -1
        affine[0, 3] = spacing[0] * (SHAPE[0] - 1)
    return Grid(SHAPE, affine)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_nifti(path, array, grid())


def label(*organs, shift=0):
    out = np.zeros(SHAPE, np.uint8)
    for organ in organs:
        out[2 + shift : 10 + shift, 2:10, organ : organ + 5] = organ
    return out


@pytest.fixture
def folders(tmp_path):
    for name in ("pred", "truth"):
        (tmp_path / name).mkdir()
    return tmp_path / "pred", tmp_path / "truth"


def test_flat_folders(folders):
    pred, truth = folders
    for n, shift in enumerate((0, 1, 2)):
        write_nifti(truth / f"c{n}.nii.gz", label(1, 7), grid())
        write_nifti(pred / f"c{n}.nii.gz", label(1, 7, shift=shift), grid())
    seen = []
    found = evaluate_folder(pred, truth, progress=seen.append)
    assert sorted(seen) == ["c0", "c1", "c2"]
    np.testing.assert_allclose(found.dsc.values[:, 6], [1, 7 / 8, 6 / 8])
    assert found.nsd.values[0, 0] == 1.0
    assert found.nsd.values[1, 0] == 1.0, "one voxel off is within 1 mm"
    assert found.nsd.values[2, 0] < 1.0
    assert np.isnan(found.dsc.values[:, 1]).all()
    assert found.dsc.network == "pred"
    table = evaluation_table(found)
    assert table.rows[6][:3] == ("postcava", "3", "87.5±10.2")
    assert "tolerance 1 mm" in table.caption
    assert table.rows[1][2] == "–"


def test_missing_extra_damaged_and_spurious_are_told(folders, caplog):
    pred, truth = folders
    for n in range(4):
        write_nifti(truth / f"c{n}.nii.gz", label(5), grid())
    write_nifti(pred / "c0.nii.gz", label(5, 9), grid())
    (pred / "c1.nii.gz").write_bytes(b"broken")
    write_nifti(pred / "c2.nii.gz", label(5), grid((1, 1, 3)))
    write_nifti(pred / "z.nii.gz", label(5), grid())
    found = evaluate_folder(pred, truth, organs=["liver", "stomach"])
    assert found.dsc.cases == ("c0",)
    assert set(found.failures) == {"c1", "c2"}
    assert "another grid" in found.failures["c2"]
    told = " ".join(found.notes)
    assert "1 cases have no prediction and are left out: c3" in told
    assert "no truth and are left out: z" in told
    assert "2 cases could not be evaluated: c1, c2" in told
    assert told.split(":")[0] in caplog.text
    assert found.spurious_ml[0, 8] == pytest.approx(8 * 8 * 5 * 2 / 1000)
    assert evaluation_table(found).rows[8][-1] == "1"
    with_zero = evaluate_folder(pred, truth, missing_as_zero=True, resampled=True)
    assert with_zero.dsc.cases == ("c0", "c2", "c3")
    assert with_zero.dsc.values[2, 4] == 0.0
    assert np.isnan(np.delete(with_zero.dsc.values[2], 4)).all()
    assert 0 < with_zero.dsc.values[1, 4] < 1


def test_other_axis_order_is_turned_not_resampled(folders):
    pred, truth = folders
    write_nifti(truth / "c.nii.gz", label(3, 6), grid())
    turned = to_canonical(Volume(label(3, 6), grid(flip=True)))
    write_nifti(pred / "c.nii.gz", turned.array, turned.grid)
    write_nifti(truth / "d.nii.gz", label(3, 6), grid(flip=True))
    write_nifti(pred / "d.nii.gz", turned.array, turned.grid)
    found = evaluate_folder(pred, truth)
    assert found.dsc.values[1, 2] == 1.0
    assert found.dsc.values[0, 2] == dsc(turned.array, label(3, 6))[2] < 1


def test_case_folders_and_masks_an_organ(folders):
    pred, truth = folders
    (truth / "c").mkdir()
    write_nifti(truth / "c" / "combined_labels.nii.gz", label(1, 8), grid())
    write_nifti(truth / "c" / "ct.nii.gz", label(1).astype(np.int16), grid())
    (pred / "c" / "segmentations").mkdir(parents=True)
    for organ in (1, 8):
        mask = (label(1, 8) == organ).astype(np.uint8)
        write_nifti(pred / "c" / "segmentations" / f"{ORGAN_NAMES[organ - 1]}.nii.gz", mask, grid())
    found = evaluate_folder(pred, truth)
    assert found.dsc.values[0, [0, 7]].tolist() == [1.0, 1.0]


def test_unusable_folders_are_refused(folders, tmp_path):
    pred, truth = folders
    with pytest.raises(EvaluationError, match="no such folder"):
        evaluate_folder(tmp_path / "none", truth)
    with pytest.raises(EvaluationError, match="holds no label map"):
        evaluate_folder(pred, truth)
    save(pred / "a.nii.gz", label(1))
    save(truth / "b.nii.gz", label(1))
    with pytest.raises(EvaluationError, match=r"no case in common.*first is a, there b"):
        evaluate_folder(pred, truth)
    save(truth / "a.nii.gz", label(1) * 52)
    with pytest.raises(EvaluationError, match=r"organ ids 0 to 9.*--truth-dataset"):
        evaluate_folder(pred, truth)
    for name in ("liver", "spleen"):
        save(tmp_path / "one" / f"{name}.nii.gz", label(1))
    with pytest.raises(EvaluationError, match=r"one file an organ.*folder above"):
        evaluate_folder(tmp_path / "one", truth)


def test_what_the_truth_does_not_label_is_not_spurious(folders):
    """As LiTS has livers only: a network's other organs are neither right nor wrong."""
    pred, truth = folders
    for n in range(2):
        save(truth / f"c{n}.nii.gz", label(5))
        save(pred / f"c{n}.nii.gz", label(5, 1, 9))
    found = evaluate_folder(pred, truth)
    assert not found.spurious_ml.any()
    assert "no case of the truth has aorta, stomach" in " ".join(found.notes)
    assert evaluation_table(found).rows[0][-1] == "–"
    told = evaluate_folder(pred, truth, organs=["liver", "aorta"])
    assert (told.spurious_ml > 0).sum(axis=0).tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 0]
    assert [row[-1] for row in evaluation_table(told).rows[:2]] == ["2", "–"]
    assert told.notes == ()


def test_organs_that_are_not_asked_for_are_not_measured(folders):
    pred, truth = folders
    save(truth / "c.nii.gz", label(5, 8))
    save(pred / "c.nii.gz", label(5))
    found = evaluate_folder(pred, truth, organs=["liver"])
    assert np.isnan(found.dsc.values[0, 7])
    assert np.isnan(found.nsd.values[0, 7])
    zero = evaluate_folder(pred, truth, organs=["spleen"], missing_as_zero=True)
    assert zero.dsc.values[0, 7] == 0.0
    assert np.isnan(zero.dsc.values[0, 4])


def masks(folder, *organs, empty=(), shift=0):
    for organ in (*organs, *empty):
        mask = (label(*organs, shift=shift) == organ).astype(np.uint8)
        if organ in empty:
            mask[:] = 0
        save(folder / f"{ORGAN_NAMES[organ - 1]}.nii.gz", mask)


def test_a_truth_without_a_file_of_an_organ_does_not_label_it(folders):
    pred, truth = folders
    masks(truth / "c" / "segmentations", 1, 5, empty=(8,))
    save(pred / "c.nii.gz", label(1, 5, 8, 9))
    found = evaluate_folder(pred, truth)
    assert np.flatnonzero(found.spurious_ml[0]).tolist() == [7], "an empty file: looked for"
    assert np.flatnonzero(found.labeled[0]).tolist() == [0, 4, 7]


def test_a_prediction_without_a_file_of_an_organ_is_noted(folders):
    pred, truth = folders
    for case in ("c1", "c2"):
        save(truth / f"{case}.nii.gz", label(1, 5, 8))
    masks(pred / "c1" / "segmentations", 1, 5)
    masks(pred / "c2" / "segmentations", 1, 5, 8)
    found = evaluate_folder(pred, truth)
    assert found.dsc.values[:, 7].tolist() == [0.0, 1.0]
    assert [note for note in found.notes if note.startswith("spleen: 1 pred")]
    assert "c1" in found.notes[0]
    assert "stomach" not in " ".join(found.notes), "the truth has none"
    assert evaluate_folder(pred, truth, organs=["liver"]).notes == ()


def atlas_1_1():
    """Of the 25 structures of AbdomenAtlas 1.1, three of our nine and two more."""
    whole = label(1, 5, 9)
    whole[14:20, 12:18, 2:6], whole[14:20, 12:18, 8:12] = 25, 14
    return whole


def test_a_truth_of_25_classes_is_read_by_names(folders, tmp_path):
    pred, truth = folders
    whole = atlas_1_1()
    known = np.where(whole <= 9, whole, 0).astype(np.uint8)
    assert set(np.unique(whole)) >= {1, 5, 9, 14, 25}
    save(truth / "c" / "combined_labels.nii.gz", whole)
    for organ in range(1, 10):
        path = truth / "c" / "segmentations" / f"{ORGAN_NAMES[organ - 1]}.nii.gz"
        save(path, (whole == organ).astype(np.uint8))
    save(truth / "c" / "segmentations" / "colon.nii.gz", label(1))
    save(pred / "c.nii.gz", known)
    found = evaluate_folder(pred, truth)
    assert set(found.dsc.values[0][~np.isnan(found.dsc.values[0])]) == {1.0}
    save(tmp_path / "flat" / "c.nii.gz", whole)
    with pytest.raises(EvaluationError, match=r"values up to 25.*AbdomenAtlas 1.1"):
        evaluate_folder(pred, tmp_path / "flat")
    flat = evaluate_folder(pred, tmp_path / "flat", dataset=find_dataset("AbdomenAtlas 1.1"))
    np.testing.assert_array_equal(flat.dsc.values, found.dsc.values)


def test_a_truth_with_the_values_of_its_dataset(folders):
    pred, truth = folders
    save(truth / "c.nii.gz", label(1, 2))  # LiTS: liver, and tumour in it
    save(pred / "c.nii.gz", np.where(label(1, 2), 5, label(9)).astype(np.uint8))
    found = evaluate_folder(pred, truth, dataset=find_dataset("LiTS"))
    assert found.dsc.values[0, 4] == 1.0
    assert not found.spurious_ml.any()
    save(truth / "c.nii.gz", label(1, 7))
    with pytest.raises(EvaluationError, match="value 7 is not in the map of LiTS"):
        evaluate_folder(pred, truth, dataset=find_dataset("LiTS"))


def test_folders_one_level_down(folders, caplog):
    pred, truth = folders
    for n in range(2):
        save(truth / "unpacked" / f"c{n}" / "combined_labels.nii.gz", label(1))
        save(pred / f"c{n}" / "output" / "prediction.nii.gz", label(1))
    found = evaluate_folder(pred, truth)
    assert found.dsc.cases == ("c0", "c1")
    assert f"reading those in {truth / 'unpacked'}" in caplog.text
    masks(pred / "c2" / "labels", 1)
    masks(pred / "c3", 1)
    assert [*find_labels(pred)] == ["c0", "c1", "c2", "c3"]
    save(truth / "other" / "c9.nii.gz", label(1))
    with pytest.raises(EvaluationError, match="folders of label maps: other, unpacked; name one"):
        evaluate_folder(pred, truth)


def test_false_positives_are_counted_by_group(folders, tmp_path):
    """Two pieces in a CT without an aorta, none in another, and one that has it."""
    pred, truth = folders
    for n in range(4):
        save(truth / f"c{n}.nii.gz", label(5, 1) if n == 3 else label(5))
    wrong = label(5)
    wrong[0, 0, 0] = wrong[-1, -1, -1] = 1
    save(pred / "c0.nii.gz", wrong)
    for n in (1, 2, 3):
        save(pred / f"c{n}.nii.gz", label(5, 1) if n > 1 else label(5))
    found = evaluate_folder(pred, truth, organs=["liver", "aorta"])
    assert found.spurious_pieces[:, 0].tolist() == [2, 0, 1, 0]
    sheet = tmp_path / "people.csv"
    sheet.write_text("case,phase\nc0,venous\nc1,venous\nc2,arterial\nc3,arterial\n")
    grouping = group_by(read_sheet(sheet), "phase", found.dsc.cases)
    table = false_positive_table(found, grouping)
    assert table is not None
    assert [row[:6] for row in table.rows] == [
        ("aorta", "all", "3", "2", "66.7", "3"),
        ("aorta", "arterial", "1", "1", "100.0", "1"),
        ("aorta", "venous", "2", "1", "50.0", "2"),
    ]
    assert false_positive_table(evaluate_folder(pred, truth, organs=["liver"])) is None
