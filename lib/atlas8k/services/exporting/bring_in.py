"""Bring an export of ours into a campaign, with what its manifest says of each organ.

A public organ becomes public again, those that a person has confirmed, drawn or missed a submission
by "DATASET: annotator 3", one for each annotator, and a predicted one a pseudo label: nothing
counts for more here than it did there. A phase that somebody has said stays said.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import UnreadableVolumeError
from atlas8k.core.files import sha256_of
from atlas8k.core.grid import Grid
from atlas8k.core.grid_alignment import place
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import read_grid, read_label, write_nifti
from atlas8k.core.voxels import only, renamed
from atlas8k.formats.dicom_seg import read_dicom_seg
from atlas8k.labels.public import UNKNOWN_TAG
from atlas8k.services.errors import ConflictError
from atlas8k.services.exporting.export import MANIFEST
from atlas8k.services.labels.service import LabelService
from atlas8k.store import Assistance, Holder, OrganSource, VolumeEntry, phases

_READ = ("confirmed", "revised", "absent")


def is_export(folder: Path) -> bool:
    """Return whether a folder is an export of ours."""
    try:
        with open(folder / MANIFEST, encoding="utf-8") as stream:
            return stream.read(20).startswith('{"atlas8k_export"')
    except (OSError, UnicodeDecodeError):
        return False


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what the manifest says of each volume."""
    yield from json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["volumes"]


def bring_in(
    service: LabelService, volume: str, folder: Path, record: Mapping[str, Any], dataset: str
) -> bool:
    """Bring one volume's labels in; False where they are here already.

    Parameters
    ----------
    record
        From :func:`records`.
    dataset
        What the release is called in the records.

    Raises
    ------
    VolumeError
        A file is not what the manifest says, or does not lie on the CT.
    ConflictError
        Somebody has submitted the volume here.
    """
    grid = read_grid(service.folder.image_path(volume))
    organs: dict[str, dict[str, Any]] = record["organs"]
    array = _assembled(folder, record, grid)
    expected = {organ: _source(said) for organ, said in organs.items()}
    service.ledger.add_volumes([VolumeEntry(volume)])
    if _same(service, volume, expected, array):
        _keep_phase(service, volume, record, dataset)
        return False
    readings = _readings(organs, expected, dataset)
    there = {one.holder for one in service.ledger.submissions(volume)}
    before = [organ for who, of in readings.items() if who.key in there for organ in of]
    # Killed between two annotators' submissions, it goes on with those that lack.
    goes_on = there < {who.key for who in readings} and _same(
        service, volume, {organ: expected[organ] for organ in before}, array
    )
    if there and not goes_on:
        raise ConflictError(f"{volume}: somebody has submitted it here; nothing was brought in")
    _keep_phase(service, volume, record, dataset)
    if there:
        _adopt(service, volume, grid, array, organs, {
            who: of for who, of in readings.items() if who.key not in there
        })  # fmt: skip
        return True
    service.ledger.add_volumes([VolumeEntry(volume, record.get("dataset") or dataset)])
    public = {o: source for o, source in expected.items() if source.source == "public"}
    if public:
        _open_voxels(service, volume, folder, record, grid, dataset)
        service.keep_public(volume, array, grid, public)
    # What was confirmed is in the draft label that the submission confirms.
    drafted = [
        organ
        for organ, source in expected.items()
        if source.source == "pseudo" or source.state == "confirmed"
    ]
    if drafted:
        made = only(array, [ORGAN_IDS[organ] for organ in drafted])
        service.keep_pseudo(volume, made, grid, {"model_version": record.get("model")})
    _adopt(service, volume, grid, array, organs, readings)
    return True


def _readings(
    organs: Mapping[str, Mapping[str, Any]], expected: Mapping[str, OrganSource], dataset: str
) -> dict[Holder, dict[str, str]]:
    """Return the states of organs that annotators vouch for, by annotator, in their order."""
    found: dict[int, dict[str, str]] = {}
    for organ, source in expected.items():
        if source.source == "revised":
            number = organs[organ].get("annotator", 0)
            found.setdefault(number, {})[organ] = source.state
    return {
        Holder(f"{dataset}: annotator {number or 'unknown'}"): found[number]
        for number in sorted(found)
    }


