from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tests.altered.kit import OTHER, REFUSED, SAME, Kind, Read, Rng, patient, run, turned
from tests.altered.nifti import cut
from tests.altered.test_label_nifti import judged

from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.labels.ingest import ingest

NRRD = Kind("label, .seg.nrrd of 3D Slicer")


@dataclass
class Draft:
    """A ``.seg.nrrd`` about to be written: fields of the header as text, voxels, changes."""

    fields: dict[str, str]
    stored: np.ndarray
    organs: list[str]
    packed: bool
    after: list[Callable[[bytes], bytes]] = field(default_factory=list)

    def write(self, folder: Path) -> Path:
        # Segments' fields are written "key:=value", others "key: value".
        lines = ["NRRD0004"]
        for key, value in self.fields.items():
            lines.append(f"{key}:={value}" if key.startswith("Segment") else f"{key}: {value}")
        voxels = self.stored.tobytes(order="F")
        data = "\n".join(lines).encode() + b"\n\n"
        data += gzip.compress(voxels, 1, mtime=0) if self.packed else voxels
        for change in self.after:
            data = change(data)
        path = folder / "file.seg.nrrd"
        path.write_bytes(data)
        return path

    def key(self, organ: str, what: str) -> str:
        return f"Segment{self.organs.index(organ)}_{what}"

    def swap(self, one: str, other: str) -> None:
        """Exchange two fields' values."""
        self.fields[one], self.fields[other] = self.fields[other], self.fields[one]


def make(rng: Rng) -> Draft:
    """One layer or two, cropped or not, as 3D Slicer saves them: LPS, values in any order."""
    truth = turned(patient()[1], rng, tilt=False)
    array, grid = truth.array, truth.grid
    start = np.zeros(3, int)
    if rng.random() < 0.5:
        there = np.argwhere(array)
        start, stop = there.min(axis=0), there.max(axis=0) + 1
        box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        array, grid = array[box], grid.crop(box)
    organs = [ORGAN_NAMES[i] for i in rng.permutation(9)]
    layers = int(rng.integers(1, 3))
    stored = np.zeros((layers, *array.shape), "u1")
    fields = _geometry(grid, layers)
    for number, organ in enumerate(organs):
        layer, value = number % layers, number // layers + 1
        stored[layer][array == ORGAN_NAMES.index(organ) + 1] = value
        key = f"Segment{number}"
        fields |= {f"{key}_ID": f"Segment_{number}", f"{key}_Name": organ, f"{key}_Color": "1 0 0"}
        fields |= {f"{key}_LabelValue": str(value), f"{key}_Layer": str(layer)}
    packed = bool(rng.random() < 0.7)
    fields["encoding"] = "gzip" if packed else "raw"
    fields["Segmentation_MasterRepresentation"] = "Binary labelmap"
    fields["Segmentation_ReferenceImageExtentOffset"] = " ".join(map(str, start))
    return Draft(fields, stored if layers > 1 else stored[0], organs, packed)


def _geometry(grid: Grid, layers: int) -> dict[str, str]:
    lps = np.diag([-1.0, -1, 1, 1]) @ grid.affine
    several = layers > 1
    sizes = [layers, *grid.shape] if several else [*grid.shape]
    return {
        "type": "unsigned char",
        "dimension": str(len(sizes)),
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, sizes)),
        "space directions": " ".join(
            (["none"] if several else []) + [_vector(lps[:3, i]) for i in range(3)]
        ),
        "kinds": " ".join((["list"] if several else []) + ["domain"] * 3),
        "space origin": _vector(lps[:3, 3]),
    }


def _vector(values: np.ndarray) -> str:
    return f"({','.join(repr(float(v)) for v in values)})"


def read(draft: Draft, path: Path) -> Read:
    ct, label = patient()
    return judged(ingest(path, ct.grid), label.array)


@NRRD.altered(SAME)
def nothing(draft: Draft, rng: Rng) -> None:
    pass


@NRRD.altered(SAME)
def fields_of_no_meaning(draft: Draft, rng: Rng) -> None:
    draft.fields["content"] = "anything"
    draft.fields["space units"] = '"mm" "mm" "mm"'
    draft.fields["measurement frame"] = "(1,0,0) (0,1,0) (0,0,1)"
    draft.fields["Segment0_Tags"] = "TerminologyEntry:~^^~^^~^^~~^^~^^|"
    draft.fields["Segmentation_ConversionParameters"] = "a|b|c&"


@NRRD.altered(REFUSED)
def another_space(draft: Draft, rng: Rng) -> None:
    """The voxels are as they were: off the CT by its origin, or nowhere."""
    spaces = ["right-anterior-superior", "LAS", "scanner-xyz", "3D-right-handed", "RPI"]
    draft.fields["space"] = str(rng.choice(spaces))


