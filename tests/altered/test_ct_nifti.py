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
    as_meant,
    mirrored,
    patient,
    rotation,
    run,
    turned,
)
from tests.altered.nifti import Draft, cut

from atlas8k.cli.predict import read_input
from atlas8k.content import inspect_content
from atlas8k.services.studies.served import geometry_remarks

CT = Kind("CT, NIfTI, of a studies folder and of `predict`")
NOT_HU = ("not_hu", "label_map", "damaged")
HARMLESS = (
    *("descrip", "aux_file", "intent_name", "cal_max", "cal_min", "toffset", "slice_code"),
    *("slice_start", "slice_end", "slice_duration", "regular", "extents", "glmax", "db_name"),
    *("intent_code", "intent_p1", "dim_info", "session_error", "data_type"),
)


def make(rng: Rng) -> Draft:
    truth = turned(patient()[0], rng)
    kind = rng.integers(3)
    if kind == 0:
        return Draft.of(truth, truth.array.astype("<i2"), rng)
    if kind == 1:
        return Draft.of(truth, truth.array.astype("<f4"), rng)
    draft = Draft.of(truth, (truth.array + 1024).astype("<u2"), rng)
    draft.header["scl_inter"] = -1024
    return draft


def read(draft: Draft, path: Path) -> Read:
    """As `predict` reads it; the studies folder must say as much of the header."""
    volume, _, remarks = read_input(path)
    listed = {one.kind for one in geometry_remarks(path)}
    assert {one.kind for one in remarks} <= listed
    content = {one.kind for one in inspect_content(volume)}
    return Read(as_meant(volume, draft.truth), frozenset(content | listed))


def hu(draft: Draft) -> np.ndarray:
    return draft.truth.array.astype(np.float32)


def store_hu(draft: Draft, array: np.ndarray) -> None:
    """Other values, as float32 without a scale of their own."""
    draft.store(array.astype("<f4"))
    draft.header["scl_slope"], draft.header["scl_inter"] = 1, 0


# --- header ------------------------------------------------------------------------------------


@CT.altered(SAME)
def nothing(draft: Draft, rng: Rng) -> None:
    pass


@CT.altered(SAME)
def fields_of_no_meaning(draft: Draft, rng: Rng) -> None:
    for name in rng.choice(HARMLESS, 4, replace=False):
        field = draft.header[name]
        draft.header[name] = b"?" if field.dtype.kind == "S" else int(rng.integers(100))


@CT.altered(SAME, REFUSED, "two_geometries", "broken_form", "voxel_size", "units", "sheared",
            "unused_form", "nifti2", *NOT_HU, "no_abdomen")  # fmt: skip
def any_bit_of_the_header(draft: Draft, rng: Rng) -> None:
    """Of all but the scale, which has alterations of its own; both forms are there."""
    draft.replace(draft.truth.grid.affine)
    draft.place(draft.truth.grid.affine, "both")
    at = int(rng.choice([i for i in range(348) if not 112 <= i < 120]))
    bit = 1 << int(rng.integers(8))
    draft.packed, draft.suffix = False, ".nii"
    draft.after.append(lambda data: data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])


@CT.altered(SAME, "two_geometries")
def one_form_moved(draft: Draft, rng: Rng) -> None:
    draft.place(draft.truth.grid.affine, "both")
    form = rng.choice(["qoffset_x", "qoffset_y", "qoffset_z"])
    if rng.random() < 0.5:
        draft.header[form] += rng.uniform(2, 60)
    else:
        draft.header[rng.choice(["srow_x", "srow_y", "srow_z"])][3] -= rng.uniform(2, 60)


@CT.altered(SAME, "two_geometries")
def one_form_mirrored(draft: Draft, rng: Rng) -> None:
    affine, axis = mirrored(draft.truth.grid, int(rng.integers(3))), rng.random()
    draft.place(draft.truth.grid.affine, "both")
    if axis < 0.5:
        draft.header.set_sform(affine, code=int(rng.integers(1, 5)))
    else:
        draft.header.set_qform(affine, code=int(rng.integers(1, 5)))


@CT.altered(SAME)
def codes_of_any_number(draft: Draft, rng: Rng) -> None:
    for form in ("sform_code", "qform_code"):
        if draft.header[form] > 0:
            draft.header[form] = rng.integers(1, 100)


@CT.altered(SAME)
def a_form_of_code_0(draft: Draft, rng: Rng) -> None:
    draft.place(draft.truth.grid.affine, "both")
    draft.header[rng.choice(["sform_code", "qform_code"])] = 0


@CT.altered(REFUSED)
def both_codes_0(draft: Draft, rng: Rng) -> None:
    draft.header["sform_code"] = draft.header["qform_code"] = 0


