from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.labels.kit import GRID, SHAPE, label, oblique, save_nifti, save_nrrd

from atlas8k.core.errors import (
    GridMismatchError,
    LabelNameError,
    LabelValueError,
    NotFiniteError,
    NotThreeDimensionalError,
    UnreadableVolumeError,
    VolumeError,
)
from atlas8k.core.grid import Grid
from atlas8k.core.label_mapping import Terminology
from atlas8k.core.volume import write_nifti
from atlas8k.formats import nrrd as nrrd_file
from atlas8k.formats.segmentation import Segment
from atlas8k.labels.ingest import read_segmentation

DCMQI = Path(__file__).parents[3] / "shared" / "data" / "dcmqi-seg"
needs_sample = pytest.mark.skipif(not DCMQI.is_dir(), reason="no DICOM SEG sample data")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_of_any_number_type(tmp_path: Path, dtype: type, suffix: str) -> None:
    path = save_nifti(tmp_path / f"a{suffix}", label(1, 9).astype(dtype))
    found = read_segmentation(path, within=GRID)
    assert (found.format, found.segments) == ("nifti", None)
    assert found.layers[0].dtype == np.uint8
    assert np.array_equal(found.layers[0], label(1, 9))


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("grid", [GRID, oblique()], ids=["straight", "oblique"])
def test_nrrd_lies_where_the_nifti_does(tmp_path: Path, encoding: str, grid: Grid) -> None:
    for name, dtype in (("a", np.uint8), ("b", np.dtype(">i2"))):
        array = label(1, 9).astype(dtype)
        path = save_nrrd(tmp_path / f"{name}.nrrd", [array], grid=grid, encoding=encoding)
        found = read_segmentation(path, within=grid)
        assert (found.format, found.segments) == ("nrrd", None)
        assert found.grid.same_as(grid)
        assert np.array_equal(found.layers[0], label(1, 9))


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
        ("LPS", (-1, -1, 1)),
    ],
)
def test_each_space_of_nrrd(tmp_path: Path, space: str, signs: tuple[int, ...]) -> None:
    there = np.diag([*signs, 1.0]) @ GRID.affine
    fields = {"space directions": there[:3, :3].T, "space origin": there[:3, 3]}
    path = save_nrrd(tmp_path / "a.nrrd", [label(5)], **{"space": space, **fields})
    assert read_segmentation(path).grid.same_as(GRID)


def test_seg_nrrd_names_layers_and_values(tmp_path: Path) -> None:
    segments = [("liver", 2, 0), ("spleen", 7, 1), ("aorta", 1, 1)]
    path = save_nrrd(tmp_path / "a.seg.nrrd", [label(2), label(7, 1)], segments)
    found = read_segmentation(path, within=GRID)
    assert found.format == "seg.nrrd"
    assert found.segments == tuple(Segment(*segment) for segment in segments)
    assert [layer.shape for layer in found.layers] == [SHAPE, SHAPE]
    assert np.array_equal(found.layers[0], label(2))
    assert np.array_equal(found.layers[1], label(7, 1))


def test_seg_nrrd_with_layers_last(tmp_path: Path) -> None:
    lps = np.diag([-1.0, -1, 1, 1]) @ GRID.affine
    path = save_nrrd(
        tmp_path / "a.seg.nrrd",
        [np.stack([label(1), label(0, 1)], axis=-1)],
        [("liver", 1, 0), ("spleen", 1, 1)],
        kinds=["domain", "domain", "domain", "list"],
        **{"space directions": np.vstack([lps[:3, :3].T, [np.nan] * 3])},
    )
    found = read_segmentation(path, within=GRID)
    assert np.array_equal(found.layers[1], label(0, 1))


def test_seg_nrrd_of_old_slicers_has_a_layer_a_segment(tmp_path: Path) -> None:
    names = {"Segment0_Name": "liver", "Segment1_Name": "spleen"}
    path = save_nrrd(tmp_path / "a.seg.nrrd", [label(1), label(0, 1)], **names)
    assert read_segmentation(path).segments == (Segment("liver", 1, 0), Segment("spleen", 1, 1))


def test_a_file_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    path = save_nrrd(tmp_path / "a.nrrd", [label(1)])
    shutil.copy(path, tmp_path / "upload.nii.gz")
    assert read_segmentation(tmp_path / "upload.nii.gz").format == "nrrd"


# Bad files: the type of the error, and a word of what it says.
NIFTI_VALUES = {
    "negative": (np.where(label(1), -1, 0).astype(np.int16), LabelValueError, "from -1 to 0"),
    "fraction": (label(1) * np.float32(0.5), LabelValueError, "fractions"),
    "large": (label(1) * np.int16(300), LabelValueError, "300"),
    "nan": (np.where(label(1), np.nan, 0).astype(np.float32), NotFiniteError, "NaN"),
    "infinite": (np.where(label(1), np.inf, 0).astype(np.float32), NotFiniteError, "infinity"),
    "4d": (np.stack([label(1), label(1)], -1), NotThreeDimensionalError, "3D"),
}


