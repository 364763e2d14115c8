"""Small files that claim much are refused by their headers, within 300 MB more than usual."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from tests import bombs
from tests.limited import MORE_MB, Outcome, limited

from atlas8k.core.claims import MAX_VOXELS, excess
from atlas8k.core.grid import Grid
from atlas8k.core.volume import read_geometry, read_label, write_nifti
from atlas8k.formats.dicom import inspect, read_headers, write_series
from atlas8k.labels.ingest import read_segmentation

GB = 10**9
CT, LABEL = "atlas8k.core.volume:read_ct", "atlas8k.core.volume:read_label"
GEOMETRY, COMMENTS = "atlas8k.core.volume:read_geometry", "atlas8k.core.volume:read_comments"
SEGMENTATION = "atlas8k.labels.ingest:read_segmentation"


def outcomes(tmp_path: Path, *calls: tuple[str, Path]) -> list[Outcome]:
    """What becomes of files; each was small."""
    usual = write_nifti(
        tmp_path / "usual.nii.gz", np.ones((64, 64, 64), np.uint8), Grid((64,) * 3, np.eye(4))
    )
    found = limited(["atlas8k.labels.ingest:read_segmentation", usual], calls)
    for (call, path), one in zip(calls, found, strict=True):
        print(f"{call} {path.name} ({path.stat().st_size:,} bytes): {one}")  # noqa: T201
        assert one.error not in ("", "Killed", "MemoryError"), (call, path, one)
        assert one.grown_mb < MORE_MB, (call, path, one)
        assert "MemoryError" not in one.text, (call, path, one)
        assert "allocate" not in one.text, (call, path, one)
    return found


def test_a_packed_header_extension(tmp_path: Path) -> None:
    """1.5 MB sent: 3.9 GB before."""
    size = 1_500_000_000
    honest = bombs.extended(tmp_path / "honest.nii.gz", size, honest=True)
    assert honest.stat().st_size < 2_000_000
    liar = bombs.extended(tmp_path / "liar.nii.gz", size, honest=False)
    other = bombs.two_files(tmp_path / "other.nii.gz", size)
    calls = [(call, path) for path in (honest, liar, other) for call in (CT, LABEL, GEOMETRY)]
    found = outcomes(tmp_path, *calls, (COMMENTS, honest), (SEGMENTATION, honest))
    for (_, path), one in zip(calls, found[: len(calls)], strict=True):
        assert ("another file" if path == other else "extension") in one.text


def test_layers_of_doubles(tmp_path: Path) -> None:
    """3.3 MB sent: 7.5 GB before."""
    path = bombs.layered_nrrd(tmp_path / "a.seg.nrrd", 188)
    assert path.stat().st_size < 3_500_000
    (found,) = outcomes(tmp_path, (SEGMENTATION, path))
    assert "64 layers of float64" in found.text


def test_coarse_voxels(tmp_path: Path) -> None:
    """109 kB: 7 to 11 GB before, on the networks' grid."""
    for mm in (12.0, 16.0):
        path = bombs.coarse_ct(tmp_path / f"{mm:g}.nii.gz", mm)
        for found in outcomes(tmp_path, (CT, path), (GEOMETRY, path)):
            assert "too coarse" in found.text


def test_a_segmentation_over_a_metre_at_a_tenth_of_a_mm(tmp_path: Path) -> None:
    """102 kB: 5.3 GB before."""
    calls = [(SEGMENTATION, bombs.thin_seg(tmp_path / f"{n}.dcm", n)) for n in (256, 400)]
    for found in outcomes(tmp_path, *calls):
        assert "claims" in found.text


def test_dimensions_that_no_memory_holds(tmp_path: Path) -> None:
    files = {}
    for name, shape in {"peta": (1 << 20,) * 3, "wraps": (1 << 22, 1 << 21, 1 << 21)}.items():
        files[name] = tmp_path / f"{name}.nii"
        files[name].write_bytes(bombs.nifti2_header(shape) + bytes(1000))
    files["large"] = tmp_path / "large.nii"
    files["large"].write_bytes(bombs.nifti_header((32767, 32767, 32767)) + bytes(1000))
    files["long"] = tmp_path / "long.nii"
    files["long"].write_bytes(bombs.nifti_header((2, 2, 32767)) + bytes(1000))
    for call in (CT, LABEL, SEGMENTATION):
        for found in outcomes(tmp_path, *((call, path) for path in files.values())):
            assert "claims" in found.text


def test_a_stream_longer_than_its_header_says(tmp_path: Path) -> None:
    path = bombs.longer(tmp_path / "a.nii.gz", 2 * GB)
    for found in outcomes(tmp_path, (CT, path), (LABEL, path), (SEGMENTATION, path)):
        assert "more voxels than its header says" in found.text


