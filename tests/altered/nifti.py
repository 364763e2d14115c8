"""Drafts of NIfTI files: header and voxels are set by hand, so that they may contradict."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from tests.altered.kit import Rng

from atlas8k.core.grid import Volume

FORMS = ("both", "sform", "qform")


@dataclass
class Draft:
    """A file that is about to be written.

    Attributes
    ----------
    truth
        What it is meant to hold.
    stored
        Voxels as stored, ``(X, Y, Z)``; `header` says what type they are of.
    after
        Applied to the bytes of the file in turn.
    """

    truth: Volume
    stored: npt.NDArray[Any]
    header: Any
    suffix: str
    packed: bool
    after: list[Callable[[bytes], bytes]] = field(default_factory=list)
    extension: bytes = bytes(4)
    label_info: list[dict[str, Any]] | None = None

    @classmethod
    def of(
        cls, truth: Volume, stored: npt.NDArray[Any], rng: Rng, forms: str | None = None
    ) -> Draft:
        """A good file: `forms` of it in use, packed or not."""
        header = nib.Nifti1Header(endianness="<")
        packed = bool(rng.random() < 0.5)
        draft = cls(truth, stored, header, ".nii.gz" if packed else ".nii", packed)
        draft.declare(stored.dtype, stored.shape)
        header.set_xyzt_units("mm")
        header["vox_offset"], header["magic"] = 352, b"n+1"
        header["scl_slope"] = 1
        forms = forms or FORMS[rng.integers(3)]
        draft.place(truth.grid.affine, forms, int(rng.choice([1, 2, 4])))
        return draft

    def declare(self, dtype: npt.DTypeLike, shape: tuple[int, ...] | None = None) -> None:
        """Say in the header what type the voxels are of, and how many there are."""
        if shape is not None:
            self.header.set_data_shape(shape)
        self.header.set_data_dtype(np.dtype(dtype).newbyteorder("<"))

    def store(self, array: npt.NDArray[Any]) -> None:
        """Store other voxels, and say so."""
        self.stored = array
        self.declare(array.dtype, array.shape)

    def place(self, affine: npt.NDArray[np.float64], forms: str = "both", code: int = 1) -> None:
        """Say in sform, qform or both where the voxels lie; the other one is not in use."""
        header = self.header
        zooms = np.linalg.norm(affine[:3, :3], axis=0)
        header["pixdim"][:4] = [1, *zooms]
        if forms in ("both", "qform"):
            header.set_qform(affine, code=code, strip_shears=True)
        else:
            header["qform_code"] = 0
        if forms in ("both", "sform"):
            header.set_sform(affine, code=code)
        else:
            header["sform_code"] = 0

    @property
    def forms(self) -> str:
        """Which forms are in use."""
        both = int(self.header["sform_code"]) > 0, int(self.header["qform_code"]) > 0
        return {(True, True): "both", (True, False): "sform", (False, True): "qform"}[both]

    def replace(self, affine: npt.NDArray[np.float64]) -> None:
        """Say in all forms in use that the voxels lie elsewhere."""
        self.place(
            affine, self.forms, max(int(self.header[f"{f}_code"]) for f in ("sform", "qform"))
        )

    def write(self, folder: Path) -> Path:
        """The finished file."""
        endian = self.header.endianness
        voxels = self.stored.astype(self.stored.dtype.newbyteorder(endian)).tobytes(order="F")
        data = self.header.binaryblock + self.extension + voxels
        if self.packed:
            data = gzip.compress(data, 1, mtime=0)
        for change in self.after:
            data = change(data)
        path = folder / f"file{self.suffix}"
        path.write_bytes(data)
        return path


def cut(rng: Rng, most: float = 0.9) -> Callable[[bytes], bytes]:
    """Lose the end of a file, at most so large a share, at least one byte."""
    share = rng.uniform(0, most)
    return lambda data: data[: -max(1, int(share * len(data)))]
