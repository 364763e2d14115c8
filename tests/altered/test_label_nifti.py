from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from tests.altered.kit import (
    OTHER,
    REFUSED,
    SAME,
    Kind,
    Read,
    Rng,
    mirrored,
    patient,
    run,
    turned,
)
from tests.altered.nifti import Draft, cut

from atlas8k.core.grid import Volume
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.labels.ingest import Submitted, ingest
from atlas8k.labels.plausibility import find_impossible

LABEL = Kind("label, NIfTI, submitted for a CT")
ANATOMY = "anatomy"


def judged(submitted: Submitted, truth: np.ndarray) -> Read:
    """What a submission's reply says of it, and what the checks of a label in the folder find."""
    found = find_impossible(submitted.array, submitted.grid)
    marks = {"notes"} if submitted.notes else set()
    return Read(
        np.array_equal(submitted.array, truth), frozenset(marks | ({ANATOMY} if found else set()))
    )


def make(rng: Rng) -> Draft:
    """Turned, of any type; its values are organ ids, or as a client's list has them."""
    truth = turned(patient()[1], rng, tilt=False)
    values = truth.array
    info = None
    if rng.random() < 0.4:
        order = rng.permutation(9)
        table = np.zeros(10, np.uint8)
        table[order + 1] = np.arange(1, 10)
        values, info = table[values], [{"name": ORGAN_NAMES[i], "idx": 99} for i in order]
    dtype = str(rng.choice(["u1", "<i2", "<u2", "<i4", "<f4"]))
    draft = Draft.of(truth, values.astype(dtype), rng)
    draft.label_info = info
    return draft


def read(draft: Draft, path: Path) -> Read:
    ct, label = patient()
    return judged(ingest(path, ct.grid, draft.label_info), label.array)


def ids(draft: Draft) -> np.ndarray:
    """Organ ids in the file's own axes, told apart by them from here on."""
    draft.label_info = None
    return draft.truth.array


# --- header ------------------------------------------------------------------------------------


@LABEL.altered(SAME)
def nothing(draft: Draft, rng: Rng) -> None:
    pass


@LABEL.altered(SAME, REFUSED, ANATOMY)
def any_bit_of_the_header(draft: Draft, rng: Rng) -> None:
    draft.place(draft.truth.grid.affine, "both")
    at = int(rng.choice([i for i in range(348) if not 112 <= i < 120]))
    bit = 1 << int(rng.integers(8))
    draft.packed, draft.suffix = False, ".nii"
    draft.after.append(lambda data: data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])


@LABEL.altered(SAME, REFUSED)
def one_form_altered(draft: Draft, rng: Rng) -> None:
    """One of the two still lies on the CT."""
    draft.place(draft.truth.grid.affine, "both")
    if rng.random() < 0.5:
        draft.header[rng.choice(["qoffset_x", "qoffset_y", "qoffset_z"])] += rng.uniform(2, 60)
    else:
        draft.header.set_sform(mirrored(draft.truth.grid, int(rng.integers(3))), code=1)


@LABEL.altered(SAME)
def a_form_of_code_0(draft: Draft, rng: Rng) -> None:
    draft.place(draft.truth.grid.affine, "both")
    draft.header[rng.choice(["sform_code", "qform_code"])] = 0


@LABEL.altered(REFUSED)
def both_codes_0(draft: Draft, rng: Rng) -> None:
    draft.header["sform_code"] = draft.header["qform_code"] = 0


@LABEL.altered(REFUSED)
def spacing_a_little_off(draft: Draft, rng: Rng) -> None:
    scale = np.eye(4)
    axis = int(rng.integers(3))
    scale[axis, axis] = rng.uniform(1.03, 1.08)
    draft.replace(draft.truth.grid.affine @ scale)


@LABEL.altered(SAME)
def dust_in_the_header(draft: Draft, rng: Rng) -> None:
    affine = draft.truth.grid.affine.copy()
    affine[:3, 3] += rng.uniform(-0.02, 0.02, 3) * 8.0
    affine[:3, :3] *= 1 + rng.uniform(-1e-4, 1e-4)
    draft.replace(affine)


@LABEL.altered(REFUSED)
def part_of_a_voxel_off(draft: Draft, rng: Rng) -> None:
    affine = draft.truth.grid.affine.copy()
    affine[rng.integers(3), 3] += rng.uniform(0.1, 0.9) * 8.0
    draft.replace(affine)