@pytest.mark.parametrize(("array", "kind", "word"), NIFTI_VALUES.values(), ids=NIFTI_VALUES)
@pytest.mark.parametrize("nifti", [True, False], ids=["nifti", "nrrd"])
def test_values_that_are_no_labels(
    tmp_path: Path, array: np.ndarray, kind: type[VolumeError], word: str, nifti: bool
) -> None:
    if nifti:
        path = save_nifti(tmp_path / "a.nii.gz", array)
    elif array.ndim == 4:
        pytest.skip("layers are a matter of their own there")
    else:
        path = save_nrrd(tmp_path / "a.nrrd", [array])
    with pytest.raises(kind, match=word):
        read_segmentation(path)


def test_fractions_by_the_scale_of_the_header(tmp_path: Path) -> None:
    image = nib.Nifti1Image(label(1), GRID.affine)
    image.header.set_slope_inter(0.5, 0)
    nib.save(image, tmp_path / "a.nii")
    written = bytearray((tmp_path / "a.nii").read_bytes())
    written[112:116] = np.float32(0.5).tobytes()  # scl_slope; nibabel resets it on saving
    (tmp_path / "a.nii").write_bytes(written)
    with pytest.raises(LabelValueError):
        read_segmentation(tmp_path / "a.nii")


def test_nan_affine(tmp_path: Path) -> None:
    affine = GRID.affine.copy()
    affine[0, 3] = np.nan
    nib.save(nib.Nifti1Image(label(1), affine), tmp_path / "a.nii.gz")
    with pytest.raises(NotFiniteError, match="affine"):
        read_segmentation(tmp_path / "a.nii.gz")
    origin = {"space origin": [np.nan, 0, 0]}
    with pytest.raises(NotFiniteError, match=r"a\.nrrd.*affine"):
        read_segmentation(save_nrrd(tmp_path / "a.nrrd", [label(1)], **origin))


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x1f\x8b\x08\x00cut", b"NRRD0004\nx"])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.seg.nrrd", "a.dcm"])
def test_what_is_no_image(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableVolumeError, match=name):
        read_segmentation(tmp_path / name)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableVolumeError, match="no such file"):
        read_segmentation(tmp_path / "a.nii.gz")


def noisy() -> tuple[np.ndarray, Grid]:
    """Large enough that the end of the file is not the end of its header."""
    grid = Grid((40, 40, 40), GRID.affine)
    return np.random.default_rng(0).integers(0, 9, grid.shape, dtype=np.uint8), grid


@pytest.mark.parametrize("encoding", ["raw", "gzip", "nii.gz", "nii"])
def test_a_file_that_ends_too_early(tmp_path: Path, encoding: str) -> None:
    noise, grid = noisy()
    if encoding.startswith("nii"):
        path = write_nifti(tmp_path / f"a.{encoding}", noise, grid)
    else:
        path = save_nrrd(tmp_path / "a.nrrd", [noise], grid=grid, encoding=encoding)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(UnreadableVolumeError, match=r"damaged|ends after"):
        read_segmentation(path)


def test_a_flipped_bit_in_compressed_voxels(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", *noisy())
    whole = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0))
    whole[-100] ^= 1  # stored, not deflated: only the checksum can tell
    path.write_bytes(whole)
    with pytest.raises(UnreadableVolumeError, match="damaged"):
        read_segmentation(path)


def test_what_does_not_lie_on_the_ct_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_nrrd(tmp_path / "a.nrrd", [label(1)])
    monkeypatch.setattr(nrrd_file, "_read_layers", lambda *_: pytest.fail("voxels were read"))
    with pytest.raises(GridMismatchError):
        read_segmentation(path, within=oblique())


HEADERS = {
    "another file": ({"data file": "/etc/passwd"}, UnreadableVolumeError, "another file"),
    "another file, old": ({"datafile": "x.raw"}, UnreadableVolumeError, "another file"),
    "huge": ({"sizes": "70000 70000 70000"}, UnreadableVolumeError, "claims"),
    "negative": ({"sizes": "7 6 -5"}, NotThreeDimensionalError, "sizes"),
    "two axes": ({"sizes": "7 6", "dimension": "2"}, NotThreeDimensionalError, "sizes"),
    "space": ({"space": "scanner-xyz"}, UnreadableVolumeError, "space"),
    "directions": ({"space directions": "(1,0,0) (0,1,0) none"}, NotFiniteError, "affine"),
    "flat": ({"space directions": "(1,0,0) (0,1,0) (0,0,0)"}, NotFiniteError, "singular"),
    "type": ({"type": "block"}, UnreadableVolumeError, "broken"),
    "encoding": ({"encoding": "bzip2"}, UnreadableVolumeError, "encoding"),
    "skip": ({"byte skip": "-1"}, UnreadableVolumeError, "skipped"),
    "number": ({"sizes": "7 six 5"}, UnreadableVolumeError, "header"),
    "short": ({"sizes": "7 6 50"}, UnreadableVolumeError, "ends after"),
}


