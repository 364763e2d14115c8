"""Make a folder of phantoms: once, kept, finished after an interruption."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib

from abdomen_phantom.generate import generate
from abdomen_phantom.setting import STANDARD, Setting
from atlas8k.core.errors import VolumeError
from atlas8k.core.files import publish
from atlas8k.core.volume import write_nifti

DESCRIPTION = "phantoms.json"


@dataclass(frozen=True)
class Written:
    """One phantom of a set; ``made`` is False where a complete one was kept."""

    image: Path
    label: Path
    case: dict[str, Any]
    made: bool


def write_set(
    folder: str | os.PathLike[str],
    count: int,
    first_seed: int = 0,
    setting: Setting = STANDARD,
    labels_folder: str | os.PathLike[str] | None = None,
) -> Iterator[Written]:
    """Write ``phantom_<seed>.nii.gz`` for ``count`` seeds, and their truth, one by one.

    Keep phantoms that exist, complete and of the same setting and version.

    Parameters
    ----------
    folder
        For the CTs (int16, HU). Made if missing.
    count, first_seed
        Seeds ``first_seed`` to ``first_seed + count - 1``.
    setting
        Ranges to draw from.
    labels_folder
        For the truth (uint8, organ ids, same file names) and for ``phantoms.json``,
        which says what each phantom is; by default a sibling folder that ends in
        ``-truth``: MONAI Label lists every NIfTI that lies flat in its studies folder.

    Raises
    ------
    VolumeError
        The labels folder is the image folder, the description is not readable, or a phantom
        of another setting has that name: somebody may have drawn labels on it.
    """
    images = Path(folder)
    beside = images.absolute().parent / f"{images.absolute().name}-truth"
    labels = Path(labels_folder or beside)
    if labels.resolve() == images.resolve():
        raise VolumeError(labels, "labels beside the CTs would be served as CTs; name another")
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    description = labels / DESCRIPTION
    cases = _read_description(description)
    for seed in range(first_seed, first_seed + count):
        name = f"phantom_{seed:04d}"
        image, label = images / f"{name}.nii.gz", labels / f"{name}.nii.gz"
        known = cases.get(name, {})
        expected = {"seed": seed, "setting": setting.name, "version": setting.version}
        same = expected.items() <= known.items()
        if image.is_file() and known.get("setting", setting.name) != setting.name:
            raise VolumeError(
                image,
                f"a phantom of setting {known['setting']}, not {setting.name}, and there may be "
                "labels of it; name another folder, or delete this one and its truth",
            )
        if same and _complete(image, known) and _complete(label, known):
            yield Written(image, label, known, made=False)
            continue
        phantom = generate(seed, setting)
        # The CT comes last and its description after it: an interrupted pair is made anew.
        write_nifti(label, phantom.label.array, phantom.label.grid)
        write_nifti(image, phantom.ct.array, phantom.ct.grid)
        cases[name] = {**asdict(phantom.case), "shape": list(phantom.ct.array.shape)}
        _write_description(description, cases)
        yield Written(image, label, cases[name], made=True)


def _complete(path: Path, known: dict[str, Any]) -> bool:
    """Return whether the file is there with the shape that was written (writes are atomic)."""
    if not path.is_file():
        return False
    try:
        return list(nib.load(path).shape) == known.get("shape")
    except Exception:  # a damaged file of any kind is made anew
        return False


def _read_description(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        cases = json.loads(path.read_text(encoding="utf-8"))["phantoms"]
    except (ValueError, KeyError, TypeError) as err:
        raise VolumeError(path, f"not a description of phantoms ({err}); delete it") from err
    return {str(name): dict(case) for name, case in cases.items()}


def _write_description(path: Path, cases: dict[str, dict[str, Any]]) -> None:
    handle, name = tempfile.mkstemp(prefix=".", suffix=".json", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump({"phantoms": dict(sorted(cases.items()))}, stream, indent=1)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
