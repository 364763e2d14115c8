"""CTs painted on label maps: their truth, densities, sides, layouts; the same for the same seed."""

from __future__ import annotations

import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from abdomen_phantom.bodies import paint_body, read_bodies, read_body, read_organs, subjects
from abdomen_phantom.bodies.label_maps import add_discs, depths, hull_distance
from abdomen_phantom.bodies.shape import mix
from abdomen_phantom.bodies.tissues import ORGAN_OF, Tissue, tissue_of
from atlas8k.core.errors import VolumeError
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, write_nifti

DATA = Path(os.environ.get("ATLAS8K_DATA", Path(__file__).parents[3] / "shared" / "data"))
REAL = DATA / "totalsegmentator-bodies"

STRUCTURES = {
    # name: (centre mm RAS, radius mm, half length along z or None for a ball)
    "liver": ((55, 10, 0), 55, None),
    "spleen": ((-75, -15, 20), 30, None),
    "kidney_left": ((-45, -35, -40), 22, None),
    "kidney_right": ((45, -35, -50), 22, None),
    "stomach": ((-45, 35, 10), 28, None),
    "gallbladder": ((25, 45, -35), 12, None),
    "pancreas": ((-5, 15, -15), 14, None),
    "aorta": ((-10, -25, 0), 10, 120),
    "inferior_vena_cava": ((14, -22, 0), 10, 120),
    "vertebrae_L1": ((0, -60, 0), 20, 12),
    "vertebrae_L2": ((0, -60, 32), 20, 12),
    "rib_left_9": ((-110, 0, 0), 6, 40),
    "rib_right_9": ((110, 0, 0), 6, 40),
}
SPACING = 3.0
SHAPE = (86, 60, 90)


def structure(name: str) -> np.ndarray:
    """The mask of one structure of a made-up person, ``(X, Y, Z)``."""
    (x, y, z), radius, half = STRUCTURES[name]
    grid = _grid()
    places = [grid.affine[i, 3] + SPACING * np.arange(n) for i, n in enumerate(SHAPE)]
    dx, dy, dz = np.meshgrid(places[0] - x, places[1] - y, places[2] - z, indexing="ij")
    if half is None:
        return dx**2 + dy**2 + dz**2 <= radius**2
    return (dx**2 + dy**2 <= radius**2) & (abs(dz) <= half)