@NRRD.altered(REFUSED)
def no_space(draft: Draft, rng: Rng) -> None:
    del draft.fields[str(rng.choice(["space", "space directions", "space origin"]))]


@NRRD.altered(REFUSED)
def place(draft: Draft, rng: Rng) -> None:
    """By a part of a voxel, or so far that it reaches out of the CT."""
    at = np.array(draft.fields["space origin"].strip("()").split(","), float)
    at[rng.integers(3)] += rng.choice([-1, 1]) * rng.choice([0.3 * 8, 0.6 * 8, 400])
    draft.fields["space origin"] = _vector(at)


@NRRD.altered(REFUSED)
def numbers_not_finite(draft: Draft, rng: Rng) -> None:
    draft.fields["space origin"] = str(rng.choice(["(nan,0,0)", "(0,inf,0)", "(0,0)", "none"]))


@NRRD.altered(REFUSED)
def spacing_a_little_off(draft: Draft, rng: Rng) -> None:
    words = draft.fields["space directions"].split()
    at = len(words) - 1 - int(rng.integers(3))
    scale = rng.uniform(1.03, 1.08)
    words[at] = _vector(np.array(words[at].strip("()").split(","), float) * scale)
    draft.fields["space directions"] = " ".join(words)


@NRRD.altered(REFUSED)
def a_direction_turned(draft: Draft, rng: Rng) -> None:
    """The origin stays, so that it lies beside the CT or partly."""
    words = draft.fields["space directions"].split()
    at = len(words) - 1 - int(rng.integers(3))
    words[at] = _vector(-np.array(words[at].strip("()").split(","), float))
    draft.fields["space directions"] = " ".join(words)


@NRRD.altered(REFUSED)
def sizes(draft: Draft, rng: Rng) -> None:
    words = draft.fields["sizes"].split()
    at = len(words) - 1 - int(rng.integers(3))
    words[at] = str(int(words[at]) + int(rng.choice([-5, -1, 1, 7])))
    draft.fields["sizes"] = " ".join(words)


@NRRD.altered(REFUSED)
def dimension(draft: Draft, rng: Rng) -> None:
    draft.fields["dimension"] = str(rng.choice(["2", "5", "x"]))


@NRRD.altered(REFUSED, SAME)
def another_type_said(draft: Draft, rng: Rng) -> None:
    draft.fields["type"] = str(rng.choice(["signed char", "short", "float", "block", "int"]))
    draft.fields["endian"] = "little"


@NRRD.altered(SAME)
def another_type(draft: Draft, rng: Rng) -> None:
    kind, name = [("<i2", "short"), (">u2", "ushort"), ("<f4", "float")][rng.integers(3)]
    draft.stored = draft.stored.astype(kind)
    draft.fields["type"], draft.fields["endian"] = name, "big" if ">" in kind else "little"


@NRRD.altered(REFUSED)
def bytes_swapped(draft: Draft, rng: Rng) -> None:
    another_type(draft, rng)
    endian = draft.fields["endian"]
    draft.fields["endian"] = "big" if endian == "little" else "little"


@NRRD.altered(REFUSED)
def encoding(draft: Draft, rng: Rng) -> None:
    """Not the one that the voxels have."""
    others = ["raw", "ascii", "bzip2"] if draft.packed else ["gzip", "hex"]
    draft.fields["encoding"] = str(rng.choice(others))


@NRRD.altered(REFUSED)
def cut_off(draft: Draft, rng: Rng) -> None:
    draft.after.append(cut(rng))


@NRRD.altered(REFUSED, SAME)
def a_byte_of_the_packed_voxels(draft: Draft, rng: Rng) -> None:
    draft.packed, draft.fields["encoding"], share = True, "gzip", rng.random()

    def change(data: bytes) -> bytes:
        start = data.index(b"\n\n") + 2
        at = start + int(share * (len(data) - start))
        return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]

    draft.after.append(change)


@NRRD.altered(REFUSED)
def more_voxels_than_said(draft: Draft, rng: Rng) -> None:
    draft.stored = np.concatenate([draft.stored, draft.stored[..., -1:]], axis=-1)


@NRRD.altered(REFUSED)
def kinds_of_axes(draft: Draft, rng: Rng) -> None:
    if draft.stored.ndim == 3:
        draft.fields["dimension"] = "4"
    draft.fields["kinds"] = "domain list domain domain"


@NRRD.altered(REFUSED)
def values_without_a_segment(draft: Draft, rng: Rng) -> None:
    there = np.flatnonzero(draft.stored)
    draft.stored.ravel(order="K")[0] = 77
    draft.stored.flat[there[:9]] = rng.choice([20, 99, 255])


@NRRD.altered(REFUSED)
def a_segment_without_a_name(draft: Draft, rng: Rng) -> None:
    del draft.fields[f"Segment{rng.integers(9)}_{rng.choice(['Name', 'LabelValue'])}"]