@LABEL.altered(REFUSED)
def whole_voxels_off(draft: Draft, rng: Rng) -> None:
    affine = draft.truth.grid.affine.copy()
    affine[rng.integers(3), 3] += rng.choice([-3, -1, 1, 2]) * 8.0
    draft.replace(affine)


@LABEL.altered(SAME, REFUSED)
def units_of_space(draft: Draft, rng: Rng) -> None:
    draft.header["xyzt_units"] = int(rng.choice([0, 1, 3, 4, 10, 17]))


@LABEL.altered(REFUSED)
def fewer_voxels_said(draft: Draft, rng: Rng) -> None:
    draft.header["dim"][1 + rng.integers(3)] -= rng.integers(1, 12)


@LABEL.altered(REFUSED)
def more_voxels_said(draft: Draft, rng: Rng) -> None:
    draft.header["dim"][1 + rng.integers(3)] += rng.integers(1, 12)


@LABEL.altered(REFUSED)
def sizes_exchanged(draft: Draft, rng: Rng) -> None:
    a, b = rng.choice([1, 2, 3], 2, replace=False)
    dim = draft.header["dim"]
    dim[a], dim[b] = int(dim[b]), int(dim[a])


@LABEL.altered(REFUSED, SAME)
def another_type_said(draft: Draft, rng: Rng) -> None:
    draft.declare(rng.choice(["i1", "u1", "<i2", "<u2", "<i4", "<f4", "<f8"]))


@LABEL.altered(SAME)
def another_type(draft: Draft, rng: Rng) -> None:
    draft.store(draft.stored.astype(rng.choice(["u1", "<i2", "<i4", "<i8", "<f4", "<f8"])))


@LABEL.altered(SAME)
def big_endian(draft: Draft, rng: Rng) -> None:
    draft.header = draft.header.as_byteswapped(">")


@LABEL.altered(REFUSED, SAME)
def bytes_swapped(draft: Draft, rng: Rng) -> None:
    draft.stored = draft.stored.byteswap()


@LABEL.altered(REFUSED, SAME)
def start_of_the_voxels(draft: Draft, rng: Rng) -> None:
    draft.header["vox_offset"] = rng.choice([0, 344, 350, 353, 368, 1e6, np.nan])


@LABEL.altered(REFUSED)
def start_of_the_voxels_before_an_extension_ends(draft: Draft, rng: Rng) -> None:
    draft.extension = b"\1\0\0\0" + np.array([32, 6], "<i4").tobytes() + b"x" * 24


@LABEL.altered(REFUSED)
def cut_off(draft: Draft, rng: Rng) -> None:
    draft.after.append(cut(rng))


@LABEL.altered(REFUSED, SAME)
def a_byte_of_the_packed_file(draft: Draft, rng: Rng) -> None:
    draft.packed, draft.suffix, share = True, ".nii.gz", rng.random()

    def change(data: bytes) -> bytes:
        at = int(share * len(data))
        return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]

    draft.after.append(change)


@LABEL.altered(SAME)
def packing_not_as_named(draft: Draft, rng: Rng) -> None:
    draft.suffix = str(rng.choice([".nii", ".NII.GZ", ".nii.gz"]))


@LABEL.altered(SAME)
def nifti_2(draft: Draft, rng: Rng) -> None:
    new = nib.Nifti2Header(endianness="<")
    for name in {*draft.header} & {*new} - {"sizeof_hdr", "magic", "vox_offset"}:
        new[name] = draft.header[name]
    new["vox_offset"] = 544
    draft.header = new


@LABEL.altered(SAME)
def cropped(draft: Draft, rng: Rng) -> None:
    """To what is drawn, at least."""
    there = np.argwhere(draft.truth.array)
    low, high = there.min(axis=0), there.max(axis=0) + 1
    low = [int(rng.integers(n + 1)) for n in low]
    box = tuple(slice(a, int(b)) for a, b in zip(low, high, strict=True))
    grid = draft.truth.grid.crop(box)
    draft.store(np.asfortranarray(draft.stored[box]))
    draft.truth = Volume(draft.truth.array[box], grid)
    draft.replace(grid.affine)


# --- values ------------------------------------------------------------------------------------


@LABEL.altered(SAME)
def dust_in_the_values(draft: Draft, rng: Rng) -> None:
    draft.store(draft.stored.astype("<f4") * np.float32(1 - 6e-8))


