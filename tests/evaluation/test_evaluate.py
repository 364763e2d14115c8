import numpy as np
import pytest

from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.evaluate import evaluate_folder, evaluation_table
from atlas8k.evaluation.overlap import dsc
from atlas8k.organs import ORGAN_NAMES
from atlas8k.volume import Grid, Volume, to_canonical, write_nifti

SHAPE = (24, 20, 16)


def grid(spacing=(1.0, 1.0, 2.0), flip=False):
    affine = np.diag([*spacing, 1.0])
    if flip:
        affine[0, 0] *= -1
        affine[0, 3] = spacing[0] * (SHAPE[0] - 1)
    return Grid(SHAPE, affine)


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
    found = evaluate_folder(pred, truth)
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
    write_nifti(pred / "a.nii.gz", label(1), grid())
    write_nifti(truth / "b.nii.gz", label(1), grid())
    with pytest.raises(EvaluationError, match=r"no case in common.*first is a, there b"):
        evaluate_folder(pred, truth)
    write_nifti(truth / "a.nii.gz", label(1) * 52, grid())
    with pytest.raises(EvaluationError, match="organ ids 0 to 9"):
        evaluate_folder(pred, truth)