@pytest.mark.parametrize(("fields", "kind", "word"), HEADERS.values(), ids=HEADERS)
def test_nrrd_headers_that_mean_harm(
    tmp_path: Path, fields: dict[str, str], kind: type[VolumeError], word: str
) -> None:
    header = {
        "type": "uint8",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "7 6 5",
        "space directions": "(1,0,0) (0,1,0) (0,0,1)",
        "encoding": "raw",
        "space origin": "(0,0,0)",
        **fields,
    }
    text = "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in header.items()) + "\n"
    path = tmp_path / "a.nrrd"
    path.write_bytes(text.encode() + label(1).tobytes(order="F"))
    with pytest.raises(kind, match=word):
        read_segmentation(path)


SEGMENTS = {
    "same voxels": ([("liver", 1, 0), ("spleen", 1, 0)], "both have value"),
    "no such layer": ([("liver", 1, 3)], "out of range"),
    "value": ([("liver", 300, 0)], "out of range"),
    "background": ([("liver", 0, 0)], "out of range"),
    "no number": ([("liver", "one", 0)], "no number"),
}


@pytest.mark.parametrize(("segments", "word"), SEGMENTS.values(), ids=SEGMENTS)
def test_segments_that_cannot_be(tmp_path: Path, segments: list, word: str) -> None:
    path = save_nrrd(tmp_path / "a.seg.nrrd", [label(1)], segments)
    with pytest.raises(LabelNameError, match=word):
        read_segmentation(path)


def test_a_segment_without_a_name(tmp_path: Path) -> None:
    path = save_nrrd(tmp_path / "a.seg.nrrd", [label(1)], Segment0_LabelValue="1")
    with pytest.raises(LabelNameError, match="Name"):
        read_segmentation(path)


@needs_sample
def test_dicom_seg_is_read_as_the_nrrd_beside_it() -> None:
    seg = read_segmentation(DCMQI / "liver.dcm")
    twin = read_segmentation(DCMQI / "liver_seg.nrrd")
    assert (seg.format, seg.segments) == (
        "dicom-seg",
        (Segment("Liver", 1, 0, Terminology("T-62000")),),
    )
    assert seg.grid.same_as(twin.grid)
    assert np.array_equal(seg.layers[0], twin.layers[0])


@needs_sample
def test_dicom_seg_that_overlaps_has_layers() -> None:
    seg = read_segmentation(DCMQI / "partial_overlaps.dcm")
    assert seg.segments is not None
    assert [(s.name, s.value, s.layer) for s in seg.segments if s.layer] == [
        ("ORANGE", 2, 1),
        ("PURPLE", 3, 2),
    ]
    assert [np.unique(layer).tolist() for layer in seg.layers] == [[0, 1, 4, 5], [0, 2], [0, 3]]


@needs_sample
def test_dicom_that_is_no_segmentation_or_cut_off(tmp_path: Path) -> None:
    with pytest.raises(UnreadableVolumeError, match="no segmentation"):
        read_segmentation(DCMQI / "ct-3slice" / "01.dcm")
    whole = (DCMQI / "liver.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(whole[:2000])
    with pytest.raises(UnreadableVolumeError):
        read_segmentation(tmp_path / "a.dcm")
    (tmp_path / "a.dcm").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableVolumeError):
        read_segmentation(tmp_path / "a.dcm")
    with pytest.raises(GridMismatchError):
        read_segmentation(DCMQI / "liver.dcm", within=GRID)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_names_with_diacritics_come_through(tmp_path: Path, encoding: str) -> None:
    path = save_nrrd(tmp_path / "a.seg.nrrd", [label(5)], [("liver", 5, 0)])
    path.write_bytes(path.read_bytes().replace(b"Name:=liver", "Name:=livér".encode(encoding)))
    (segment,) = read_segmentation(path, within=GRID).segments or ()
    assert segment.name == "livér"


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_more_voxels_than_a_nrrd_says_are_refused(tmp_path: Path, encoding: str) -> None:
    path = save_nrrd(tmp_path / "a.nrrd", [label(5)], encoding=encoding)
    said, fewer = f"sizes: {SHAPE[0]} ".encode(), f"sizes: {SHAPE[0] - 1} ".encode()
    path.write_bytes(path.read_bytes().replace(said, fewer))
    with pytest.raises(UnreadableVolumeError, match="more voxels than its header says"):
        read_segmentation(path)
