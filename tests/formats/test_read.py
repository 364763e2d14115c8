"""CT volumes out of folders of DICOM files."""

from __future__ import annotations

import locale
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless
from tests.formats.kit import SHAPE, datasets, enhanced, oblique, ramp, save, spoilt, straight

from atlas8k.core.errors import EmptyVolumeError, GridMismatchError, UnreadableVolumeError
from atlas8k.core.grid import Grid
from atlas8k.core.volume import read_ct
from atlas8k.formats.dicom import (
    NoVolumeError,
    SeriesRefusedError,
    SeveralVolumesError,
    choose,
    inspect,
    is_dicom,
    other_series,
    read_headers,
    read_volume,
    write_series,
)
from atlas8k.formats.dicom.pixels import decode

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize("grid", [straight(), oblique()])
def test_what_is_written_is_read(tmp_path, grid):
    paths = write_series(tmp_path / "a", ramp(), grid, seed="one")
    names = list(paths)
    random.Random(1).shuffle(names)  # files named in any order
    for index, path in enumerate(names):
        path.rename(tmp_path / "a" / f"IM{index:04d}")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, ramp())
    assert volume.array.dtype == np.float32
    assert volume.grid.same_as(grid, 1e-4)


def test_a_grid_that_steps_backwards_comes_back_turned_around(tmp_path):
    affine = straight().affine.copy()
    affine[:, 2] *= -1
    grid = Grid(SHAPE, affine)
    write_series(tmp_path, ramp(), grid, seed="one")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, ramp()[:, :, ::-1])
    at = np.array([2, 1, SHAPE[2] - 1 - 5, 1])
    np.testing.assert_allclose(volume.grid.affine @ at, grid.affine @ [2, 1, 5, 1], atol=1e-4)


def test_same_seed_same_files_other_seed_other_uids(tmp_path):
    first, again, other = (tmp_path / name for name in "abc")
    write_series(first, ramp(), straight(), seed="one", study="s")
    write_series(again, ramp(), straight(), seed="one", study="s")
    write_series(other, ramp(), straight(), seed="two", study="s")
    assert [p.read_bytes() for p in sorted(first.iterdir())] == [
        p.read_bytes() for p in sorted(again.iterdir())
    ]
    a, b = (inspect(read_headers(folder))[0] for folder in (first, other))
    assert a.study_uid == b.study_uid
    assert a.uid != b.uid
    assert not {i.uid for i in a.instances} & {i.uid for i in b.instances}


def test_a_sheared_grid_is_not_written(tmp_path):
    affine = straight().affine.copy()
    affine[1, 2] = 1
    with pytest.raises(GridMismatchError, match="sheared"):
        write_series(tmp_path, ramp(), Grid(SHAPE, affine), seed="one")


def _implicit(one, index):
    one.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    one.is_implicit_VR = True


def _big_endian(one, index):
    one.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    one.is_little_endian = False
    one.PixelData = np.frombuffer(one.PixelData, "<i2").astype(">i2").tobytes()


def _slopes(one, index):
    """Every slice has a slope of its own, as PET-CT consoles write them; half steps too."""
    slope = [1, 0.5, 2][index % 3]
    values = np.frombuffer(one.PixelData, "<i2").astype(float)
    one.PixelData = np.rint(values / slope).astype("<i2").tobytes()
    one.RescaleSlope = slope


@pytest.mark.parametrize("change", [_implicit, _big_endian, _slopes])
def test_stored_values_become_hu_however_they_are_stored(tmp_path, change):
    save(tmp_path, spoilt(change))
    volume = read_volume(tmp_path)
    steps = np.array([1 if change is _slopes and z % 3 == 2 else 0 for z in range(SHAPE[2])])
    assert (np.abs(volume.array - ramp()) <= steps).all()


@pytest.mark.parametrize("kind", ["RLE", "jp2klossless", "jpeg_ls_lossless", "bigendian"])
def test_compressed_pixels_are_those_that_were_packed(kind):
    """Files that come with pydicom: one slice, packed by other programs."""
    plain, packed = (get_testdata_file(f"MR_small{part}.dcm") for part in ("", f"_{kind}"))
    assert dcmread(packed).file_meta.TransferSyntaxUID != dcmread(plain).file_meta.TransferSyntaxUID
    np.testing.assert_array_equal(decode(Path(packed)), decode(Path(plain)))