@NRRD.altered(REFUSED)
def two_segments_of_one_value(draft: Draft, rng: Rng) -> None:
    draft.fields["Segment0_LabelValue"] = draft.fields["Segment2_LabelValue"]
    draft.fields["Segment0_Layer"] = draft.fields["Segment2_Layer"]


@NRRD.altered(REFUSED)
def a_segment_of_no_layer(draft: Draft, rng: Rng) -> None:
    draft.fields[f"Segment{rng.integers(9)}_Layer"] = str(rng.choice([-1, 7, 300]))


@NRRD.altered(REFUSED)
def a_segment_lost_from_the_header(draft: Draft, rng: Rng) -> None:
    number = int(rng.integers(9))
    draft.fields = {k: v for k, v in draft.fields.items() if not k.startswith(f"Segment{number}_")}


@NRRD.altered(REFUSED)
def an_organ_named_twice(draft: Draft, rng: Rng) -> None:
    draft.fields["Segment3_Name"] = draft.fields["Segment5_Name"] + str(rng.choice(["", "_1"]))


@NRRD.altered(REFUSED)
def a_name_that_may_be_two(draft: Draft, rng: Rng) -> None:
    draft.fields[draft.key("kidney_left", "Name")] = str(
        rng.choice(["kidney", "Segment_1", "Left"])
    )


@NRRD.altered(SAME)
def other_names_of_the_same(draft: Draft, rng: Rng) -> None:
    words = {"liver": ["Leber", "liver_1", "LIVER", "livér"], "kidney_left": ["left kidney"],
             "postcava": ["IVC", "inferior vena cava"], "aorta": ["abdominal aorta"]}  # fmt: skip
    for organ, names in words.items():
        draft.fields[draft.key(organ, "Name")] = str(rng.choice(names))


@NRRD.altered(SAME)
def codes_that_contradict_the_name(draft: Draft, rng: Rng) -> None:
    """The name counts; a note of the reply says so."""
    draft.fields[draft.key("kidney_left", "Tags")] = (
        "TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^24028007^Right"
        "~Anatomic codes - DICOM master list~^^~^^|"
    )


@NRRD.altered(SAME, REFUSED)
def where_it_was_cut(draft: Draft, rng: Rng) -> None:
    """The geometry says so too, and counts."""
    draft.fields["Segmentation_ReferenceImageExtentOffset"] = str(
        rng.choice(["9 9 9", "x", "", "0"])
    )


@NRRD.altered(REFUSED)
def voxels_elsewhere(draft: Draft, rng: Rng) -> None:
    draft.fields[str(rng.choice(["data file", "byte skip", "line skip"]))] = "1"


@NRRD.altered(SAME)
def old_slicer(draft: Draft, rng: Rng) -> None:
    """A layer a segment, of value 1, and no word of layers."""
    layers = np.zeros((9, *draft.stored.shape[-3:]), "u1")
    several = draft.stored.ndim == 4
    for number in range(9):
        value = int(draft.fields.pop(f"Segment{number}_LabelValue"))
        layer = int(draft.fields.pop(f"Segment{number}_Layer"))
        one = draft.stored[layer] if several else draft.stored
        layers[number] = one == value
    words = draft.fields
    if not several:
        words["dimension"], words["sizes"] = "4", f"9 {words['sizes']}"
        words["space directions"] = f"none {words['space directions']}"
        words["kinds"] = f"list {words['kinds']}"
    else:
        words["sizes"] = f"9 {words['sizes'].split(' ', 1)[1]}"
    draft.stored = layers


# --- consistent files of another meaning -------------------------------------------------------


@NRRD.altered(OTHER)
def two_names_exchanged(draft: Draft, rng: Rng) -> None:
    a, b = rng.choice(9, 2, replace=False)
    draft.swap(f"Segment{a}_Name", f"Segment{b}_Name")


@NRRD.altered(OTHER)
def left_and_right_exchanged(draft: Draft, rng: Rng) -> None:
    draft.swap(draft.key("kidney_left", "Name"), draft.key("kidney_right", "Name"))


@NRRD.altered(OTHER)
def all_names_exchanged(draft: Draft, rng: Rng) -> None:
    names = rng.permutation(ORGAN_NAMES)
    for number in range(9):
        draft.fields[f"Segment{number}_Name"] = str(names[number])


@NRRD.altered(OTHER)
def voxels_put_off(draft: Draft, rng: Rng) -> None:
    """Mirrored voxels under the header that they had."""
    draft.stored = np.flip(draft.stored, draft.stored.ndim - 1 - int(rng.integers(3)))


@NRRD.altered(OTHER)
def upper_slices_lost(draft: Draft, rng: Rng) -> None:
    draft.stored = draft.stored.copy()
    draft.stored[..., -int(rng.integers(4, 12)) :] = 0


def test_each_is_read_as_meant_or_refused_or_marked(tmp_path: Path) -> None:
    run(NRRD, make, read, tmp_path)
