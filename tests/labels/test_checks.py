"""Anatomical rules on phantoms: truth breaks none of them, injected errors are found."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import ndimage

from abdomen_phantom import generate
from atlas8k.core.findings import Finding
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.labels import checks, plausibility
from atlas8k.labels.checks import check_label, label_findings


@pytest.fixture(scope="module")
def truth() -> tuple[np.ndarray, Grid]:
    phantom = generate(1000, grid_spacing_mm=4.0)
    return phantom.label.array, phantom.label.grid


def of_rule(findings: list[Finding], rule: str) -> list[Finding]:
    return [finding for finding in findings if finding.rule == rule]


def swapped(array: np.ndarray, one: str, two: str) -> np.ndarray:
    out = array.copy()
    out[array == ORGAN_IDS[one]] = ORGAN_IDS[two]
    out[array == ORGAN_IDS[two]] = ORGAN_IDS[one]
    return out


@pytest.mark.parametrize("seed", range(1000, 1012))
def test_true_labels_break_none_of_the_rules_that_phantoms_follow(seed: int) -> None:
    """Phantoms' stomachs lie against what is behind them, and surfaces shed specks."""
    phantom = generate(seed, grid_spacing_mm=4.0)
    findings = check_label(phantom.label.array, phantom.label.grid)
    assert {f.rule for f in findings} <= {"pieces", "touching"}
    assert {f.organ for f in of_rule(findings, "touching")} <= {"stomach"}


def test_swapped_kidneys(truth: tuple[np.ndarray, Grid]) -> None:
    array, grid = truth
    findings = check_label(swapped(array, "kidney_left", "kidney_right"), grid)
    assert [f.organ for f in of_rule(findings, "laterality")] == ["kidney_left"]
    (mirrored,) = of_rule(findings, "mirrored")
    assert mirrored.organ == "kidney_left"
    assert re.search(r"lies (8[1-9]|9\d|1\d\d) mm to the right of kidney_right", mirrored.text)