@pytest.fixture
def same_locale():
    """What writes JPEG sets the locale of the process to C, where text files are ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.mark.usefixtures("same_locale")
@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_a_compressed_series_is_read(tmp_path, compressor):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    grid = Grid((32, 32, 4), straight().affine)
    array = np.random.default_rng(0).integers(0, 2500, grid.shape).astype(np.int16)
    packed.mkdir()
    for path in write_series(plain, array, grid, seed="one"):
        before = sitk.ReadImage(str(path))
        image = sitk.Cast(before, sitk.sitkUInt16)
        for key in before.GetMetaDataKeys():
            image.SetMetaData(key, before.GetMetaData(key))
        for key, value in (("0028|0103", "0"), ("0028|1052", "0"), ("0028|1053", "1")):
            image.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(packed / path.name))
        writer.SetUseCompression(True)
        writer.SetCompressor(compressor)
        writer.Execute(image)
    assert all("JPEG" in one.file_meta.TransferSyntaxUID.name for one in read_headers(packed))
    np.testing.assert_array_equal(read_volume(packed).array, array)


def test_slices_that_share_a_uid_are_all_read(tmp_path):
    found = datasets()
    for one in found[3:6]:
        one.SOPInstanceUID = found[2].SOPInstanceUID
    save(tmp_path / "ct", found)
    shutil.copytree(tmp_path / "ct", tmp_path / "ct" / "copies")
    volume = read_volume(tmp_path / "ct")
    np.testing.assert_array_equal(volume.array, ramp())
    assert volume.grid.same_as(straight())


def test_a_copy_that_is_packed_otherwise_is_a_copy(tmp_path):
    grid = Grid((32, 32, 4), straight().affine)
    found = datasets(grid)
    save(tmp_path, found)
    for one in found[:3]:
        uid = one.SOPInstanceUID
        one.compress(RLELossless)
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = uid
    save(tmp_path / "packed", found)
    np.testing.assert_array_equal(read_volume(tmp_path).array, ramp(grid.shape))


def test_other_pixels_under_the_same_uid_are_refused_by_name(tmp_path):
    found = datasets()
    save(tmp_path, found)
    found[3].PixelData = found[4].PixelData
    save(tmp_path / "other", found[3:4])
    with pytest.raises(SeriesRefusedError, match=f"{found[3].SOPInstanceUID}.*different pixels"):
        read_volume(tmp_path)


def _doubled(one, index):
    values = np.frombuffer(one.PixelData, "<i2").astype(float)
    one.PixelData = np.rint(values / 0.5).astype("<i2").tobytes()
    one.RescaleSlope = 0.5


def test_an_enhanced_object_is_read_frame_by_frame(tmp_path):
    save(tmp_path, [enhanced(spoilt(_doubled, oblique()), [3, 0, 7, 1, 2, 6, 5, 4])])
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, ramp())
    assert volume.grid.same_as(oblique(), 1e-4)


def test_frames_of_several_slopes_are_refused_rather_than_read_wrongly(tmp_path):
    save(tmp_path, [enhanced(spoilt(_slopes))])
    with pytest.raises(SeriesRefusedError, match="differently"):
        read_volume(tmp_path)


def test_several_volumes_are_listed_and_one_can_be_named(tmp_path):
    write_series(tmp_path / "a", ramp(), straight(), seed="one", description="arterial")
    write_series(tmp_path / "b", ramp() + 1, straight(), seed="two", description="venous")
    other = datasets(oblique(), seed="three")
    for one in other:
        one.Modality = "MR"
    save(tmp_path / "c", other)
    with pytest.raises(SeveralVolumesError, match="--series UID") as caught:
        read_volume(tmp_path)
    assert {"arterial", "venous"} <= set(str(caught.value).replace('"', " ").split())
    venous = next(one for one in inspect(read_headers(tmp_path)) if '"venous"' in one.name)
    np.testing.assert_array_equal(read_volume(tmp_path, venous.uid).array, ramp() + 1)
    with pytest.raises(NoVolumeError, match=r"no series 1\.2\.3; there is: .*arterial.*MR"):
        read_volume(tmp_path, "1.2.3")


def test_a_refused_series_is_named_with_what_else_there_is(tmp_path):
    paths = write_series(tmp_path / "a", ramp(), straight(), seed="one", description="gap")
    paths[3].unlink()
    with pytest.raises(SeriesRefusedError, match=r"gap.*lacks 1 slice at -94\.0 mm"):
        read_volume(tmp_path)
    write_series(tmp_path / "b", ramp(), straight(), seed="two", description="whole")
    assert read_volume(tmp_path).array.shape == SHAPE  # the only volume there is
    gap = next(one for one in inspect(read_headers(tmp_path)) if '"gap"' in one.name)
    with pytest.raises(SeriesRefusedError, match=r"lacks 1 slice.*there is: .*whole"):
        read_volume(tmp_path, gap.uid)


def test_a_folder_of_other_things(tmp_path):
    with pytest.raises(UnreadableVolumeError, match="no such file or folder"):
        read_volume(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / ".DS_Store").write_bytes(b"\0" * 200)
    with pytest.raises(NoVolumeError, match="no DICOM images"):
        read_volume(tmp_path)
    write_series(tmp_path / "a", ramp(), straight(), seed="one")
    (tmp_path / "a" / "._0001.dcm").write_bytes(b"x" * 200)  # what some file systems leave
    assert read_volume(tmp_path).array.shape == SHAPE
    assert is_dicom(tmp_path)
    assert is_dicom(tmp_path / "a" / "0001.dcm")
    assert not is_dicom(tmp_path / "notes.txt")


def test_files_may_be_given_one_by_one(tmp_path):
    paths = write_series(tmp_path, ramp(), straight(), seed="one")
    np.testing.assert_array_equal(read_volume(paths[:4]).array, ramp()[:, :, :4])


@pytest.mark.parametrize("keep", [0, 60, 300, -30])
def test_a_damaged_file_is_named(tmp_path, keep):
    paths = write_series(tmp_path, ramp(), straight(), seed="one")
    paths[-1].write_bytes(paths[-1].read_bytes()[:keep])
    with pytest.raises((UnreadableVolumeError, SeriesRefusedError)) as caught:
        read_volume(tmp_path)
    assert "0008" in str(caught.value) or "series" in str(caught.value)


def test_a_file_that_goes_away_between_header_and_pixels(tmp_path):
    from atlas8k.formats.dicom import read_series

    write_series(tmp_path, ramp(), straight(), seed="one")
    (series,) = inspect(read_headers(tmp_path))
    (tmp_path / "0003.dcm").unlink()
    with pytest.raises(UnreadableVolumeError, match=r"0003\.dcm"):
        read_series(series)


def test_a_series_of_one_value_is_no_ct(tmp_path):
    write_series(tmp_path, np.zeros(SHAPE), straight(), seed="one")
    with pytest.raises(EmptyVolumeError, match="every voxel"):
        read_volume(tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real data beside the project")
def test_the_real_series(tmp_path):
    volume = read_volume(DATA / "cptac-pda-dicom")
    assert volume.grid.shape == (512, 512, 35)
    assert volume.grid.spacing == pytest.approx((0.859375, 0.859375, 5))
    assert volume.grid.orientation == "LPS"
    # the same voxels as another reader makes of them
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(DATA / "cptac-pda-dicom")))
    image = reader.Execute()
    np.testing.assert_array_equal(volume.array.T, sitk.GetArrayViewFromImage(image))
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    assert read_ct(tmp_path / "ct.nii.gz").grid.same_as(volume.grid)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real data beside the project")
def test_the_real_series_with_a_slice_lost(tmp_path):
    shutil.copytree(DATA / "cptac-pda-dicom", tmp_path / "ct")
    (tmp_path / "ct" / "1-20.dcm").unlink()
    with pytest.raises(SeriesRefusedError, match=r"LUNG BASES.*lacks 1 slice at -103\.3 mm"):
        read_volume(tmp_path / "ct")


@pytest.mark.parametrize(
    "syntax",
    [None, ImplicitVRLittleEndian, ExplicitVRBigEndian],
    ids=["explicit", "implicit", "big"],
)
@pytest.mark.parametrize("change", [{"Rows": 4}, {"Columns": 5}, {"BitsAllocated": 8}, {"Rows": 9}])
def test_pixels_that_are_not_as_many_as_said_are_refused(tmp_path, syntax, change):
    found = datasets()
    for one in found:
        if syntax is not None:
            one.is_implicit_VR = syntax.is_implicit_VR
            one.is_little_endian = syntax.is_little_endian
            one.file_meta.TransferSyntaxUID = syntax
    save(tmp_path / "good", found)
    assert read_volume(tmp_path / "good").grid.shape == SHAPE
    for one in found:
        for keyword, value in change.items():
            setattr(one, keyword, value)
    save(tmp_path / "bad", found)
    with pytest.raises(SeriesRefusedError, match="bytes of pixels where"):
        read_volume(tmp_path / "bad")


def test_a_series_that_cannot_be_read_is_named_beside_the_one_that_is(tmp_path):
    save(tmp_path / "a", datasets(seed="whole"))
    save(tmp_path / "b", [one for z, one in enumerate(datasets(seed="part")) if z != 3])
    series = inspect(read_headers(tmp_path))
    (remark,) = other_series(series)
    assert "lacks 1 slice" in remark.text
    assert choose(series, tmp_path).refusal is None
    assert other_series(inspect(read_headers(tmp_path / "a"))) == ()
