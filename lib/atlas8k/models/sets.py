"""Read sets of networks: files, descriptions and model version, without torch."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas8k.core.errors import AttentionError, CheckpointError, SettingsError
from atlas8k.core.files import sha256_of

if TYPE_CHECKING:
    from atlas8k.attention.quality_model import QualityModel
    from atlas8k.models.checkpoint import Checkpoint

EMBEDDED = "embedded"
KEPT_ASIDE = "kept-aside"
"""Folder of networks that were trained and are not served."""
SET_FILE = "set.json"
SUFFIX = ".safetensors"
SET_FORMAT = "atlas8k-set/1"
NETWORKS = ("swin_unetr", "unet", "nnunet")
"""Order of the procedure's three networks in a set; others follow by name."""
MODEL_VERSION_LENGTH = 12


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedSet:
    """The networks to predict with.

    Attributes
    ----------
    model_version
        Model version: hash of the files and the attention settings. A score belongs to one.
    checkpoints
        File of each network, in the order of predictions.
    folder
        Name of the set's folder: ``"embedded"`` or the model version it was published under.
    note
        The publisher's note.
    missing
        Reason by network whose file is gone or was changed; the others are served, under
        a model version of their own.
    failures
        Reason by network that :meth:`load` had to leave out.
    ranges
        Of the CTs they were trained on, see :func:`~atlas8k.content.familiar.read_ranges`;
        ``None`` where nothing is known of them. No part of the model version: labels and
        scores do not depend on it.
    quality
        What was learnt of their errors, see :mod:`atlas8k.attention.quality_model`; that of the
        embedded networks where a set has none of its own, ``None`` where there is none.
    """

    model_version: str
    checkpoints: Mapping[str, Path]
    folder: str
    note: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict, compare=False)
    ranges: Mapping[str, Any] | None = field(default=None, compare=False)
    quality: QualityModel | None = field(default=None, compare=False)

    def load(self) -> dict[str, Checkpoint]:
        """Load the networks; one that cannot be is left out, logged and in `failures`.

        Raises
        ------
        CheckpointError
            None can be loaded; the message has the reason for each file.
        """
        # Imported here: other functions of this module need no torch.
        from atlas8k.models.checkpoint import load_checkpoint

        loaded: dict[str, Checkpoint] = {}
        self.failures.clear()
        for name, why in self.missing.items():
            log.error("network %s is out: %s", name, why)
        for name, path in self.checkpoints.items():
            try:
                loaded[name] = load_checkpoint(path)
            except CheckpointError as err:
                self.failures[name] = str(err)
                log.error("network %s is out: %s", name, err)
        if not loaded:
            raise CheckpointError(
                self.folder, "no network can be loaded: " + "; ".join(self.failures.values())
            )
        return loaded


def open_set(path: Path, settings: Mapping[str, Any]) -> ServedSet:
    """Open the set in a folder, comparing its files with the published ones.

    A file that is gone or was changed leaves its network out (:attr:`ServedSet.missing`).

    Parameters
    ----------
    path
        The folder. One named ``embedded`` has no description; its files are the set.
    settings
        Part of the model version, see :func:`name_model_version`.

    Raises
    ------
    CheckpointError
        No description, or no network that is whole.
    """
    hashes = hash_files(path)
    note, missing = "", {}
    if path.name == EMBEDDED:
        if not hashes:
            raise CheckpointError(
                path, f"holds no *{SUFFIX} networks; restore them or train with atlas8k train"
            )
        lacking = [name for name in NETWORKS if name not in hashes]
        if len(lacking) == 1:  # two of the three; of fewer, somebody wanted it so
            missing = {lacking[0]: str(CheckpointError(_file(path, lacking[0]), "is missing"))}
    else:
        manifest = read_description(path)
        note = str(manifest["note"])
        for name, expected in manifest["files"].items():
            if hashes.get(name) != expected:
                what = "was changed after it was published" if name in hashes else "is missing"
                missing[name] = str(CheckpointError(_file(path, name), what))
        hashes = {name: hashes[name] for name in manifest["files"] if name not in missing}
        if not hashes:
            raise CheckpointError(path, f"no network is whole: {'; '.join(missing.values())}")
    return ServedSet(
        model_version=name_model_version(hashes, with_quality(settings, path)),
        checkpoints={name: _file(path, name) for name in _ordered(hashes)},
        folder=path.name,
        note=note,
        missing=missing,
        ranges=_ranges(path),
        quality=_quality(path),
    )