def _adopt(
    service: LabelService,
    volume: str,
    grid: Grid,
    array: npt.NDArray[np.uint8],
    organs: Mapping[str, Mapping[str, Any]],
    readings: Mapping[Holder, Mapping[str, str]],
) -> None:
    """Enter a submission for each annotator, with the organs that are theirs."""
    for who, states in readings.items():
        params = {
            "label_info": [{"name": organ, "idx": n} for n, organ in enumerate(states, 1)],
            "absent": [organ for organ, state in states.items() if state == "absent"],
            "looked_at": [organ for organ, state in states.items() if state == "confirmed"],
            "volume_is_right": list(ORGAN_NAMES),
        }
        helped = {
            organ: [Assistance(**one) for one in organs[organ].get("tools", ())] for organ in states
        }
        # Other organs have no name in it, so that they stay as they are here.
        table = np.zeros(256, np.uint8)
        for number, organ in enumerate(states, 1):
            table[ORGAN_IDS[organ]] = number
        own = renamed(array, table)
        with tempfile.TemporaryDirectory(prefix="atlas8k-label-") as scratch:
            sent = write_nifti(Path(scratch) / "label.nii", own, grid)
            service.adopt(volume, sent, who, params, helped)


def _keep_phase(
    service: LabelService, volume: str, record: Mapping[str, Any], dataset: str
) -> None:
    """Keep the phase that somebody has said there, unless somebody has here."""
    if not record.get("phase_said"):
        return
    with service.ledger.write() as tx:
        if phases.said(tx, volume) is None:
            phases.say(tx, volume, record["phase"], Holder(dataset))


def _source(said: Mapping[str, Any]) -> OrganSource:
    if said["source"] == "public":
        return OrganSource("public", said["state"], said.get("dataset"))
    if said["source"] == "revised" and said["state"] in _READ:
        return OrganSource("revised", said["state"])
    return OrganSource("pseudo", "unknown")


def _same(
    service: LabelService,
    volume: str,
    expected: Mapping[str, OrganSource],
    array: npt.NDArray[np.uint8],
) -> bool:
    known = service.ledger.sources(volume)
    pseudo = OrganSource("pseudo", "unknown")
    for organ, source in expected.items():
        here = known.get(organ, pseudo)._replace(submission=None, disputed=False)
        if here.source != "public":
            here = here._replace(dataset=None)
        if here != source:
            return False
    current = service.versions.current(volume, "original")
    if current is None:
        return False
    ids = [ORGAN_IDS[organ] for organ in expected]
    return bool(np.array_equal(only(read_label(current.path).array, ids), only(array, ids)))


def _assembled(folder: Path, record: Mapping[str, Any], grid: Grid) -> npt.NDArray[np.uint8]:
    """Put a volume's files together: organ ids on the CT's grid."""
    by_file: dict[str, dict[int, int]] = {}
    for organ, said in record["organs"].items():
        if "file" not in said:  # absent: DICOM SEG has no segment without voxels
            continue
        by_file.setdefault(said["file"], {})[said["value"]] = ORGAN_IDS[organ]
    array = np.zeros(grid.shape, np.uint8, order="F")
    for file, values in by_file.items():
        part = _read(folder, record, file, grid)
        for value, number in values.items():
            array[part == value] = number
    return array


def _read(folder: Path, record: Mapping[str, Any], file: str, grid: Grid) -> npt.NDArray[np.uint8]:
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise UnreadableVolumeError(folder / MANIFEST, f"names a file elsewhere: {file}")
    if not path.is_file() or sha256_of(path) != record["files"].get(file):
        raise UnreadableVolumeError(path, "is not what the manifest says: its hash is another")
    if path.name.endswith(".dcm"):
        seg = read_dicom_seg(path, lambda *_: None, grid)
        return place(seg.layers[0], seg.grid, grid, path)
    label = read_label(path)
    return place(np.asarray(label.array), label.grid, grid, path)


def _open_voxels(
    service: LabelService,
    volume: str,
    folder: Path,
    record: Mapping[str, Any],
    grid: Grid,
    dataset: str,
) -> None:
    """Store which voxels could be any organ, before the public label that leaves them open."""
    if not record.get("open_voxels"):
        return
    own = f"{record['name']}/unknown.nii.gz"
    if own in record["files"]:
        mask = _read(folder, record, own, grid) > 0
    else:
        (file,) = record["files"]  # never of DICOM SEG, which leaves nothing open
        mask = _read(folder, record, file, grid) == 1 + len(record["organs"])
    info = {"dataset": record.get("dataset") or dataset, "voxels": int(mask.sum())}
    service.folder.store_label(volume, UNKNOWN_TAG, mask.view(np.uint8), grid, info)
