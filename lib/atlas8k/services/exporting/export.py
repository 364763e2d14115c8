"""Write an export: a volume at a time beside its target, which is there whole or not at all.

What is being written lies in ``OUT.unfinished``, with a list of the volumes that are done. Killed,
or on a full disk, it stays; the same command goes on with it. Nothing is written that differs
from one time to the next: the same labels and settings make the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from atlas8k.core.csv_text import csv_text
from atlas8k.core.disk import disk_fault
from atlas8k.core.errors import FileError, VolumeError
from atlas8k.core.files import only_one, sha256_of
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import LabelWriter, read_grid, read_label
from atlas8k.core.voxels import counts
from atlas8k.labels.licences import Purpose, attribution
from atlas8k.services.errors import NotFoundError
from atlas8k.services.exporting import dicom, layouts
from atlas8k.services.exporting.cts import CtWriter, NotExportedError, ct_files
from atlas8k.services.exporting.layouts import Layout
from atlas8k.services.exporting.selection import LeftOut, Require, Wanted
from atlas8k.services.exporting.splits import PARTS
from atlas8k.services.studies.folder import StudiesFolder

FORMAT = 1
MANIFEST, TABLE, LEFT_OUT, FROZEN = "manifest.json", "manifest.csv", "left_out.csv", "frozen.json"
SOURCES, DATASHEET = "ATTRIBUTION.md", "datasheet.html"
UNFINISHED = ".unfinished"
"""Behind the name of the target, while it is written."""
_DONE, _MARK, _LOCK = ".done.jsonl", ".export.json", ".lock"
_CLOCK_S = 2.0
TRAIN, VALIDATION, _ = PARTS
COLUMNS = (
    *("volume", "organ", "dataset", "source", "state", "annotator", "round", "model"),
    *("predicted_dice", "checks", "disputed", "ml", "value", "file", "sha256"),
    *("ct_file", "ct_sha256", "phase", "split", "tools", "compared"),
)
"""Of the manifest's table: a row for each organ of each volume."""
TOOL = "{tool}, weights under {licence}"
"""A tool that helped, as the table has it."""

Progress = Callable[[Iterable[Any]], Iterable[Any]]


class ExportError(FileError):
    """A dataset cannot be exported; `path` is its target."""


@dataclass(frozen=True)
class ExportSettings:
    """How a dataset is exported.

    Attributes
    ----------
    layout
        See :mod:`~atlas8k.services.exporting.layouts`; ``dicom`` needs `cts` to be ``copy``.
    cts
        ``link`` where a CT says nothing but its voxels, else a bare copy; ``copy``; ``none``.
    name
        Of the dataset.
    rename
        See :func:`~atlas8k.services.exporting.selection.select`.
    purpose, maps
        What it is for, which decides what licences let out; file of the user's own datasets.
    split
        How it is split, in words; empty: it is not.
    accept_changed
        Export labels of CTs that changed after them, where the grid is still theirs.
    """

    layout: Layout = "abdomenatlas"
    require: Require = "confirmed"
    organs: tuple[str, ...] = field(default_factory=lambda: tuple(ORGAN_NAMES))
    cts: str = "none"
    name: str = "Atlas8k"
    rename: str = ""
    accept_changed: bool = False
    purpose: Purpose = "share"
    maps: str | None = None
    split: str = ""


@dataclass
class Exported:
    """What an export has written; ``kept`` volumes were there from a run before.

    ``not_compared``: so many volumes of a split dataset were not compared with the others.
    """

    out: Path
    volumes: int = 0
    kept: int = 0
    not_compared: int = 0
    organs: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    organs_left_out: Counter[str] = field(default_factory=Counter)


