"""Voxels read in parts are the voxels read at once."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

from atlas8k.core import volume
from atlas8k.core.errors import UnreadableVolumeError
from atlas8k.core.nifti_file import open_bytes
from atlas8k.core.volume import read_ct, read_label


@pytest.fixture
def stored():
    return np.random.default_rng(0).integers(-1024, 3000, (27, 25, 21)).astype(np.int16)


@pytest.mark.parametrize("part", [1, 2000, 1 << 23])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("extra", [(), (1,), (1, 1)])
def test_parts_make_the_whole(tmp_path, monkeypatch, stored, part, suffix, extra):
    monkeypatch.setattr(volume, "PART_BYTES", part)
    image = nib.Nifti1Image(stored.reshape(*stored.shape, *extra), np.eye(4))
    image.header.set_slope_inter(0.5, -100)
    path = tmp_path / f"ct{suffix}"
    nib.save(image, path)
    found = read_ct(path).array
    assert found.dtype == np.float32
    assert found.flags.f_contiguous
    at_once = np.asarray(nib.load(path).dataobj, dtype=np.float64).reshape(stored.shape)
    assert np.array_equal(found, at_once.astype(np.float32))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_file_that_ends_in_a_later_part_is_damaged(tmp_path, monkeypatch, stored, suffix):
    monkeypatch.setattr(volume, "PART_BYTES", 4000)
    path = tmp_path / f"ct{suffix}"
    nib.save(nib.Nifti1Image(stored, np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(UnreadableVolumeError, match=r"ct\.nii.*damaged"):
        read_ct(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("read", [read_ct, read_label])
def test_more_voxels_than_the_header_says_are_refused(tmp_path, stored, suffix, read):
    array = np.abs(stored) % 9
    path = tmp_path / f"file{suffix}"
    nib.save(nib.Nifti1Image(array.astype(np.uint8), np.eye(4)), path)
    assert np.array_equal(read(path).array, array)
    data = open_bytes(path).read()
    pack = gzip.compress if suffix == ".nii.gz" else bytes
    path.write_bytes(pack(data + bytes(500)))  # some writers fill up a block
    assert np.array_equal(read(path).array, array)
    for more in (b"\1", bytes(5000)):
        path.write_bytes(pack(data + more))
        with pytest.raises(UnreadableVolumeError, match="more voxels than its header says"):
            read(path)
    fewer = bytearray(data)
    fewer[46:48] = np.int16(stored.shape[2] - 1).tobytes()  # dim[3]
    path.write_bytes(pack(bytes(fewer)))
    with pytest.raises(UnreadableVolumeError, match="more voxels than its header says"):
        read(path)
