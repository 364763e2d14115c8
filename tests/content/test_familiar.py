"""Features of CTs of known phase, noise, coverage and position, and the comparison in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.content.kit import heights

from abdomen_phantom import STANDARD, WIDE, Phantom, generate
from abdomen_phantom.patient import draw_hard_cases
from abdomen_phantom.setting import Dice
from atlas8k.content.familiar import (
    LIKE,
    RANGE_FILE,
    UNKNOWN,
    compare,
    line_text,
    read_ranges,
    trained_ranges,
)
from atlas8k.content.features import (
    estimate_position,
    measure,
    noise_hu,
    thinned,
)
from atlas8k.core.errors import SettingsError
from atlas8k.core.files import write_json
from atlas8k.core.grid import Grid, Volume


def features(made: Phantom | tuple[Volume, Volume]) -> dict[str, float | str | None]:
    ct, label = (made.ct, made.label) if isinstance(made, Phantom) else made
    return measure(ct, label.array[None], label.grid)[0]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return generate(3, STANDARD, grid_spacing_mm=4.0)


@pytest.mark.parametrize("sigma", [5.0, 20.0, 60.0])
def test_noise_is_that_of_homogeneous_tissue(sigma: float) -> None:
    """White noise in a cube of water among air; edges and air count for nothing."""
    array = np.full((120, 120, 20), -1000.0)
    array[20:100, 20:100] = 50.0
    array += np.random.default_rng(0).normal(0, sigma, array.shape)
    found = noise_hu(Volume(array, Grid(array.shape, np.diag([0.8, -0.8, 3.0, 1.0]))))
    assert found == pytest.approx(sigma, rel=0.1)
    assert noise_hu(Volume(np.full((9, 9, 9), -1000.0), Grid((9, 9, 9), np.eye(4)))) is None


def test_coverage_names_where_organs_are_cut(phantom: Phantom) -> None:
    assert features(phantom)["coverage"] == "whole"
    for low, high, said in ((0.0, 0.6, "cut above"), (0.6, 1.0, "cut below")):
        half = heights(phantom.ct, low, high), heights(phantom.label, low, high)
        assert features(half)["coverage"] == said
    n = phantom.ct.grid.shape
    box = (slice(0, n[0] // 2), slice(0, n[1]), slice(0, n[2]))
    side = [Volume(one.array[box], one.grid.crop(box)) for one in (phantom.ct, phantom.label)]
    assert "at a side" in str(features((side[0], side[1]))["coverage"])


def test_nobody_lies_on_the_face_who_does_not_and_a_turned_body_is_seen(phantom: Phantom) -> None:
    assert estimate_position(thinned(phantom.ct)) == "on the back"
    seeds = [s for s in range(400) if "prone" in draw_hard_cases(Dice(s, WIDE), WIDE)][:3]
    for seed in seeds:
        found = estimate_position(thinned(generate(seed, WIDE, grid_spacing_mm=4.0).ct))
        assert found in ("on the face", "unsure"), seed
    turned = Volume(phantom.ct.array[::-1, ::-1], phantom.ct.grid)
    assert estimate_position(thinned(turned)) == "spine in front"


def test_a_feature_is_compared_with_its_range_and_a_word_with_its_share() -> None:
    rows = [{"noise_hu": float(n), "phase": "arterial"} for n in range(4, 27)]
    ranges = trained_ranges([*rows, {"noise_hu": None, "phase": "delayed"}], "made up")
    assert ranges["rows"] == 24
    good = compare({"noise_hu": 10.0, "phase": "arterial", "position": None}, ranges)
    assert (good["like"], good["text"], good["unlike"]) == (True, LIKE, [])
    bad = compare({"noise_hu": 45.0, "phase": "delayed"}, ranges)
    assert bad["like"] is False
    assert bad["text"] == (
        "unlike: contrast phase delayed, 4 % of the training CTs; noise 45 HU, trained 4 to 26"
    )
    unknown = compare({"noise_hu": 45.0}, None)
    assert (unknown["like"], unknown["text"]) == (None, UNKNOWN)
    noise = next(one for one in unknown["features"] if one["name"] == "noise_hu")
    assert line_text(noise) == "noise 45 HU"


def test_more_agreement_and_more_organs_are_never_unlike() -> None:
    ranges = trained_ranges([{"agreement": 0.6, "organs": 7.0}, {"agreement": 0.8}], "made up")
    assert compare({"agreement": 0.99, "organs": 9.0}, ranges)["like"] is True
    assert compare({"agreement": 0.5}, ranges)["like"] is False
    assert compare({"agreement": 0.5}, ranges)["invented"] is None
    assert compare({"agreement": 0.2}, ranges)["invented"] is not None


def test_an_altered_ct_is_told_as_such(phantom: Phantom) -> None:
    others = [features(generate(3 + i, STANDARD, grid_spacing_mm=4.0)) for i in range(6)]
    ranges = trained_ranges([features(phantom), *others], "phantoms")
    noise = np.random.default_rng(0).normal(0, 60, phantom.ct.array.shape)
    noisy = Volume(phantom.ct.array + noise, phantom.ct.grid)
    (said,) = compare(features((noisy, phantom.label)), ranges)["unlike"]
    assert said.startswith("noise ")
    half = heights(phantom.ct, 0.0, 0.5), heights(phantom.label, 0.0, 0.5)
    unlike = "; ".join(compare(features(half), ranges)["unlike"])
    assert "cut above, none of the training CTs" in unlike
    assert "height" in unlike


def test_ranges_are_read_back_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert read_ranges(tmp_path) is None
    ranges = trained_ranges([{"noise_hu": 4.0}], "made up")
    write_json(tmp_path / RANGE_FILE, ranges)
    assert read_ranges(tmp_path) == ranges
    (tmp_path / RANGE_FILE).write_text("[]")
    with pytest.raises(SettingsError, match=RANGE_FILE):
        read_ranges(tmp_path)