def export(
    folder: StudiesFolder,
    out: Path,
    settings: ExportSettings,
    chosen: Iterable[Wanted | LeftOut],
    *,
    frozen: Mapping[str, Any] | None = None,
    progress: Progress = iter,
) -> Exported:
    """Write what was chosen of a campaign as a dataset.

    Parameters
    ----------
    out
        Made; must not be there, but for an empty folder.
    chosen
        From :func:`~atlas8k.services.exporting.selection.select`.
    frozen
        Written as ``frozen.json``, with the hash of the manifest.
    progress
        Wraps the volumes, for a progress bar.

    Raises
    ------
    ExportError
        The target is there, or another export is unfinished there; nothing passes; the disk is
        full. What was written before waits in ``OUT.unfinished``.
    """
    if settings.layout == "dicom" and settings.cts != "copy":
        raise ExportError(out, "a DICOM SEG object refers to a CT series: give --cts copy with it")
    out = out.absolute()
    if out.is_dir() and not any(out.iterdir()):
        pass
    elif out.exists() or out.is_symlink():
        raise ExportError(out, "is there already; give another name, or move it away")
    if out.resolve().is_relative_to(folder.path):
        raise ExportError(out, "lies in the studies folder, where its files would be taken for CTs")
    work = out.with_name(out.name + UNFINISHED)
    try:
        _begin(work, settings)
        with only_one(work / _LOCK) as alone:
            if not alone:
                raise ExportError(work, "another process is writing it")
            writer = _Writer(folder, work, settings)
            writer.run(progress(chosen))
            writer.finish(frozen)
            for name in (_DONE, _MARK, _LOCK):
                (work / name).unlink(missing_ok=True)
            os.sync()  # once, where a sync of each file would take most of the time
            os.replace(work, out)
    except OSError as error:
        raise ExportError(
            work,
            f"{disk_fault(error) or error}; what is done stays there: the same command goes on",
        ) from error
    writer.summary.out = out
    return writer.summary


def _begin(work: Path, settings: ExportSettings) -> None:
    said = json.dumps({"format": FORMAT, **asdict(settings)}, sort_keys=True)
    mark = work / _MARK
    if work.exists():
        if not mark.is_file():
            raise ExportError(work, "is no unfinished export; move it away")
        if mark.read_text(encoding="utf-8") != said:
            raise ExportError(
                work, "is an unfinished export with other settings; end it so, or delete it"
            )
        return
    work.mkdir(parents=True)
    mark.write_text(said, encoding="utf-8")


class _Place(NamedTuple):
    """Where the line of a volume that is done begins in the list, and what it was made of."""

    key: str
    at: int