@LABEL.altered(SAME)
def scaled_and_back(draft: Draft, rng: Rng) -> None:
    factor = int(rng.choice([2, 3, 10]))
    draft.store((draft.stored.astype("<i2") * factor).astype("<i2"))
    draft.header["scl_slope"] = 1 / factor


@LABEL.altered(SAME)
def no_scale(draft: Draft, rng: Rng) -> None:
    draft.header["scl_slope"] = rng.choice([0, np.nan])


@LABEL.altered(REFUSED)
def values_that_are_none(draft: Draft, rng: Rng) -> None:
    array = draft.stored.astype("<f4")
    at = np.flatnonzero(array)[:: int(rng.integers(1, 40))]
    array.flat[at] = rng.choice([0.5, -1, 300, np.nan, np.inf, 1e9, 11, 100])
    draft.store(array)


@LABEL.altered(REFUSED)
def resampled(draft: Draft, rng: Rng) -> None:
    """Linear interpolation leaves fractions."""
    array = draft.stored.astype("<f4")
    array[1:] = (array[1:] + array[:-1]) / 2
    draft.store(array)


@LABEL.altered(REFUSED)
def empty(draft: Draft, rng: Rng) -> None:
    draft.store(np.zeros_like(draft.stored))


@LABEL.altered(REFUSED)
def mask_of_255(draft: Draft, rng: Rng) -> None:
    draft.label_info = None
    draft.store(np.where(draft.stored > 0, 255, 0).astype("<i2"))


@LABEL.altered(REFUSED)
def a_channel_an_organ(draft: Draft, rng: Rng) -> None:
    draft.store(np.stack([draft.stored == i for i in range(10)], axis=3).astype("u1"))


@LABEL.altered(REFUSED, ANATOMY)
def background_of_1(draft: Draft, rng: Rng) -> None:
    draft.label_info = None
    draft.header["scl_inter"] = 1


# --- consistent files of another meaning -------------------------------------------------------


@LABEL.altered(OTHER)
def left_and_right_exchanged(draft: Draft, rng: Rng) -> None:
    draft.replace(mirrored(draft.truth.grid, 0))


@LABEL.altered(OTHER)
def front_and_back_exchanged(draft: Draft, rng: Rng) -> None:
    draft.replace(mirrored(draft.truth.grid, 1))


@LABEL.altered(OTHER)
def head_and_feet_exchanged(draft: Draft, rng: Rng) -> None:
    draft.replace(mirrored(draft.truth.grid, 2))


@LABEL.altered(OTHER)
def mask_of_1(draft: Draft, rng: Rng) -> None:
    """One organ under the number 1."""
    organ = int(rng.integers(2, 10))
    draft.store((ids(draft) == organ).astype("u1"))


@LABEL.altered(OTHER)
def numbers_of_another_list(draft: Draft, rng: Rng) -> None:
    table = np.concatenate([[0], rng.permutation(9) + 1]).astype("u1")
    draft.store(table[ids(draft)])


@LABEL.altered(OTHER)
def numbers_of_totalsegmentator_1(draft: Draft, rng: Rng) -> None:
    table = np.array([0, 7, 4, 3, 2, 5, 0, 8, 1, 6], "u1")
    draft.store(table[ids(draft)])


@LABEL.altered(OTHER)
def two_numbers_exchanged(draft: Draft, rng: Rng) -> None:
    a, b = rng.choice(np.arange(1, 10), 2, replace=False)
    table = np.arange(10, dtype="u1")
    table[a], table[b] = b, a
    draft.store(table[ids(draft)])


@LABEL.altered(OTHER)
def a_block_by_whole_voxels_off(draft: Draft, rng: Rng) -> None:
    cropped(draft, rng)
    affine = draft.truth.grid.affine.copy()
    affine[:3, 3] += affine[:3, int(rng.integers(3))] * rng.choice([-1, 1])
    draft.replace(affine)


@LABEL.altered(OTHER)
def upper_slices_lost(draft: Draft, rng: Rng) -> None:
    array = draft.stored.copy()
    array[..., -int(rng.integers(8, 20)) :] = 0
    draft.store(array)


@LABEL.altered(OTHER)
def voxels_put_off(draft: Draft, rng: Rng) -> None:
    """Mirrored voxels under the header that they had."""
    draft.store(np.asfortranarray(np.flip(draft.stored, int(rng.integers(3)))))


def test_each_is_read_as_meant_or_refused_or_marked(tmp_path: Path) -> None:
    run(LABEL, make, read, tmp_path)