@CT.altered(SAME, REFUSED)
def negative_codes(draft: Draft, rng: Rng) -> None:
    draft.place(draft.truth.grid.affine, "both")
    draft.header[rng.choice(["sform_code", "qform_code"])] = -int(rng.integers(1, 9))


@CT.altered("sheared")
def sheared(draft: Draft, rng: Rng) -> None:
    shear = np.eye(4)
    shear[int(rng.integers(2)), 2] = rng.uniform(0.1, 0.4)
    draft.place(draft.truth.grid.affine @ shear, rng.choice(["sform", "both"]))


@CT.altered(SAME, REFUSED)
def voxel_size_that_cannot_be(draft: Draft, rng: Rng) -> None:
    draft.header["pixdim"][1 + rng.integers(3)] = rng.choice([0, -3, np.nan, np.inf])


@CT.altered(SAME, "two_geometries")
def voxel_size_of_a_file_with_sform(draft: Draft, rng: Rng) -> None:
    draft.place(draft.truth.grid.affine, str(rng.choice(["sform", "both"])))
    draft.header["pixdim"][1 + rng.integers(3)] *= rng.uniform(1.1, 3)


@CT.altered(SAME)
def quaternion_sign(draft: Draft, rng: Rng) -> None:
    """A factor of 0 means 1, and a time step is nobody's business here."""
    if draft.header["pixdim"][0] == 1:
        draft.header["pixdim"][0] = 0
    draft.header["pixdim"][4] = rng.uniform(0, 9)


@CT.altered(SAME, "two_geometries")
def quaternion_sign_turned(draft: Draft, rng: Rng) -> None:
    draft.place(draft.truth.grid.affine, "both")
    draft.header["pixdim"][0] *= -1


@CT.altered(SAME, REFUSED)
def units_of_space(draft: Draft, rng: Rng) -> None:
    draft.header["xyzt_units"] = int(rng.choice([0, 1, 3, 4, 5, 10, 17, 26]))


@CT.altered(SAME)
def true_metres(draft: Draft, rng: Rng) -> None:
    draft.replace(np.diag([1e-3, 1e-3, 1e-3, 1]) @ draft.truth.grid.affine)
    draft.header.set_xyzt_units("meter")


@CT.altered(REFUSED)
def values_of_the_forms_not_finite(draft: Draft, rng: Rng) -> None:
    bad = rng.choice([np.nan, np.inf, -np.inf])
    if draft.header["sform_code"] > 0:
        draft.header["srow_y"][rng.integers(4)] = bad
    if draft.header["qform_code"] > 0:
        draft.header["quatern_b"] = bad


@CT.altered(REFUSED)
def singular(draft: Draft, rng: Rng) -> None:
    draft.place(draft.truth.grid.affine, "sform")
    draft.header[rng.choice(["srow_x", "srow_y", "srow_z"])][:3] = 0


# --- shape, type, packing ----------------------------------------------------------------------


@CT.altered(REFUSED)
def fewer_voxels_said(draft: Draft, rng: Rng) -> None:
    draft.header["dim"][1 + rng.integers(3)] -= rng.integers(1, 12)


@CT.altered(REFUSED)
def more_voxels_said(draft: Draft, rng: Rng) -> None:
    draft.header["dim"][1 + rng.integers(3)] += rng.integers(1, 12)


@CT.altered(REFUSED, *NOT_HU)
def sizes_exchanged(draft: Draft, rng: Rng) -> None:
    dim = draft.header["dim"]
    a, b = rng.choice([1, 2, 3], 2, replace=False)
    dim[a], dim[b] = int(dim[b]), int(dim[a])


@CT.altered(REFUSED, SAME)
def number_of_axes(draft: Draft, rng: Rng) -> None:
    draft.header["dim"][0] = rng.choice([0, 1, 2, 4, 5, 8, -1])


@CT.altered(REFUSED)
def two_phases(draft: Draft, rng: Rng) -> None:
    draft.store(np.stack([draft.stored, draft.stored], axis=3))


@CT.altered(SAME)
def further_axes_of_one(draft: Draft, rng: Rng) -> None:
    draft.store(draft.stored.reshape(*draft.stored.shape, *[1] * int(rng.integers(1, 3))))


@CT.altered(REFUSED)
def colours(draft: Draft, rng: Rng) -> None:
    draft.header["datatype"], draft.header["bitpix"] = 128, 24
    draft.stored = np.zeros((3, *draft.stored.shape), np.uint8)


@CT.altered(SAME)
def another_type(draft: Draft, rng: Rng) -> None:
    kind = str(rng.choice(["<i4", "<f8", "<f4", "<i2", "<i8"]))
    draft.header["scl_slope"], draft.header["scl_inter"] = 1, 0
    draft.store(draft.truth.array.astype(kind))