def test_a_mirrored_label_and_only_that(truth: tuple[np.ndarray, Grid]) -> None:
    array, grid = truth
    findings = check_label(array[::-1], grid)
    assert [f.organ for f in of_rule(findings, "mirrored")] == ["kidney_left", "spleen"]
    affine = grid.affine.copy()
    affine[0] *= -1
    # Voxels and affine both turned: the same patient.
    assert not of_rule(check_label(array[::-1], Grid(grid.shape, affine)), "mirrored")


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("down", [False, True])
def test_an_aorta_that_is_missing_above(
    truth: tuple[np.ndarray, Grid], axes: tuple[int, ...], down: bool
) -> None:
    array, grid = truth
    slices = np.flatnonzero((array == ORGAN_IDS["postcava"]).any((0, 1)))
    top = slices[-len(slices) // 4 :]
    cut = array.copy()
    above = cut[:, :, top[0] :]
    above[above == ORGAN_IDS["aorta"]] = 0
    affine = grid.affine.copy()
    if down:
        cut = cut[:, :, ::-1]
        affine[:, 3] += affine[:, 2] * (array.shape[2] - 1)
        affine[:, 2] *= -1
    turned = cut.transpose(axes)
    affine = np.column_stack([affine[:, list(axes)], affine[:, 3]])
    (gap,) = of_rule(check_label(turned, Grid(turned.shape, affine)), "gap")
    assert gap.organ == "aorta"
    assert gap.text.startswith(f"{len(top)} slices ({len(top) / len(slices):.0%})")


def test_an_aorta_that_ends_far_too_early(truth: tuple[np.ndarray, Grid]) -> None:
    array, grid = truth
    cut = array.copy()
    below = cut[:, :, : array.shape[2] // 2]
    below[below == ORGAN_IDS["aorta"]] = 0
    (gap,) = of_rule(check_label(cut, grid), "gap")
    assert re.search(r"\(([4-9]\d|100)%\)", gap.text)


def test_organs_that_must_not_meet(truth: tuple[np.ndarray, Grid]) -> None:
    array, grid = truth
    leaked = np.where(array == ORGAN_IDS["stomach"], 0, array)
    assert not of_rule(check_label(leaked, grid), "touching")
    index = np.argwhere(array == ORGAN_IDS["kidney_left"])
    x, y, z = index[np.argmax(index[:, 0])]
    leaked[x + 1 : x + 4, y - 1 : y + 2, z - 1 : z + 2] = ORGAN_IDS["stomach"]
    (found,) = of_rule(check_label(leaked, grid), "touching")
    assert found.organ == "stomach"
    assert found.text.startswith("stomach and kidney_left meet in ")


def test_an_aorta_that_ends_below_the_dome_of_the_liver_lacks_its_upper_end() -> None:
    array = np.zeros((40, 40, 60), np.uint8)
    array[25:38, 5:35, 20:50] = ORGAN_IDS["liver"]
    array[15:18, 8:11, 5:40] = ORGAN_IDS["postcava"]
    array[8:12, 8:11, 5:52] = ORGAN_IDS["aorta"]
    grid = Grid(array.shape, np.diag([3.0, 3.0, 3.0, 1.0]))
    assert of_rule(check_label(array, grid), "gap") == []
    short = array.copy()
    short[8:12, 8:11, 44:] = 0  # the postcava ends lower still
    (gap,) = of_rule(check_label(short, grid), "gap")
    assert gap.text.startswith("6 slices")
    # A liver that reaches further down than the vessels are drawn lacks nothing.
    low = array.copy()
    low[8:18, 8:11, :25] = 0
    low[25:38, 5:35, :20] = ORGAN_IDS["liver"]  # 75 mm below where both vessels begin
    assert of_rule(check_label(low, grid), "gap") == []


def test_a_few_voxels_between_liver_and_aorta_are_nothing() -> None:
    array = np.zeros((20, 20, 20), np.uint8)
    array[:10] = ORGAN_IDS["liver"]
    array[10:, :2, :5] = ORGAN_IDS["aorta"]
    assert not check_label(array, Grid(array.shape, np.eye(4)))
    array[10:, :2, :6] = ORGAN_IDS["aorta"]
    (found,) = check_label(array, Grid(array.shape, np.eye(4)))
    assert (found.rule, found.text) == ("touching", "liver and aorta meet in 12 voxels")


def test_small_pieces(truth: tuple[np.ndarray, Grid]) -> None:
    array, grid = truth
    before = {f.organ for f in of_rule(check_label(array, grid), "pieces")}
    assert "spleen" not in before
    dirty = array.copy()
    dirty[40:43, 5:8, 30:33] = ORGAN_IDS["spleen"]
    dirty[50:52, 5, 40] = ORGAN_IDS["spleen"]
    dirty[60, 5, 40] = ORGAN_IDS["spleen"]  # 0.064 ml: a speck is none
    (found,) = [f for f in of_rule(check_label(dirty, grid), "pieces") if f.organ == "spleen"]
    assert found.text.startswith("spleen has 2 small pieces of ")
    # At the border it may be the tip of something larger outside.
    dirty = array.copy()
    dirty[40:43, 5:8, :3] = ORGAN_IDS["spleen"]
    assert {f.organ for f in of_rule(check_label(dirty, grid), "pieces")} == before


def test_situs_inversus_is_asked_about_once_and_not_by_what_follows(
    truth: tuple[np.ndarray, Grid],
) -> None:
    array, grid = truth
    patient = swapped(array[::-1], "kidney_left", "kidney_right")  # each on its side, as named
    rules = {(one.organ, one.rule) for one in label_findings(patient, grid)}
    assert ("spleen", "mirrored") in rules
    assert not {rule for _, rule in rules} & {"laterality"}
    # A spleen that lies against the right kidney is what such patients have.
    leaned = patient.copy()
    at = np.argwhere(leaned == ORGAN_IDS["kidney_right"])
    x, y, z = at[np.argmax(at[:, 0])]
    leaned[x + 1 : x + 3, y, z] = ORGAN_IDS["spleen"]
    assert ("spleen", "touching") not in {
        (one.organ, one.rule) for one in label_findings(leaned, grid)
    }


def test_an_organ_that_the_image_cuts_may_be_too_large_but_not_too_small() -> None:
    grid = Grid((80, 60, 60), np.diag([4.0, 4.0, 4.0, 1.0]))
    large = np.zeros(grid.shape, np.uint8)
    large[:40, 10:40, 10:40] = ORGAN_IDS["kidney_right"]  # 2.3 l, cut at the side
    assert [one.organ for one in of_rule(label_findings(large, grid), "unusual")] == [
        "kidney_right"
    ]
    small = np.zeros(grid.shape, np.uint8)
    small[:6, 10:16, 10:16] = ORGAN_IDS["kidney_right"]  # 14 ml
    assert of_rule(label_findings(small, grid), "unusual") == []


def test_nothing_there_breaks_no_rule(truth: tuple[np.ndarray, Grid]) -> None:
    assert check_label(np.zeros_like(truth[0]), truth[1]) == []


@pytest.mark.parametrize("seed", range(1000, 1006))
def test_all_that_anatomy_has_against_a_true_label_is_what_phantoms_do(seed: int) -> None:
    phantom = generate(seed, grid_spacing_mm=4.0)
    found = label_findings(phantom.label.array, phantom.label.grid)
    assert {one.rule for one in found} <= {"pieces", "touching"}


def test_every_organ_and_rule_is_said_once(truth: tuple[np.ndarray, Grid]) -> None:
    array, grid = truth
    found = label_findings(array[::-1], grid)
    keys = [(one.organ, one.rule) for one in found]
    assert len(keys) == len(set(keys))
    assert {("kidney_left", "mirrored"), ("spleen", "mirrored")} <= set(keys)


def test_a_volume_that_hardly_anybody_has_is_a_finding(truth: tuple[np.ndarray, Grid]) -> None:
    array, grid = truth
    small = array.copy()
    where = np.argwhere(array == ORGAN_IDS["spleen"])
    small[tuple(where[100:].T)] = 0  # 6.4 ml: more than nobody's, less than hardly anybody's
    (one,) = of_rule(label_findings(small, grid), "unusual")
    assert one.organ == "spleen"
    assert "6.4 ml; 27.9 to 1,779.6 are plausible" in one.text
    none = small.copy()
    none[tuple(where[5:].T)] = 0  # 0.3 ml: impossible, and said once
    rules = {one.rule for one in label_findings(none, grid) if one.organ == "spleen"}
    assert "volume" in rules
    assert "unusual" not in rules


def test_a_map_is_read_once_and_organs_within_their_boxes(
    truth: tuple[np.ndarray, Grid], monkeypatch: pytest.MonkeyPatch
) -> None:
    array, grid = truth
    bodies, labelled = [], []
    of, components = plausibility.Body.of.__func__, checks.label_components

    def counted(cls, array, *args, **kwargs):
        bodies.append(array.size)
        return of(cls, array, *args, **kwargs)

    def measured(mask):
        labelled.append(mask.size)
        return components(mask)

    monkeypatch.setattr(plausibility.Body, "of", classmethod(counted))
    monkeypatch.setattr(checks, "label_components", measured)
    monkeypatch.setattr(plausibility, "label_components", measured)
    label_findings(array, grid)
    assert bodies == [array.size]
    boxes = sum(
        int(np.prod([s.stop - s.start for s in box]))
        for box in ndimage.find_objects(array)
        if box is not None
    )
    assert sum(labelled) <= 2 * boxes
