"""Uploaded files and what their headers claim."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fastapi import UploadFile

from atlas8k.core.errors import VolumeError
from atlas8k.server.uploads import check_claims, parse_object, received
from atlas8k.services.errors import RequestError, TooLargeError


def claiming(path: Path, shape: tuple[int, int, int], voxels: int) -> Path:
    """A packed NIfTI file whose header says `shape` and that holds `voxels` voxels."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path.write_bytes(gzip.compress(header.binaryblock + b"\0" * 4 + b"\0" * (2 * voxels)))
    return path


def memory(action: Callable[[], object]) -> int:
    """Bytes that `action` takes at its highest.

    The least of three runs: the process holds other threads, and a first run imports.
    """
    peaks = []
    for _ in range(3):
        tracemalloc.start()
        try:
            action()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return min(peaks)


def test_what_is_there_passes(tmp_path: Path) -> None:
    check_claims(claiming(tmp_path / "a.nii.gz", (10, 10, 10), 1000), upload_mb=1)


@pytest.mark.parametrize("shape", [(1000, 1000, 1000), (32767, 32767, 32767)])
def test_a_claim_is_refused_before_memory_is_taken_for_it(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    path = claiming(tmp_path / "a.nii.gz", shape, 1000)

    def refuse() -> None:
        with pytest.raises(TooLargeError, match="claims"):
            check_claims(path, upload_mb=1024)

    assert memory(refuse) < 10 << 20


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path: Path) -> None:
    path = claiming(tmp_path / "a.nii.gz", (10, 10, 10), 8 << 20)
    assert path.stat().st_size < 1 << 20

    def refuse() -> None:
        with pytest.raises(TooLargeError, match="unpacks"):
            check_claims(path, upload_mb=4)

    assert memory(refuse) < 10 << 20


def test_one_whose_name_does_not_say_that_it_is_packed(tmp_path: Path) -> None:
    path = claiming(tmp_path / "a.nii", (10, 10, 10), 8 << 20)
    with pytest.raises(TooLargeError, match="unpacks"):
        check_claims(path, upload_mb=4)


def test_less_than_claimed(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="there are 2352"):
        check_claims(claiming(tmp_path / "a.nii.gz", (10, 10, 20), 1000), upload_mb=1)


def test_an_upload_is_gone_after_its_request(tmp_path: Path) -> None:
    content = claiming(tmp_path / "a.nii.gz", (10, 10, 10), 1000).read_bytes()
    name = "../../../evil.nii.gz"
    with received(
        "label file", UploadFile(io.BytesIO(content), filename=name), upload_mb=1
    ) as path:
        assert path.read_bytes() == content
        assert path.name == "upload.nii.gz"
    assert not path.parent.exists()
    for bad in ("x.txt", "", None, "x.nii.gz\0"):
        with (
            pytest.raises(RequestError),
            received("label file", UploadFile(io.BytesIO(b""), filename=bad), upload_mb=1),
        ):
            pass


@pytest.mark.parametrize("text", ["{", "[1]", '"x"', "nope", "null", "[" * 5000])
def test_a_field_that_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="params"):
        parse_object("params", text)


def test_an_empty_field_is_an_empty_object() -> None:
    assert parse_object("params", "") == {}
