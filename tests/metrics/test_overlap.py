import numpy as np
import pytest

from atlas8k.core.errors import GridMismatchError, VolumeError
from atlas8k.metrics.overlap import counts, dsc


def cube(at: int, organ: int) -> np.ndarray:
    label = np.zeros((20, 20, 20), np.uint8)
    label[at : at + 8, 4:12, 4:12] = organ
    return label


@pytest.mark.parametrize("shift", range(9))
def test_shifted_cube_has_closed_form(shift):
    value = dsc(cube(2 + shift, 5), cube(2, 5))
    assert value[4] == pytest.approx((8 - shift) / 8)
    assert np.isnan(np.delete(value, 4)).all()


def test_organ_the_truth_lacks_is_nan_and_counted():
    result = counts(cube(2, 3), cube(2, 4))
    assert np.isnan(result.dsc[2])
    assert result.dsc[3] == 0.0
    assert result.spurious.tolist() == [0, 0, 512, 0, 0, 0, 0, 0, 0]


def test_agrees_with_set_arithmetic():
    rng = np.random.default_rng(0)
    pred, truth = rng.integers(0, 10, (2, 17, 19, 23)).astype(np.uint8)
    want = [
        2 * np.sum((pred == k) & (truth == k)) / (np.sum(pred == k) + np.sum(truth == k))
        for k in range(1, 10)
    ]
    np.testing.assert_allclose(dsc(pred, truth), want, rtol=1e-15)
    np.testing.assert_array_equal(
        dsc(np.asfortranarray(pred), np.asfortranarray(truth)), dsc(pred, truth)
    )
    np.testing.assert_array_equal(dsc(np.asfortranarray(pred), truth), dsc(pred, truth))


def test_dice_is_symmetric_where_both_have_the_organ():
    rng = np.random.default_rng(1)
    pred, truth = rng.integers(0, 10, (2, 12, 12, 12)).astype(np.int16)
    np.testing.assert_array_equal(dsc(pred, truth), dsc(truth, pred))


def test_other_shape_or_ids_are_refused():
    with pytest.raises(GridMismatchError, match="resample"):
        dsc(np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(VolumeError, match="0 to 52"):
        dsc(cube(2, 52), cube(2, 1))
    with pytest.raises(VolumeError, match="-1"):
        dsc(cube(2, 1), -cube(2, 1).astype(np.int8))