class _Writer:
    """Writes the volumes of one export, and at the end what describes them."""

    def __init__(self, folder: StudiesFolder, work: Path, settings: ExportSettings) -> None:
        self._folder, self._work, self._settings = folder, work, settings
        self._left: list[LeftOut] = []
        self._done: dict[str, _Place] = {}
        self._writing: list[Path] = []
        self._cts = CtWriter(folder, work, settings.cts, settings.purpose, settings.maps)
        self.summary = Exported(work)

    # --- volumes ------------------------------------------------------------------------

    def run(self, chosen: Iterable[Wanted | LeftOut]) -> None:
        before = self._read_list()
        resumed = (self._work / _DONE).exists()
        now: dict[str, _Place] = {}
        with open(self._work / _DONE, "ab") as stream:
            for one in chosen:
                if isinstance(one, LeftOut):
                    self._left.append(one)
                    continue
                known = before.get(one.name)
                try:
                    ct = self._ct(one)
                    key = self._key(one, ct)
                    if known is not None and known.key == key and self._is_whole(known):
                        now[one.name] = before.pop(one.name)
                        self.summary.kept += 1
                        self._left += self._line(now[one.name])[1]
                        continue
                    if known is not None:
                        self._remove(before.pop(one.name))
                    record, out = self._write(one, ct)
                except (VolumeError, NotFoundError) as error:
                    if one.expected is not None:
                        raise ExportError(
                            self._work, f"{one.name} cannot be made again: {error}"
                        ) from error
                    self._delete(self._writing)
                    reason = str(error) if isinstance(error, NotExportedError) else _reason(error)
                    self._left.append(LeftOut(one.name, "", reason))
                    continue
                if one.expected not in (None, record):
                    raise ExportError(
                        self._work,
                        f"{one.name} does not come out as it was: its CT is another, or another "
                        "release writes it",
                    )
                line = json.dumps({"key": key, "record": record, "left_out": out})
                now[one.name] = _Place(key, stream.tell())
                stream.write(line.encode() + b"\n")
                stream.flush()
                self._left += out
        for place in before.values():  # chosen before, and not any more
            self._remove(place)
        self._done = dict(sorted(now.items()))
        if resumed:
            self._sweep()

    def _ct(self, one: Wanted) -> Path:
        image = self._folder.known_image(one.volume)
        path = self._folder.path / image.path
        changed = path.stat().st_mtime
        if changed > one.made_at + _CLOCK_S and not self._settings.accept_changed:
            raise NotExportedError(
                "its CT was changed after its label was made; see whether they still fit: "
                "atlas8k export --accept-changed takes it then"
            )
        return path

    def _key(self, one: Wanted, ct: Path) -> str:
        stat = ct.stat()
        said = json.dumps([one.record, one.left_out, stat.st_size, stat.st_mtime_ns])
        return hashlib.sha256(said.encode()).hexdigest()

    def _write(self, one: Wanted, ct: Path) -> tuple[dict[str, Any], list[LeftOut]]:
        """Write the files of a volume; return what the manifest says, and organs left out."""
        layout, among = self._settings.layout, self._settings.organs
        self._writing = []
        grid = read_grid(ct)
        array = self._voxels(one.label, grid)
        found = counts(array)
        organs, out = {}, list(one.left_out)
        for organ, said in one.record["organs"].items():
            voxels = int(found[ORGAN_IDS[organ]])
            if not voxels and said["state"] != "absent":
                what = "networks find none" if said["source"] == "pseudo" else "it has no voxels"
                reason = f"unknown: {what}, and nobody has said that it is absent"
                out.append(LeftOut(one.name, organ, reason))
            else:
                organs[organ] = {**said, "ml": round(voxels * grid.voxel_ml, 3)}
        if not organs:
            raise NotExportedError("no organ passes: none has a voxel")
        opened = None
        if one.unknown is not None and any(said["source"] == "public" for said in organs.values()):
            opened = (self._voxels(one.unknown, grid) > 0) & (array == 0)
            opened = opened if opened.any() else None
        record = {**one.record, "organs": organs, "files": {}}
        if opened is not None:
            record["open_voxels"] = int(opened.sum())
        below = layouts.folder_of(layout, record, among, self._settings.name)
        complete = all(organ in organs for organ in among)
        test = _is_test(record)
        made = layouts.label_files(layout, one.name, array, list(organs), complete, opened, test)
        self._write_labels(one, grid, made, below, record)
        if not record["files"]:
            raise NotExportedError(layouts.why_no_file(layout, organs, among))
        try:
            record["ct"] = self._put_ct(one, ct, grid, below)
        finally:
            self._writing += self._cts.writing
        record["grid"] = {
            "shape": list(grid.shape),
            "spacing_mm": [round(float(mm), 6) for mm in grid.spacing],
        }
        return record, out

    def _voxels(self, version: Any, grid: Grid) -> npt.NDArray[np.uint8]:
        path = self._folder.labels.file(version)
        if not path.is_file() or sha256_of(path) != version.sha256:
            raise NotExportedError("its label file is not what was kept; see atlas8k doctor")
        label = read_label(path)
        if not label.grid.same_as(grid):
            raise NotExportedError(
                "its CT has another grid than its label: it was replaced after that was made"
            )
        return np.asarray(label.array)

    def _put_ct(self, one: Wanted, ct: Path, grid: Grid, below: PurePosixPath) -> dict[str, Any]:
        layout, test = self._settings.layout, _is_test(one.record)
        name = str(below / layouts.ct_file(layout, one.name, test))
        if layout == "dicom":
            return self._cts.put_series(one, ct, name, self._identity(one))
        return self._cts.put(one, ct, grid, name)

    def _identity(self, one: Wanted) -> dicom.Identity:
        return dicom.Identity(self._settings.name, one.name, self._cts.sha256(one.volume))

    def _write_labels(
        self,
        one: Wanted,
        grid: Grid,
        made: Iterable[tuple[str, npt.NDArray[np.uint8], dict[str, int]]],
        below: PurePosixPath,
        record: dict[str, Any],
    ) -> None:
        """Write a volume's label files, and enter in its record which is which."""
        writer, folders, organs = LabelWriter(grid), set[Path](), record["organs"]
        for file, voxels_of, ids in made:
            path, name = self._work / below / file, str(below / file)
            self._writing.append(path)
            if path.parent not in folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                folders.add(path.parent)
            if self._settings.layout == "dicom":
                sha256, values = dicom.write_seg(path, voxels_of, grid, self._identity(one))
            else:
                sha256, values = writer.write(path, voxels_of), ids
            record["files"][name] = sha256
            for organ, value in values.items():
                organs[organ] |= {"value": value, "file": name}

    # --- the list of what is done -------------------------------------------------------

    def _read_list(self) -> dict[str, _Place]:
        """Read the list of an earlier run; what it was writing when it was killed is no line."""
        path, found, at = self._work / _DONE, {}, 0
        if not path.is_file():
            return {}
        with open(path, "rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                said = json.loads(line)
                found[said["record"]["name"]] = _Place(said["key"], at)
                at += len(line)
        os.truncate(path, at)
        return found

    def _line(self, place: _Place) -> tuple[dict[str, Any], list[LeftOut]]:
        with open(self._work / _DONE, "rb") as stream:
            stream.seek(place.at)
            said = json.loads(stream.readline())
        return said["record"], [LeftOut(*one) for one in said["left_out"]]

    def _is_whole(self, place: _Place) -> bool:
        record = self._line(place)[0]
        paths = {self._work / name: sha256 for name, sha256 in record["files"].items()}
        return all((self._work / name).exists() for name in ct_files(record["ct"])) and all(
            path.is_file() and sha256_of(path) == sha256 for path, sha256 in paths.items()
        )

    def _remove(self, place: _Place) -> None:
        self._delete(self._work / name for name in _files(self._line(place)[0]))

    def _delete(self, paths: Iterable[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
            for parent in path.relative_to(self._work).parents[:-1]:
                with contextlib.suppress(OSError):  # others lie in it
                    (self._work / parent).rmdir()

    def _sweep(self) -> None:
        """Delete what an earlier run was writing when it was killed."""
        named = {name for record in self._records() for name in _files(record)}
        own = {_DONE, _MARK, _LOCK, *named}
        found = [path for path in self._work.rglob("*") if path.is_symlink() or path.is_file()]
        self._delete(p for p in found if str(p.relative_to(self._work)) not in own)

    def _records(self) -> Iterator[dict[str, Any]]:
        for place in self._done.values():
            yield self._line(place)[0]

    # --- what describes them ------------------------------------------------------------

    def finish(self, frozen: Mapping[str, Any] | None) -> None:
        """Write the manifest, its table, what was left out, and the sets' own descriptions."""
        summary = self.summary
        summary.volumes = len(self._done)
        self._left.sort()
        for one in self._left:
            (summary.organs_left_out if one.organ else summary.left_out)[one.reason] += 1
        if not self._done:
            why = "; ".join(f"{n} {reason}" for reason, n in summary.left_out.most_common(3))
            shutil.rmtree(self._work)
            raise ExportError(self._work, f"nothing to export: {why or 'there are no volumes'}")
        sets: Counter[tuple[str, tuple[str, ...], bool]] = Counter()
        sources: Counter[str] = Counter()
        folds: dict[str, dict[str, list[str]]] = {}
        with (
            open(self._work / MANIFEST, "w", encoding="utf-8", newline="") as manifest,
            open(self._work / TABLE, "w", encoding="utf-8", newline="") as table,
        ):
            # Not where the user's own file of datasets lies.
            said = {**asdict(self._settings), "maps": None}
            head = {"format": FORMAT, **said, "volumes": len(self._done)}
            manifest.write(f'{{"atlas8k_export": {json.dumps(head)},\n"volumes": [')
            table.write(csv_text([COLUMNS]))
            for number, record in enumerate(self._records()):
                manifest.write(("," if number else "") + "\n" + json.dumps(record))
                table.write(csv_text(_rows(record)))
                summary.organs.update(list(record["organs"]))
                summary.not_compared += not record.get("compared", True)
                labels = {said.get("dataset", "") for said in record["organs"].values()}
                sources.update({record.get("dataset", ""), *labels - {""}})
                if why := record["ct"].get("left_out"):
                    summary.left_out[f"the CT alone: {why}"] += 1
                if self._settings.layout == "nnunet":
                    below = next(iter(record["files"])).partition("/")[0]
                    part = record.get("split", TRAIN)
                    trained = part in (TRAIN, VALIDATION)
                    sets[below, tuple(record["organs"]), "open_voxels" in record] += trained
                    fold = folds.setdefault(below, {"train": [], "val": []})
                    if trained:
                        fold["val" if part == VALIDATION else "train"].append(record["name"])
            manifest.write('\n],\n"left_out": [')
            manifest.write(",".join("\n" + json.dumps(list(one)) for one in self._left))
            manifest.write("\n]}\n")
        text = csv_text([LeftOut._fields, *self._left])
        (self._work / LEFT_OUT).write_text(text, encoding="utf-8", newline="")
        page = attribution(sources, self._settings.purpose, self._settings.maps)
        (self._work / SOURCES).write_text(page, encoding="utf-8")
        for (below, organs, opened), count in sets.items():
            said = layouts.dataset_json(organs, opened, count, name=self._settings.name)
            _write_json(self._work / below / "dataset.json", said)
            if self._settings.split:
                _write_json(self._work / below / "splits_final.json", [folds[below]])
        if frozen is not None:
            kept = {"manifest_sha256": sha256_of(self._work / MANIFEST), **frozen}
            _write_json(self._work / FROZEN, kept)


def _is_test(record: Mapping[str, Any]) -> bool:
    return record.get("split", TRAIN) not in (TRAIN, VALIDATION)


def _files(record: Mapping[str, Any]) -> list[str]:
    """Return every file of a volume below the export."""
    return [*record["files"], *ct_files(record["ct"])]


def _reason(error: VolumeError | NotFoundError) -> str:
    """Return a reason without names of files, which may be a patient's."""
    return "its CT is gone" if isinstance(error, NotFoundError) else error.reason


def _rows(record: Mapping[str, Any]) -> Iterator[list[Any]]:
    for organ, said in record["organs"].items():
        file = said.get("file", "")
        yield [
            *(record["name"], organ, said.get("dataset") or record.get("dataset", "")),
            *(said["source"], said["state"]),
            *(said.get(key, "") for key in ("annotator", "round", "model", "predicted_dice")),
            "not checked" if "checks" not in said else " ".join(said["checks"]),
            *(said.get("disputed", ""), said["ml"], said.get("value", ""), file),
            record["files"].get(file, ""),
            *(record["ct"].get("file") or record["ct"].get("folder", ""), record["ct"]["sha256"]),
            *(record.get("phase", ""), record.get("split", "")),
            "; ".join(TOOL.format(**one) for one in said.get("tools", ())),
            ("yes" if record["compared"] else "no") if "compared" in record else "",
        ]


def _write_json(path: Path, value: Mapping[str, Any] | list[Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