def _grid() -> Grid:
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = [-SPACING * (n - 1) / 2 for n in SHAPE]
    return Grid(SHAPE, affine)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Subjects in the layout of one map each: a person, and one without any organ."""
    out = tmp_path_factory.mktemp("maps")
    names = sorted(STRUCTURES)
    rows = "".join(f"{i},{name}\n" for i, name in enumerate(names, 1))
    (out / "structures.csv").write_text("value,structure\n" + rows)
    for subject, chosen in (("p1", names), ("p2", ["rib_left_9", "vertebrae_L1"])):
        label = np.zeros(SHAPE, np.uint8)
        for name in chosen:
            label[structure(name)] = names.index(name) + 1
        write_nifti(out / f"{subject}_structures.nii.gz", label, _grid())
    return out


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """The same person as the dataset is published, stored with the first axis to the left."""
    out = tmp_path_factory.mktemp("published")
    segmentations = out / "p1" / "segmentations"
    segmentations.mkdir(parents=True)
    grid = _grid()
    affine = grid.affine.copy()
    affine[0] = [-SPACING, 0, 0, -affine[0, 3]]
    for name in STRUCTURES:
        mask = structure(name)[::-1].astype(np.uint8)
        write_nifti(segmentations / f"{name}.nii.gz", mask, Grid(SHAPE, affine))
    return out


@pytest.fixture(scope="module")
def person(folder):
    return read_bodies(folder, ["p1"])


def centre(volume, organ: str) -> np.ndarray:
    """Of an organ, mm RAS."""
    where = np.argwhere(volume.array == ORGAN_IDS[organ])
    return (volume.grid.affine @ [*where.mean(axis=0), 1.0])[:3]


def test_both_layouts_are_the_same_body(folder, published):
    one = read_body(subjects(folder)["p1"], "p1")
    other = read_body(subjects(published)["p1"], "p1")
    assert one.holds == other.holds == frozenset(range(1, 10))
    # Where two structures touch, the alphabetically later one stands in either layout.
    assert (one.tissue != other.tissue).mean() < 1e-4  # places half-way between two voxels
    assert list(subjects(published)) == ["p1"]


def test_a_value_and_a_structure_nobody_knows_are_refused_by_name(folder, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    label = np.full(SHAPE, 99, np.uint8)
    write_nifti(bad / "p_structures.nii.gz", label, _grid())
    with pytest.raises(VolumeError, match=r"structures\.csv"):
        read_bodies(bad)
    (bad / "structures.csv").write_text("value,structure\n1,liver\n")
    with pytest.raises(VolumeError, match="99"):
        read_bodies(bad)
    (bad / "structures.csv").write_text("value,structure\n99,appendix\n")
    with pytest.raises(VolumeError, match="appendix"):
        read_bodies(bad)
    with pytest.raises(VolumeError, match="p9"):
        read_bodies(folder, ["p9"])
    with pytest.raises(VolumeError, match="no such folder"):
        read_bodies(tmp_path / "nowhere")


def test_structures_on_different_grids_are_refused(tmp_path):
    segmentations = tmp_path / "p" / "segmentations"
    segmentations.mkdir(parents=True)
    mask = structure("liver").astype(np.uint8)
    write_nifti(segmentations / "liver.nii.gz", mask, _grid())
    write_nifti(segmentations / "spleen.nii.gz", mask[:-1], Grid((85, 60, 90), _grid().affine))
    with pytest.raises(VolumeError, match=r"spleen.*grid of liver"):
        read_bodies(tmp_path)


def test_every_structure_of_the_dataset_has_a_tissue():
    table = REAL / "structures.csv"
    if not table.is_file():
        pytest.skip(f"{table} is not there")
    names = [line.split(",")[1] for line in table.read_text().split()[1:]]
    assert len(names) == 117
    assert [name for name in names if tissue_of(name) is None] == []
    organs = {name: int(ORGAN_OF[tissue_of(name)]) for name in names}
    assert {name: organ for name, organ in organs.items() if organ} == {
        "aorta": 1,
        "gallbladder": 2,
        "kidney_left": 3,
        "kidney_cyst_left": 3,
        "kidney_right": 4,
        "kidney_cyst_right": 4,
        "liver": 5,
        "pancreas": 6,
        "inferior_vena_cava": 7,
        "spleen": 8,
        "stomach": 9,
    }


def test_organs_of_a_map_are_on_its_own_grid(folder, published):
    for path in (subjects(folder)["p1"], subjects(published)["p1"]):
        organs = read_organs(path)
        assert organs.grid.shape == SHAPE
        assert centre(organs, "liver") == pytest.approx((55, 10, 0), abs=6)
        assert centre(organs, "kidney_left") == pytest.approx((-45, -35, -40), abs=3)


@pytest.mark.parametrize("spacing", [None, 4.0])
def test_same_seed_same_bytes_and_other_seed_other_bytes(person, spacing):
    made = [paint_body(person, seed, grid_spacing_mm=spacing, finest_mm=3.0) for seed in (3, 3, 4)]
    assert made[0].ct.array.tobytes() == made[1].ct.array.tobytes()
    assert made[0].label.array.tobytes() == made[1].label.array.tobytes()
    assert made[0].case == made[1].case
    assert made[0].ct.array.tobytes() != made[2].ct.array.tobytes()


def test_the_label_lies_on_the_ct_in_every_orientation(person):
    """The aorta is far brighter than what is around it in an arterial CT: its label is there."""
    seen = set()
    for seed in range(6):
        made = paint_body(person, 20 + seed, finest_mm=3.0, phase="arterial")
        assert made.ct.grid.same_as(made.label.grid)
        assert made.ct.array.dtype == np.int16
        assert made.label.array.dtype == np.uint8
        seen.add(made.ct.grid.orientation)
        aorta = made.label.array == ORGAN_IDS["aorta"]
        if aorta.sum() * made.ct.grid.voxel_ml < 5:
            continue
        inside = np.median(made.ct.array[aorta])
        moved = np.median(made.ct.array[np.roll(aorta, round(30 / made.ct.grid.spacing[0]), 0)])
        assert inside > moved + 50
    assert len(seen) > 1


def test_left_is_left_and_right_is_right(person):
    found = 0
    for seed in range(12):
        made = paint_body(person, seed, grid_spacing_mm=4.0)
        there = set(np.unique(made.label.array).tolist())
        assert made.ct.grid.orientation == "RAS"
        for left, right in (("kidney_left", "kidney_right"), ("spleen", "liver")):
            if {ORGAN_IDS[left], ORGAN_IDS[right]} <= there:
                assert centre(made.label, left)[0] < centre(made.label, right)[0]
                found += 1
    assert found > 8


def test_densities_are_those_of_the_phase(person):
    def medians(phase):
        values = {organ: [] for organ in ORGAN_IDS}
        for seed in range(10):
            made = paint_body(person, seed, grid_spacing_mm=5.0, phase=phase)
            assert made.case.phase == phase
            for organ, number in ORGAN_IDS.items():
                mask = made.label.array == number
                if mask.sum() > 40:
                    values[organ].append(np.median(made.ct.array[mask]))
        return {organ: np.median(found) for organ, found in values.items()}

    pre, arterial, portal = medians("pre"), medians("arterial"), medians("portal")
    for organ in (
        "aorta",
        "kidney_left",
        "kidney_right",
        "liver",
        "pancreas",
        "postcava",
        "spleen",
    ):
        assert 25 < pre[organ] < 70, (organ, pre)
    assert arterial["aorta"] > portal["aorta"] > pre["aorta"] + 40
    assert arterial["aorta"] > arterial["postcava"] + 60
    assert portal["liver"] > pre["liver"] + 20
    assert portal["kidney_left"] > pre["kidney_left"] + 60
    assert -15 < pre["gall_bladder"] < 35


def test_phases_come_as_in_the_paper(person):
    from abdomen_phantom.bodies.draw import BODIES
    from abdomen_phantom.contrast import draw_phase
    from abdomen_phantom.setting import Dice

    drawn = [draw_phase(Dice(seed, BODIES), BODIES) for seed in range(2000)]
    shares = {phase: drawn.count(phase) / 2000 for phase in set(drawn)}
    assert shares == pytest.approx(
        {"portal": 0.44, "arterial": 0.37, "pre": 0.16, "delayed": 0.03}, abs=0.03
    )


def test_around_the_organs_there_is_fat_muscle_skin_and_air(person):
    made = paint_body(person, 2, grid_spacing_mm=4.0, phase="portal")
    rest = made.ct.array[made.label.array == 0]
    share = {
        "air": (rest < -300).mean(),
        "fat": ((rest > -140) & (rest < -60)).mean(),
        "soft": ((rest > 20) & (rest < 120)).mean(),
        "bone": (rest > 250).mean(),
    }
    assert share["air"] > 0.05
    assert share["fat"] > 0.05
    assert share["soft"] > 0.02
    assert share["bone"] > 0.0003


def test_nothing_is_scanned_beyond_the_side_of_a_map_that_cuts_an_organ(folder, tmp_path):
    """What a narrow map does not show is not painted as if the body ended there."""
    names = sorted(STRUCTURES)
    label = np.zeros(SHAPE, np.uint8)
    for name in names:
        label[structure(name)] = names.index(name) + 1
    (tmp_path / "structures.csv").write_text((folder / "structures.csv").read_text())
    narrow = label[12:60]  # through the liver, beside the spleen
    affine = _grid().affine.copy()
    affine[0, 3] += 12 * SPACING
    write_nifti(tmp_path / "n_structures.nii.gz", narrow, Grid(narrow.shape, affine))
    (body,) = read_bodies(tmp_path)
    assert np.isfinite(body.seen[0, 1])
    assert np.isinf(body.seen[1]).all()
    for seed in range(8):
        made = paint_body([body], seed, grid_spacing_mm=5.0)
        liver = np.argwhere(made.label.array == ORGAN_IDS["liver"])
        if len(liver) > 500 and made.case.hard_cases == ("n",):
            last = made.label.array.shape[0] - 1
            assert liver[:, 0].max() >= last - 6  # the scan ends within the liver


def test_there_is_no_organ_where_nothing_was_reconstructed(person):
    padded = 0
    for seed in range(16):
        made = paint_body(person, seed, grid_spacing_mm=6.0)
        empty = made.ct.array <= -1900
        padded += bool(empty.any())
        assert not made.label.array[empty].any()
    assert padded > 1


def test_a_body_without_organs_gives_none(folder):
    without = read_bodies(folder, ["p2"])
    assert without[0].holds == frozenset()
    for seed in range(4):
        assert not paint_body(without, seed, grid_spacing_mm=4.0).label.array.any()


def test_bodies_without_organs_are_the_fewer(folder):
    bodies = read_bodies(folder)
    drawn = [
        paint_body(bodies, seed, grid_spacing_mm=12.0).case.hard_cases[0] for seed in range(40)
    ]
    assert 0 < drawn.count("p2") < drawn.count("p1")


def test_sizes_and_places_of_organs_spread(person):
    """Kidneys of people spread by 20 to 28 mm along the body, volumes by a third and more."""
    volumes, heights = [], []
    for seed in range(60):
        label = paint_body(person, seed, grid_spacing_mm=8.0).label
        ids = np.unique(label.array)
        edge = np.unique(
            np.concatenate([label.array[..., 0].ravel(), label.array[..., -1].ravel()])
        )
        if {4, 5} <= set(ids) and not {4, 5} & set(edge):
            volumes.append((label.array == 5).sum() * label.grid.voxel_ml)
            heights.append(centre(label, "liver")[2] - centre(label, "kidney_right")[2])
    assert len(volumes) > 10
    assert np.std(volumes) / np.mean(volumes) > 0.2
    assert np.std(heights) > 8


def test_an_organ_from_another_body_takes_its_place(folder, person):
    rng = np.random.default_rng(0)
    other = read_bodies(folder, ["p1"])[0]
    smaller = other.tissue.copy()
    cut = smaller == Tissue.SPLEEN
    cut[:, :, ::2] = False
    smaller[cut] = Tissue.NONE
    donor = replace(other, tissue=smaller, name="donor")
    changed = gone = 0
    for _ in range(30):
        mixed = mix(rng, person[0], [person[0], donor])
        for kind in (Tissue.LIVER, Tissue.AORTA, Tissue.PANCREAS):  # never given away
            assert (mixed.tissue == kind).sum() >= 0.98 * (person[0].tissue == kind).sum()
        now, before = (one.middles.get(Tissue.SPLEEN) for one in (mixed, person[0]))
        gone += now is None
        if now is not None and now[1] != before[1]:
            changed += 1
            assert np.abs(now[0] - before[0]).max() < 30
    assert changed > 2
    assert gone < 6
    assert (person[0].tissue == Tissue.SPLEEN).any()  # the body itself stays as it is


def test_discs_hull_and_depths_have_their_closed_form():
    tissue = np.zeros((40, 40, 30), np.uint8)
    tissue[10:30, 10:30, 4:12] = Tissue.SPINE
    tissue[10:30, 10:30, 15:24] = Tissue.SPINE
    add_discs(tissue, 2.0)
    assert (tissue[10:30, 10:30, 12:15] == Tissue.DISC).all()
    assert (tissue[:10] == 0).all()
    assert (tissue[..., 24:] == 0).all()
    deep = depths(tissue, 2.0)
    assert deep[20, 20, 8] == 2 * 2 * 4  # half millimetres, four voxels to the nearest face
    assert deep[10, 20, 8] == 2 * 2
    box = np.zeros((60, 60, 40), np.uint8)
    box[20:40, 20:40] = Tissue.LIVER
    hull = hull_distance(box, 2.0)
    assert hull[30, 30, 20] == pytest.approx(-20, abs=3)
    assert hull[50, 30, 20] == pytest.approx(21, abs=3)


def test_memory_is_bounded(person):
    paint_body(person, 5, grid_spacing_mm=4.0)  # compiled, and its bodies' centres known
    tracemalloc.start()
    made = paint_body(person, 5, grid_spacing_mm=4.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = 3 * person[0].tissue.nbytes
    assert peak < 60e6 + held + 40 * made.ct.array.size


def test_wrong_arguments_are_refused(person):
    with pytest.raises(ValueError, match="no body"):
        paint_body([], 0)
    with pytest.raises(ValueError, match="positive length"):
        paint_body(person, 0, grid_spacing_mm=0.0)
