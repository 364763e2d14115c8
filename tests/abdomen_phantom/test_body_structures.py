"""Labels of every structure of a set that a body's map has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from abdomen_phantom.bodies import paint_body, read_bodies
from abdomen_phantom.bodies.label_maps import find_structure
from abdomen_phantom.bodies.tissues import Tissue
from atlas8k.core.errors import VolumeError
from atlas8k.core.structure_sets import built_in
from atlas8k.core.volume import Grid, write_nifti

SET = built_in("abdomenatlas-1.1")
NAMES = (
    *("liver", "kidney_left", "kidney_cyst_left", "lung_upper_lobe_left", "lung_lower_lobe_left"),
    *("lung_upper_lobe_right", "urinary_bladder", "small_bowel", "femur_left", "rib_left_9"),
    *("hip_left", "colon", "adrenal_gland_right"),
)
SPACING = 4.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of boxes beside each other, from the left of the patient to the right."""
    out = tmp_path_factory.mktemp("maps")
    rows = "".join(f"{i},{name}\n" for i, name in enumerate(NAMES, 1))
    (out / "structures.csv").write_text("value,structure\n" + rows)
    label = np.zeros((70, 30, 40), np.uint8)
    for value in range(1, len(NAMES) + 1):
        label[5 * value - 3 : 5 * value + 2, 5:25, 5:35] = value
    write_nifti(out / "p_structures.nii.gz", label, Grid(label.shape, np.diag([SPACING] * 3 + [1])))
    return out


def test_a_part_is_its_organ_and_what_no_map_names_is_unknown(folder: Path) -> None:
    (body,) = read_bodies(folder)
    known = body.known(SET)
    assert {"lung_left", "bladder", "intestine"} <= {*known}
    # The nine are looked for in every map; of the others only what the table names.
    assert not {"rectum", "celiac_trunk", "hepatic_vessel", "prostate"} & {*known}
    assert {"spleen", "aorta"} <= {*known}
    assert find_structure("lung_lower_lobe_left", SET) == SET.ids["lung_left"]
    assert find_structure("kidney_cyst_left", SET) == SET.ids["kidney_left"]
    assert find_structure("rib_left_9", SET) is None


def test_labels_are_those_of_the_set(folder: Path) -> None:
    (body,) = read_bodies(folder)
    labels = body.labels(SET)
    here = {SET.names[value - 1] for value in np.unique(labels) if value}
    assert here == {
        *("liver", "kidney_left", "lung_left", "lung_right", "bladder", "intestine"),
        *("femur_left", "colon", "adrenal_gland_right"),
    }
    lobes = (labels == SET.ids["lung_left"]).sum()
    assert lobes == pytest.approx(2 * (labels == SET.ids["bladder"]).sum(), rel=0.1)
    # The same as ever for the nine.
    nine = body.labels(built_in("abdomenatlas-1.0"))
    assert np.array_equal(nine, np.where(labels <= 9, labels, 0))


def test_what_was_put_over_a_structure_takes_its_place(folder: Path) -> None:
    (body,) = read_bodies(folder)
    tissue = body.tissue.copy()
    part = np.zeros(tissue.shape, bool)
    part[:, :, 20:25] = True
    tissue[part & (tissue == Tissue.COLON)] = Tissue.SPLEEN  # an organ of another body
    tissue[tissue == Tissue.KIDNEY_LEFT] = Tissue.NONE  # taken out
    labels = replace(body, tissue=tissue).labels(SET)
    assert (labels[part] == SET.ids["spleen"]).any()
    assert not (labels[part] == SET.ids["colon"]).any()
    assert (labels == SET.ids["colon"]).any()


def test_a_whole_scan_shows_all_of_the_map(folder: Path) -> None:
    body = read_bodies(folder)
    made = paint_body(body, 3, grid_spacing_mm=6.0, structures=SET, whole=True)
    there = {SET.names[value - 1] for value in np.unique(made.label.array) if value}
    assert {"lung_left", "bladder", "colon"} <= there
    same = paint_body(body, 3, grid_spacing_mm=6.0, whole=True)
    assert np.array_equal(same.ct.array, made.ct.array)
    assert same.label.array.max() <= 9


@pytest.mark.parametrize("value", ["0", "256", "-1"])
def test_a_value_that_no_map_can_hold_is_refused(folder: Path, tmp_path: Path, value: str) -> None:
    (tmp_path / "structures.csv").write_text(f"value,structure\n{value},liver\n")
    source = folder / "p_structures.nii.gz"
    (tmp_path / source.name).write_bytes(source.read_bytes())
    with pytest.raises(VolumeError, match="1 to 255"):
        read_bodies(tmp_path)