def _ranges(folder: Path) -> Mapping[str, Any] | None:
    """Read the ranges of the training CTs; a damaged file does not stop networks from serving."""
    from atlas8k.content.familiar import read_ranges

    try:
        return read_ranges(folder)
    except SettingsError as err:
        log.error("%s", err)
        return None


def quality_file(folder: Path) -> Path | None:
    """Return the file of a set's predicted quality: its own, else the embedded networks'."""
    from atlas8k.attention.quality_model import QUALITY_FILE

    files = (folder / QUALITY_FILE, folder.parent / EMBEDDED / QUALITY_FILE)
    return next((file for file in files if file.is_file()), None)


def with_quality(settings: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Return settings with the hash of the set's predicted quality, by which volumes may rank."""
    file = quality_file(folder)
    return settings if file is None else {**settings, "quality": file_sha256(file)}


def _quality(folder: Path) -> QualityModel | None:
    """Return the fitted quality of labels, read again where its file has changed."""
    file = quality_file(folder)
    return None if file is None else _read_quality(file, file_sha256(file))


@lru_cache(maxsize=8)
def _read_quality(file: Path, sha256: str) -> QualityModel | None:
    """Read a fitted quality; a damaged file does not stop networks from serving."""
    from atlas8k.attention.quality_model import read_quality

    try:
        return read_quality(file)
    except AttentionError as err:
        log.error("%s", err)
        return None


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}{SUFFIX}"


def name_model_version(hashes: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """Return the model version of files and settings: 12 hex digits.

    Parameters
    ----------
    hashes
        sha256 of each network's file; architecture and preprocessing are in the file.
    settings
        JSON object of attention and prediction settings.
    """
    content = json.dumps([sorted(hashes.items()), dict(settings)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:MODEL_VERSION_LENGTH]


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, cached until its size or modification time changes.

    Raises
    ------
    CheckpointError
        It cannot be read.
    """
    try:
        stat = path.stat()
        return _sha256(path, stat.st_size, stat.st_mtime_ns)
    except OSError as err:
        raise CheckpointError(path, f"cannot be read ({err.strerror})") from err


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    return sha256_of(path)


def hash_files(folder: Path) -> dict[str, str]:
    """Return the sha256 of each network file in a folder, by network."""
    return {path.stem: file_sha256(path) for path in sorted(folder.glob(f"*{SUFFIX}"))}


def _ordered(names: Mapping[str, Any]) -> list[str]:
    return [n for n in NETWORKS if n in names] + sorted(n for n in names if n not in NETWORKS)


def read_description(folder: Path) -> dict[str, Any]:
    """Read a published set's ``set.json``: ``files``, ``note``, ``published``, ``parent``.

    Raises
    ------
    CheckpointError
        It is missing or damaged.
    """
    path = folder / SET_FILE
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if description["format"] != SET_FORMAT or not description["files"]:
            raise ValueError(f"format is not {SET_FORMAT}")
        return {key: description[key] for key in ("files", "note", "published", "parent")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise CheckpointError(path, f"is no description of a set ({err!r})") from err


def comes_from(root: Path, folder: str, before: str) -> bool:
    """Return whether a set was published while another was served, or descends from one.

    It does not where the set is older, or was served again by a rollback.

    Parameters
    ----------
    root
        Folder of the sets.
    folder, before
        Names of two of them; a set comes from itself.
    """
    visited: set[str] = set()
    while folder not in (before, EMBEDDED) and folder not in visited:
        visited.add(folder)
        try:
            folder = str(read_description(root / folder)["parent"])
        except CheckpointError:
            return False
    return folder == before