def test_nrrd_whose_header_and_stream_differ(tmp_path: Path) -> None:
    head = bombs.layered_nrrd(tmp_path / "x.seg.nrrd", 8, layers=1).read_bytes().split(b"\n\n")[0]
    endless = tmp_path / "endless.seg.nrrd"
    endless.write_bytes(head + b"\n\n" + bombs.packed_zeros(2 * GB))
    short = tmp_path / "short.seg.nrrd"
    short.write_bytes(head.replace(b"1 8 8 8", b"1 500 500 500") + b"\n\n" + bombs.packed_zeros(99))
    lines = tmp_path / "lines.nrrd"
    lines.write_bytes(b"NRRD0004\n" + b"#" * (1 << 26))
    many = tmp_path / "many.nrrd"
    many.write_bytes(b"NRRD0004\n" + b"#\n" * (1 << 24))
    found = outcomes(tmp_path, *((SEGMENTATION, p) for p in (endless, short, lines, many)))
    assert "more voxels than its header says" in found[0].text
    assert "ends after 99 of" in found[1].text
    assert all("header" in one.text for one in found[2:])


def test_dicom_that_unpacks_to_much(tmp_path: Path) -> None:
    deflated = bombs.deflated_seg(tmp_path / "deflated.dcm", 2 * GB)
    frame = bombs.packed_frame_seg(tmp_path / "frame.dcm", 2 * GB)
    found = outcomes(
        tmp_path,
        (SEGMENTATION, deflated),
        ("atlas8k.formats.dicom.read:read_headers", deflated),
        (SEGMENTATION, frame),
    )
    assert all("deflated" in one.text for one in found[:2])
    assert "cannot be decoded" in found[2].text


@pytest.mark.parametrize(
    "claim",
    [
        {"Rows": 65535, "Columns": 65535},
        {"NumberOfFrames": 2_000_000_000},
        {"PixelSpacing": [900.0, 900.0]},
    ],
)
def test_dicom_that_claims_much(tmp_path: Path, claim: dict[str, object]) -> None:
    series = small_series(tmp_path)
    for path in series.iterdir():
        data = pydicom.dcmread(path)
        for keyword, value in claim.items():
            setattr(data, keyword, value)
        data.save_as(path)
    outcomes(tmp_path, ("atlas8k.formats.dicom.read:read_volume", series))


def small_series(folder: Path) -> Path:
    grid = Grid((8, 8, 8), np.diag([-1.5, -1.5, 2.0, 1.0]))
    values = np.arange(512, dtype=np.int16).reshape(8, 8, 8)
    write_series(folder / "series", values, grid, seed="x")
    return folder / "series"


def test_a_slice_in_the_next_town(tmp_path: Path) -> None:
    """The places of slices that a gap has room for were listed, all of them."""
    series = small_series(tmp_path)
    path = sorted(series.iterdir())[-1]
    data = pydicom.dcmread(path)
    x, y, _ = data.ImagePositionPatient
    data.ImagePositionPatient = [x, y, 900_000_000]
    data.save_as(path)
    (found,) = outcomes(tmp_path, ("atlas8k.formats.dicom.read:read_volume", series))
    assert "scanner" in found.text
    (judged,) = inspect(read_headers(series))
    assert judged.refusal is not None
    assert judged.refusal.reason == "too_large"


def test_the_largest_real_ct_goes_through(tmp_path: Path) -> None:
    assert MAX_VOXELS > 512 * 512 * 2000
    for spacing in ((0.98, 0.98, 1.0), (0.7, 0.7, 0.5), (1.5, 1.5, 1.0)):
        assert excess((512, 512, 2000), spacing) is None
    for shape, spacing in {
        (512, 512, 60): (0.8, 0.8, 10.0),
        (128, 128, 200): (5.0, 5.0, 10.0),
        (512, 512, 1000): (1.52, 1.52, 2.0),
        (1024, 1024, 800): (0.35, 0.35, 0.4),
        (20, 18, 16): (12.0, 12.0, 15.0),
    }.items():
        assert excess(shape, spacing) is None
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(bombs.nifti_header((512, 512, 2000), mm=0.9))
    assert read_geometry(path).grid.shape == (512, 512, 2000)


def test_what_is_too_much_says_what(tmp_path: Path) -> None:
    assert "farther than any scanner" in str(excess((512, 512, 2000), (1.0, 1.0, 5.0)))
    assert "crop it" in str(excess((512, 512, 1000), (2.0, 2.0, 2.0)))
    assert "at most" in str(excess((2048, 2048, 300), (0.2, 0.2, 1.0)))


def test_honest_extensions_and_layers_are_read(tmp_path: Path) -> None:
    """Also where an extension is large, and where layers are many."""
    path = bombs.extended(tmp_path / "a.nii.gz", 1 << 20, honest=True)
    assert not read_label(path).array.any()
    kept = bombs.layered_nrrd(tmp_path / "b.seg.nrrd", 20, layers=24, kind="uint8")
    found = read_segmentation(kept)
    assert len(found.layers) == 24
    doubles = read_segmentation(bombs.layered_nrrd(tmp_path / "c.seg.nrrd", 20, layers=3))
    assert [layer.dtype for layer in doubles.layers] == [np.uint8] * 3