@CT.altered(SAME)
def big_endian(draft: Draft, rng: Rng) -> None:
    draft.header = draft.header.as_byteswapped(">")


@CT.altered(REFUSED, *NOT_HU)
def bytes_swapped(draft: Draft, rng: Rng) -> None:
    """The voxels, not the header."""
    if draft.stored.dtype.kind == "f":
        draft.store(draft.stored.astype("<i2"))
    draft.stored = draft.stored.byteswap()


@CT.altered(REFUSED, SAME, *NOT_HU)
def another_type_said(draft: Draft, rng: Rng) -> None:
    draft.declare(rng.choice(["u1", "<i2", "<u2", "<i4", "<f4", "<u4", "<f8"]))


@CT.altered(REFUSED, SAME, *NOT_HU)
def another_type_of_the_same_size_said(draft: Draft, rng: Rng) -> None:
    same = {"i2": ["<u2"], "u2": ["<i2"], "f4": ["<i4", "<u4"]}
    draft.declare(rng.choice(same[draft.stored.dtype.str[1:]]))


@CT.altered(REFUSED, SAME)
def start_of_the_voxels(draft: Draft, rng: Rng) -> None:
    draft.header["vox_offset"] = rng.choice([0, 344, 348, 350, 356, 368, 1e6, np.nan, -352])


@CT.altered(REFUSED)
def start_of_the_voxels_before_an_extension_ends(draft: Draft, rng: Rng) -> None:
    text = b"x" * 24
    draft.extension = b"\1\0\0\0" + np.array([32, 6], "<i4").tobytes() + text
    draft.header["vox_offset"] = rng.choice([352, 368])


@CT.altered(SAME)
def an_extension(draft: Draft, rng: Rng) -> None:
    draft.extension = b"\1\0\0\0" + np.array([32, 6], "<i4").tobytes() + b"x" * 24
    draft.header["vox_offset"] = 384


@CT.altered(REFUSED)
def cut_off(draft: Draft, rng: Rng) -> None:
    draft.after.append(cut(rng))


@CT.altered(REFUSED, "blank_slices", "padding", *NOT_HU)
def filled_up_with_zeros(draft: Draft, rng: Rng) -> None:
    """A copy onto a full disk: the size is right, the end is not there."""
    draft.packed, draft.suffix = False, ".nii"
    share = rng.uniform(0.15, 0.6)

    def fill(data: bytes) -> bytes:
        n = int(share * len(data))
        return data[:-n] + bytes(n)

    draft.after.append(fill)


@CT.altered(REFUSED, SAME)
def a_byte_of_the_packed_file(draft: Draft, rng: Rng) -> None:
    draft.packed, draft.suffix, share = True, ".nii.gz", rng.random()

    def change(data: bytes) -> bytes:
        at = int(share * len(data))
        return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]

    draft.after.append(change)


@CT.altered(SAME)
def packing_not_as_named(draft: Draft, rng: Rng) -> None:
    draft.suffix = str(rng.choice([".nii", ".NII.GZ", ".nii.gz"]))


@CT.altered(REFUSED)
def not_a_nifti(draft: Draft, rng: Rng) -> None:
    junk = rng.bytes(5000)
    some = [b"", b"<html>404</html>", junk, bytes(5000)][rng.integers(4)]
    draft.after.append(lambda _: some)


@CT.altered(SAME)
def nifti_2(draft: Draft, rng: Rng) -> None:
    old = draft.header
    new = nib.Nifti2Header(endianness="<")
    for name in {*old} & {*new} - {"sizeof_hdr", "magic", "vox_offset"}:
        new[name] = old[name]
    new["vox_offset"] = 544
    draft.header = new


# --- values ------------------------------------------------------------------------------------


@CT.altered(*NOT_HU)
def scale_shifts(draft: Draft, rng: Rng) -> None:
    draft.header["scl_inter"] += rng.choice([1024, 1000, -1024, -1000, 32768, 500, -400])


@CT.altered(*NOT_HU)
def scale_stretches(draft: Draft, rng: Rng) -> None:
    draft.header["scl_slope"] = rng.choice([0.1, 0.25, 0.5, 2.0, 10.0, -1.0])


@CT.altered(SAME, *NOT_HU)
def scale_left_out(draft: Draft, rng: Rng) -> None:
    draft.header["scl_slope"] = rng.choice([0.0, np.nan])


@CT.altered(REFUSED, SAME, *NOT_HU)
def scale_not_finite(draft: Draft, rng: Rng) -> None:
    draft.header[rng.choice(["scl_slope", "scl_inter"])] = rng.choice([np.inf, -np.inf, np.nan])


