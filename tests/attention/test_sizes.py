"""The fused kernels against the plain equations, and what must not change a size."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.attention.reference import exact_sizes

from atlas8k.attention import AttentionSizes, attention_sizes, slabs
from atlas8k.attention.probabilities import CODE_ERROR, LEVELS
from atlas8k.attention.slabs import quantise
from atlas8k.core.errors import AttentionError
from atlas8k.core.structures import ORGAN_NAMES

TERMS = ("inconsistency_ml", "uncertainty_ml", "overlap_per_network_ml", "overlap_any_ml",
         "mean_entropy_ml")  # fmt: skip


def predictions(
    seed: int = 0, models: int = 3, shape: tuple[int, int, int] = (9, 8, 23), dtype=np.float16
) -> np.ndarray:
    """Probabilities mostly near 0 and 1, with exact zeros, ones and halves."""
    rng = np.random.default_rng(seed)
    p = rng.random((models, 9, *shape)) ** rng.choice([0.2, 1, 6, 30], (1, 9, *shape))
    p[rng.random(p.shape) < 0.2] = 0
    p[rng.random(p.shape) < 0.1] = 1
    p[rng.random(p.shape) < 0.05] = 0.5
    return p.astype(dtype)


def total(by_organ: dict[str, float]) -> float:
    return sum(by_organ.values())


def assert_close(a: AttentionSizes, b: AttentionSizes, rel: float) -> None:
    for term in TERMS:
        assert getattr(a, term) == pytest.approx(getattr(b, term), rel=rel, abs=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("models", [1, 2, 3, 4])
@pytest.mark.parametrize("overlap", ["per_network", "any"])
def test_kernels_are_the_equations(dtype, models, overlap) -> None:
    probs = predictions(models=models, dtype=dtype)
    fast = attention_sizes(probs, 0.003375, overlap=overlap)
    exact = exact_sizes(probs, 0.003375, overlap)
    assert_close(fast, exact, 1e-5)
    assert fast.total_ml == pytest.approx(exact.total_ml, rel=1e-6)
    assert fast.peak == pytest.approx(exact.peak, abs=1e-6)
    if models == 1:
        assert total(fast.inconsistency_ml) == 0


def test_terms_add_up_and_both_overlaps_are_reported() -> None:
    probs = predictions()
    own = attention_sizes(probs, 1.0)
    across = attention_sizes(probs, 1.0, overlap="any")
    assert own.overlap_any_ml == across.overlap_any_ml == across.overlap_ml
    assert own.total_ml == pytest.approx(
        total(own.inconsistency_ml) + total(own.uncertainty_ml) + total(own.overlap_ml)
    )
    gap = total(across.overlap_ml) - total(own.overlap_ml)
    assert gap > 0
    assert across.total_ml - own.total_ml == pytest.approx(gap)


def test_separate_networks_are_one_array(tmp_path) -> None:
    probs = predictions()
    whole = attention_sizes(probs, 1.0)
    assert attention_sizes(list(probs), 1.0) == whole
    np.save(tmp_path / "probs.npy", probs)
    mapped = np.load(tmp_path / "probs.npy", mmap_mode="r")
    assert attention_sizes([mapped[n] for n in range(3)], 1.0) == whole
    assert attention_sizes(probs[:, :, ::-1], 1.0).total_ml == pytest.approx(whole.total_ml)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_threads_change_nothing(workers, monkeypatch: pytest.MonkeyPatch) -> None:
    probs = predictions(shape=(40, 33, 37))
    one = attention_sizes(probs, 1.0).attention_ml
    monkeypatch.setattr(slabs, "workers", lambda: workers)
    assert attention_sizes(probs, 1.0).attention_ml == pytest.approx(one, rel=1e-6)


# Examples are drawn slowly where other work has the cores; nothing depends on it.
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 10**6)


@quick
@given(seeds, st.permutations(range(3)))
def test_permuting_models_changes_nothing(seed, order) -> None:
    probs = predictions(seed)
    assert_close(attention_sizes(probs[list(order)], 1.0), attention_sizes(probs, 1.0), 1e-5)


@quick
@given(seeds, st.permutations(range(9)))
def test_permuting_organs_permutes(seed, order) -> None:
    probs = predictions(seed)
    names = [ORGAN_NAMES[k] for k in order]
    permuted = attention_sizes(probs[:, list(order)], 1.0, organs=names)
    assert_close(permuted, attention_sizes(probs, 1.0), 1e-6)


@quick
@given(seeds, st.integers(1, 5))
def test_networks_that_are_sure_of_the_same_have_no_attention(seed, models) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, (5, 6, 7))
    one = (labels == np.arange(1, 10)[:, None, None, None]).astype(np.float16)
    assert attention_sizes(np.stack([one] * models), 1.0).total_ml == 0


@quick
@given(seeds, st.integers(2, 5))
def test_identical_networks_are_consistent(seed, models) -> None:
    one = predictions(seed, models=1)[0]
    sizes = attention_sizes(np.stack([one] * models), 1.0)
    assert total(sizes.inconsistency_ml) == 0
    assert total(sizes.uncertainty_ml) > 0


@quick
@given(seeds, st.floats(1e-3, 1e3))
def test_sizes_scale_with_the_voxel(seed, voxel_ml) -> None:
    probs = predictions(seed)
    assert attention_sizes(probs, voxel_ml).total_ml == pytest.approx(
        voxel_ml * attention_sizes(probs, 1.0).total_ml
    )


@quick
@given(seeds, st.integers(0, 3), st.integers(0, 40))
def test_padding_with_zeros_changes_nothing(seed, before, after) -> None:
    probs = predictions(seed)
    padded = np.pad(probs, [(0, 0), (0, 0), (before, after), (after, before), (before, before)])
    assert_close(attention_sizes(padded, 1.0), attention_sizes(probs, 1.0), 1e-5)


def test_what_is_left_out_is_bounded_by_what_is_said() -> None:
    haze = np.full((3, 9, 16, 16, 16), 5e-7, dtype=np.float32)
    haze[0] = 1e-7
    fast, exact = attention_sizes(haze, 1.0), exact_sizes(haze, 1.0)
    assert fast.total_ml == 0
    assert exact.total_ml <= fast.left_out_ml <= 2 * exact.total_ml
    assert attention_sizes(predictions(), 1.0).left_out_ml == 0


@pytest.mark.parametrize("floor", [0.0, 1e-3, 0.02])
def test_codes_give_the_sizes_within_one_per_cent(floor) -> None:
    probs = predictions(shape=(16, 16, 16))
    coded = quantise(probs, floor=floor)
    sizes, exact = attention_sizes(coded, 1.0), exact_sizes(probs, 1.0)
    assert sizes.overlap_per_network_ml == exact.overlap_per_network_ml
    assert sizes.overlap_any_ml == exact.overlap_any_ml
    assert_close(sizes, exact, 0.01)
    assert_close(sizes, exact_sizes(coded, 1.0), 1e-5)


def test_a_codes_error_stays_within_its_bound_at_every_voxel() -> None:
    probs = predictions()
    change = np.abs(quantise(probs, floor=0).probabilities() - probs.astype(np.float32))
    assert change.max() <= CODE_ERROR * (1 + 1e-6)


def test_every_half_gets_the_nearest_code_and_the_right_side_of_one_half() -> None:
    every = np.arange(0x3C01, dtype=np.uint16).view(np.float16)
    codes = quantise(every.reshape(1, 1, -1, 1, 1), floor=0, organs=["x"]).codes.ravel()
    values = every.astype(np.float64)
    assert np.array_equal(codes >= 128, values > 0.5)
    gap = np.abs(LEVELS[codes] - values)
    nearest = np.abs(LEVELS[None] - values[:, None]).min(axis=1)
    assert np.allclose(gap, nearest, rtol=0, atol=2e-7)
    assert codes[0] == 0
    assert codes[-1] == 255


def test_single_precision_around_one_half() -> None:
    half = np.float32(0.5)
    below, above = np.nextafter(half, np.float32(0)), np.nextafter(half, np.float32(1))
    around = np.array([below, half, above])
    codes = quantise(around.reshape(1, 1, 3, 1, 1), organs=["x"]).codes
    assert codes.ravel().tolist() == [127, 127, 128]


@quick
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50))
def test_any_single_gets_the_nearest_code(values) -> None:
    p = np.array(values, dtype=np.float32)
    codes = quantise(p.reshape(1, 1, -1, 1, 1), floor=0, organs=["x"]).codes.ravel()
    gap = np.abs(LEVELS[codes] - p)
    assert np.allclose(gap, np.abs(LEVELS[None] - p[:, None]).min(axis=1), rtol=0, atol=2e-7)
    assert np.array_equal(codes >= 128, p > 0.5)


def corrupt(value: float, dtype=np.float16) -> np.ndarray:
    probs = predictions(dtype=dtype, shape=(9, 40, 41))
    probs[1, 4, 7, 39, 5] = value
    return probs


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5, np.inf, -np.inf])
def test_no_probability_is_an_error_that_names_the_volume(dtype, value) -> None:
    with pytest.raises(AttentionError, match="BDMAP_7") as caught:
        attention_sizes(corrupt(value, dtype), 1.0, name="BDMAP_7")
    assert ("NaN" if np.isnan(value) else "0..1") in str(caught.value)
    with pytest.raises(AttentionError, match="BDMAP_7"):
        quantise(corrupt(value, dtype), name="BDMAP_7")


@pytest.mark.parametrize(("value", "taken_as"), [(1.00005, 1.0), (-1e-5, 0.0), (-0.0, 0.0)])
def test_rounding_beyond_the_ends_is_taken_as_the_end(value, taken_as) -> None:
    a, b = corrupt(value, np.float32), corrupt(taken_as, np.float32)
    assert attention_sizes(a, 1.0) == attention_sizes(b, 1.0)
    assert np.array_equal(quantise(a).codes, quantise(b).codes)


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        (np.zeros((9, 4, 4, 4), np.float16), "models, organs"),
        (np.zeros((3, 10, 4, 4, 4), np.float16), "10 organs"),
        (np.zeros((0, 9, 4, 4, 4), np.float16), "no network"),
        (np.zeros((3, 9, 4, 4, 0), np.float16), "empty"),
        (np.zeros((3, 9, 4, 4, 4), np.int16), "int16"),
        ([np.zeros((9, 4, 4, 4), np.float16), np.zeros((9, 4, 4, 5), np.float16)], "one grid"),
        ([np.zeros((9, 4, 4, 4), np.float16), "unet.npy"], "network 2 of 2"),
    ],
)
def test_wrong_shapes_are_errors(probs, message) -> None:
    with pytest.raises(AttentionError, match=message):
        attention_sizes(probs, 1.0)


@pytest.mark.parametrize("voxel_ml", [0.0, -1.0, np.nan, np.inf])
def test_a_voxel_has_a_volume(voxel_ml) -> None:
    with pytest.raises(AttentionError, match="ml"):
        attention_sizes(predictions(), voxel_ml)


def test_as_dict_is_json() -> None:
    import json

    sizes = attention_sizes(predictions(), 0.003375)
    again = json.loads(json.dumps(sizes.as_dict()))
    assert again["attention_ml"] == sizes.attention_ml
    assert again["total_ml"] == sizes.total_ml
