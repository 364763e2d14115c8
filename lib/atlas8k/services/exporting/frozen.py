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

_PACKAGES = ("highdicom", "isal", "nibabel", "numpy", "pydicom")


def freeze(folder: StudiesFolder, models: Path) -> dict[str, Any]:
    """Return releases, and the hash of each network's file by model version.

    Parameters
    ----------
    models
        Folder of the checkpoints.
    """
    with folder.ledger.read() as tx:
        model_versions = tx.run("SELECT name, detail FROM model_version ORDER BY id").fetchall()
    networks = {}
    for name, detail in model_versions:
        place = str(json.loads(detail).get("networks", ""))
        files = sorted((models / place).glob("*.safetensors")) if place else []
        networks[name] = {"set": place, "sha256": {file.name: sha256_of(file) for file in files}}
    return {**releases(), "models": networks}


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
    folder: StudiesFolder, source: Path
) -> tuple[ExportSettings, Iterator[Wanted | LeftOut], dict[str, Any]]:
    """Return how to make an export again: its settings, its volumes, what it was made of.

    Parameters
    ----------
    source
        The export, made with ``frozen``, or a folder with its two JSON files.

    Raises
    ------
    ExportError
        It has no ``frozen.json``, or its manifest was changed.
    """
    frozen = read_json(source / FROZEN)
    if not frozen or not (source / MANIFEST).is_file():
        raise ExportError(
            source, f"holds no {FROZEN} and {MANIFEST}: it was not made with --frozen"
        )
    if frozen.pop("manifest_sha256") != sha256_of(source / MANIFEST):
        raise ExportError(source, f"its {MANIFEST} was changed since")
    manifest = read_json(source / MANIFEST)
    said = manifest["atlas8k_export"]
    fields = {key: said[key] for key in ExportSettings.__dataclass_fields__}
    settings = ExportSettings(**{**fields, "organs": tuple(fields["organs"])})
    return settings, _chosen(folder, manifest, settings), frozen


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