@CT.altered(*NOT_HU)
def windowed(draft: Draft, rng: Rng) -> None:
    low, high = [(-175, 250), (-160, 240), (-1000, 1000)][rng.integers(3)]
    share = np.clip((hu(draft) - low) / (high - low), 0, 1)
    out = [share, share * 2 - 1, np.rint(share * 255), np.rint(share * 4095)][rng.integers(4)]
    store_hu(draft, out)


@CT.altered(*NOT_HU)
def negated(draft: Draft, rng: Rng) -> None:
    store_hu(draft, -hu(draft))


@CT.altered(*NOT_HU)
def standard_deviations(draft: Draft, rng: Rng) -> None:
    store_hu(draft, (hu(draft) - hu(draft).mean()) / hu(draft).std())


@CT.altered("clipped")
def cut_at_a_window(draft: Draft, rng: Rng) -> None:
    store_hu(draft, np.clip(hu(draft), rng.uniform(-300, -120), rng.uniform(200, 400)))


@CT.altered(*NOT_HU)
def no_sign(draft: Draft, rng: Rng) -> None:
    store_hu(draft, np.abs(hu(draft)) if rng.random() < 0.5 else np.maximum(hu(draft), 0))


@CT.altered(*NOT_HU)
def a_label_map(draft: Draft, rng: Rng) -> None:
    truth = patient()[1]
    draft.truth = turned(patient()[0], np.random.default_rng(0), tilt=False)
    label = turned(truth, np.random.default_rng(0), tilt=False)
    draft.store(label.array.astype("<i2") if rng.random() < 0.5 else label.array)
    draft.replace(label.grid.affine)


@CT.altered(REFUSED)
def not_numbers(draft: Draft, rng: Rng) -> None:
    array = hu(draft).copy()
    n = int(rng.choice([1, 50, array.size // 2]))
    array.flat[rng.integers(array.size, size=n)] = rng.choice([np.nan, np.inf, -np.inf])
    store_hu(draft, array)


@CT.altered("outliers", *NOT_HU)
def impossible_values(draft: Draft, rng: Rng) -> None:
    array = hu(draft).copy()
    array.flat[rng.integers(array.size, size=int(rng.integers(1, 9)))] = rng.choice(
        [1e30, -1e9, 1e6]
    )
    store_hu(draft, array)


@CT.altered(REFUSED)
def one_value(draft: Draft, rng: Rng) -> None:
    store_hu(draft, np.full_like(hu(draft), rng.choice([0, -1000, 40])))


@CT.altered("padding")
def padded(draft: Draft, rng: Rng) -> None:
    array = hu(draft).copy()
    x, y = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in array.shape[:2])]
    array[(x * x + y * y > 1)] = rng.choice([-2000, -3024, -32768])
    store_hu(draft, array)


@CT.altered(*NOT_HU)
def some_slices_shifted(draft: Draft, rng: Rng) -> None:
    array = hu(draft).copy()
    first = int(rng.integers(array.shape[2] - 4))
    array[..., first : first + int(rng.integers(1, 4))] += rng.choice([1024, -1024, 1000])
    store_hu(draft, array)


# --- consistent files of another meaning -------------------------------------------------------


@CT.altered(OTHER)
def spacing_a_little_off(draft: Draft, rng: Rng) -> None:
    scale = np.eye(4)
    scale[rng.integers(3), rng.integers(3)] = 1
    scale[int(rng.integers(3))] *= rng.uniform(1.03, 1.08)
    draft.replace(draft.truth.grid.affine @ scale)


@CT.altered(REFUSED, "no_abdomen")
def spacing_ten_times_off(draft: Draft, rng: Rng) -> None:
    scale = np.diag([10.0, 10.0, 10.0, 1.0] if rng.random() < 0.5 else [0.1, 0.1, 0.1, 1.0])
    draft.replace(draft.truth.grid.affine @ scale)


@CT.altered(OTHER)
def left_and_right_exchanged(draft: Draft, rng: Rng) -> None:
    draft.replace(mirrored(draft.truth.grid, 0))


@CT.altered(OTHER)
def head_and_feet_exchanged(draft: Draft, rng: Rng) -> None:
    draft.replace(mirrored(draft.truth.grid, 2))


@CT.altered(OTHER)
def front_and_back_exchanged(draft: Draft, rng: Rng) -> None:
    draft.replace(mirrored(draft.truth.grid, 1))


@CT.altered(OTHER)
def turned_by_some_degrees(draft: Draft, rng: Rng) -> None:
    draft.replace(rotation(rng, 20) @ draft.truth.grid.affine)


@CT.altered(OTHER)
def values_a_little_off(draft: Draft, rng: Rng) -> None:
    store_hu(draft, hu(draft) * rng.uniform(0.95, 1.05) + rng.uniform(-30, 30))


def test_each_is_read_as_meant_or_refused_or_marked(tmp_path: Path) -> None:
    run(CT, make, read, tmp_path)
