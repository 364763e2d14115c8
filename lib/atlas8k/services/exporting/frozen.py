"""Write down what an export was made of, and make the same one again, byte for byte.

Every version of every label is kept under its hash, so that an export can be made again although
the campaign has gone on since.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from atlas8k import __version__
from atlas8k.core.files import read_json, sha256_of
from atlas8k.services.exporting.export import (
    FROZEN,
    MANIFEST,
    ExportError,
    ExportSettings,
)
from atlas8k.services.exporting.selection import LeftOut, Wanted
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.store.schema import VERSION

_MAPS = "maps_sha256"
"""In ``frozen.json``: of the file of the user's own datasets; null: there was none."""
_PACKAGES = ("highdicom", "isal", "nibabel", "numpy", "pydicom")


def freeze(folder: StudiesFolder, models: Path, maps: str | None = None) -> dict[str, Any]:
    """Return releases, and hashes: of each network's file by model version, and of `maps`.

    Parameters
    ----------
    models
        Folder of the checkpoints.
    maps
        File of the user's own datasets.
    """
    with folder.ledger.read() as tx:
        model_versions = tx.run("SELECT name, detail FROM model_version ORDER BY id").fetchall()
    networks = {}
    for name, detail in model_versions:
        place = str(json.loads(detail).get("networks", ""))
        files = sorted((models / place).glob("*.safetensors")) if place else []
        networks[name] = {"set": place, "sha256": {file.name: sha256_of(file) for file in files}}
    return {**releases(), "models": networks, _MAPS: sha256_of(Path(maps)) if maps else None}


def releases() -> dict[str, Any]:
    """Return the versions of what the bytes of an export depend on."""
    packages = {name: version(name) for name in _PACKAGES}
    return {
        "atlas8k": __version__,
        "ledger": VERSION,
        "python": platform.python_version(),
        "packages": packages,
    }


def again(
    folder: StudiesFolder, source: Path, maps: str | None = None
) -> tuple[ExportSettings, Iterator[Wanted | LeftOut], dict[str, Any]]:
    """Return how to make an export again: its settings, its volumes, what it was made of.

    Parameters
    ----------
    source
        The export, made with ``frozen``, or a folder with its two JSON files.
    maps
        The file of the user's own datasets that it was made with; the export keeps its hash alone.

    Raises
    ------
    ExportError
        It has no ``frozen.json``, its manifest was changed, or `maps` is not the file it was made
        with.
    """
    frozen = read_json(source / FROZEN)
    if not frozen or not (source / MANIFEST).is_file():
        raise ExportError(
            source, f"holds no {FROZEN} and {MANIFEST}: it was not made with --frozen"
        )
    if frozen.pop("manifest_sha256") != sha256_of(source / MANIFEST):
        raise ExportError(source, f"its {MANIFEST} was changed since")
    _check_maps(source, frozen, maps)
    manifest = read_json(source / MANIFEST)
    said = manifest["atlas8k_export"]
    fields = {key: said[key] for key in ExportSettings.__dataclass_fields__}
    settings = ExportSettings(**{**fields, "organs": tuple(fields["organs"]), "maps": maps})
    return settings, _chosen(folder, manifest, settings), frozen


def _check_maps(source: Path, frozen: dict[str, Any], maps: str | None) -> None:
    """Check that the user's own datasets are those of then: licences decide what is written."""
    if _MAPS not in frozen:  # an older release kept no hash of it
        return
    then = frozen[_MAPS]
    if then is None:
        if maps is not None:
            raise ExportError(source, "was made without --maps; leave it out")
        return
    if maps is None:
        raise ExportError(
            source, f"was made with a file of own datasets: give it by --maps (sha256 {then})"
        )
    if not Path(maps).is_file():
        raise ExportError(Path(maps), "is not there; the export was made with this file")
    if sha256_of(Path(maps)) != then:
        raise ExportError(
            Path(maps), f"is another file than the export was made with (sha256 {then})"
        )


def _chosen(
    folder: StudiesFolder, manifest: dict[str, Any], settings: ExportSettings
) -> Iterator[Wanted | LeftOut]:
    with folder.ledger.read() as tx:
        names = dict(tx.run("SELECT id, name FROM volume"))
    yield from (LeftOut(*one) for one in manifest["left_out"])
    for record in manifest["volumes"]:
        name = record["name"]
        prefix = settings.rename
        volume = names.get(int(name.removeprefix(prefix)), "") if prefix else name
        label, opened = (
            folder.index.find_label(volume, record[key]) if key in record else None
            for key in ("fused_sha256", "open_sha256")
        )
        if label is None:
            raise ExportError(settings.name, f"{name}: its label is not in this campaign")
        planned = {
            **{key: value for key, value in record.items() if key not in _WRITTEN},
            "organs": {
                organ: {key: value for key, value in one.items() if key not in _WRITTEN}
                for organ, one in record["organs"].items()
            },
        }
        yield Wanted(volume, name, planned, label, opened, math.inf, (), record)


_WRITTEN = ("files", "open_voxels", "ct", "grid", "ml", "value", "file")
"""What the writing adds to a record."""
