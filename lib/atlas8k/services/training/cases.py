"""What may be learned from: assembled labels, organ by organ from people."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from atlas8k.core.errors import Atlas8kError, TrainingError
from atlas8k.core.files import read_json, write_json
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.labels.public import UNKNOWN_TAG
from atlas8k.models.sets import EMBEDDED
from atlas8k.services.context import Context
from atlas8k.services.errors import UpstreamError
from atlas8k.services.labels.drafts import PSEUDO, PUBLIC
from atlas8k.services.labels.service import LabelService
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.services.studies.folder import ORIGINAL
from atlas8k.services.studies.versions import Version
from atlas8k.services.training.reading import check_ledger
from atlas8k.store import OrganSource
from atlas8k.training.data import TrainingCase
from atlas8k.training.split import read_patients

logger = logging.getLogger(__name__)

LEARNT_FROM = {
    "public": frozenset({"present", "absent"}),
    "revised": frozenset({"revised", "confirmed", "absent"}),
}
"""States by source that somebody stands for; all else is unknown to the loss."""
SEEN = "trained-on.json"


def cases(context: Context, *, pseudo: bool = False, read_only: bool = False) -> list[TrainingCase]:
    """Return the fused labels, with the organs that somebody has labeled in each.

    Parameters
    ----------
    pseudo
        Also name the organs that are as the networks predicted them, of volumes that
        nobody has labeled too; not without a label that somebody stands for.
    read_only
        Change nothing: what the ledger does not know, or is not as it says, is left out.

    Raises
    ------
    TrainingError
        There is none, or the ledger is another folder's.
    """
    label_service, gone = context.label_service, ""
    if read_only:
        check_ledger(label_service)
    else:
        label_service.existing.import_all()
        label_service.reconciler.recover()
        context.sync()
    usable = counted(label_service)
    listed = context.studies.now().ids()
    whose = patients(context)
    found = [
        replace(case, patient=whose.get(name, ""))
        for name in sorted(usable.intersection(listed))
        if (case := _assembled(label_service, name, pseudo, read_only))
    ]
    lost = len(set(label_service.folder.now().labels.get(FINAL, {})) - set(listed))
    if lost:
        logger.warning("%d labels of images that are gone are not trained on", lost)
        gone = f" ({lost} labels are of images that are gone)"
    if not any(case.known_organs for case in found):
        raise TrainingError(f"nothing to train on{gone}: submit a corrected label first")
    return found


def counted(label_service: LabelService) -> set[str]:
    """Return volumes that nobody has said are not usable, and that were not set aside."""
    statuses = label_service.ledger.statuses().items()
    return {name for name, state in statuses if state != "excluded"}


def patients(context: Context) -> dict[str, str]:
    """Return whose a volume is, by volume, as far as somebody said.

    Raises
    ------
    SettingsError
        ``--conf patients`` is no such table.
    """
    found = {}
    if context.archive is not None:
        found = context.archive.patients()
    table = context.settings.patients
    if table is not None:
        found |= read_patients(table)
        without = [name for name in context.studies.now().ids() if name not in found]
        if without:
            logger.warning(
                "%s: %d volumes are not in it, such as %s; each is taken for another patient's",
                table,
                len(without),
                without[0],
            )
    return found


def unlabeled(context: Context, most: int = 4) -> list[TrainingCase]:
    """Pseudo labels of organs that nobody has labeled, to see whether they were forgotten.

    Volumes without any labeled organ first, in an order that follows from their names.
    """
    label_service = context.label_service
    by_labeled: tuple[list[TrainingCase], list[TrainingCase]] = ([], [])
    names = label_service.folder.now().ids_by_label(PSEUDO, labeled=True)
    for volume in sorted(counted(label_service).intersection(names), key=_hashed):
        known = learnt(label_service.ledger.sources(volume))
        organs = tuple(organ for organ in ORGAN_NAMES if organ not in known)
        label = label_service.versions.current(volume, PSEUDO) if organs else None
        if label is not None:
            image = label_service.folder.path / label_service.folder.known_image(volume).path
            case = TrainingCase(volume, image, label.path, organs)
            by_labeled[bool(known)].append(case)
        if len(by_labeled[0]) == most:
            break
    return [*by_labeled[0], *by_labeled[1]][:most]


def learnt(sources: Mapping[str, OrganSource]) -> tuple[str, ...]:
    """Organs that may be learned from: public, revised, confirmed, or absent to somebody."""
    return tuple(
        organ
        for organ in ORGAN_NAMES
        if organ in sources
        and sources[organ].state in LEARNT_FROM.get(sources[organ].source, frozenset())
    )


def predicted(
    label_service: LabelService, volume: str, sources: Mapping[str, OrganSource]
) -> tuple[str, ...]:
    """Organs of a volume's assembled label that are a pseudo label nobody has doubted."""
    if label_service.versions.current(volume, PSEUDO) is None:
        return ()
    return tuple(
        organ
        for organ in ORGAN_NAMES
        if organ not in sources or sources[organ][:2] == ("pseudo", "unknown")
    )


def _assembled(
    label_service: LabelService, volume: str, pseudo: bool, read_only: bool
) -> TrainingCase | None:
    """Return the case of a volume, None where there is no organ to learn."""
    sources = label_service.ledger.sources(volume)
    known = learnt(sources)
    guessed = predicted(label_service, volume, sources) if pseudo else ()
    if not known and not guessed:
        return None
    try:
        image = label_service.folder.path / label_service.folder.known_image(volume).path
        label = label_service.versions.current(volume, ORIGINAL)
        if label is None and not read_only:
            label_service.reconciler.remake_draft(volume)
            label = label_service.versions.current(volume, ORIGINAL)
    except UpstreamError:
        raise  # an archive that is away: not a training on fewer cases
    except (Atlas8kError, OSError) as error:
        logger.warning("not trained on %s: %s", volume, error)
        return None
    if label is None:
        logger.warning("not trained on %s: it has no assembled label", volume)
        return None
    # What a person has drawn says what a tumour belongs to; a public label does not.
    public = any(sources[organ].source == "public" for organ in known)
    left_open = label_service.versions.current(volume, UNKNOWN_TAG) if public else None
    used = {PUBLIC: public, UNKNOWN_TAG: public, PSEUDO: bool(guessed)}
    files = {tag: label_service.versions.current(volume, tag) for tag in used if used[tag]}
    return TrainingCase(
        name=volume,
        ct_path=image,
        label_path=label.path,
        known_organs=known,
        ignore_path=None if left_open is None else left_open.path,
        pseudo_organs=guessed,
        content=_content(sources, known, label.info.get("submission"), files),
    )


def _content(
    sources: Mapping[str, OrganSource],
    known: Iterable[str],
    submission: object,
    files: Mapping[str, Version | None],
) -> str:
    """Return what a fused label says of organs that may be learned.

    Not the file's checksum: it is assembled anew at every prediction, for the organs that
    nobody has labeled, and names the networks in its header.
    """
    organs = [(organ, *sources[organ][:4]) for organ in sorted(known)]
    made_of = sorted((tag, one.sha256) for tag, one in files.items() if one is not None)
    return hashlib.sha256(repr((organs, submission, made_of)).encode()).hexdigest()


class Seen:
    """Patients that networks of a folder were trained on, as hashes of their names.

    Of a volume whose patient nobody named, the volume's name.

    Parameters
    ----------
    folder
        Of the networks: whoever serves them must not hold out what they have seen.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / SEEN
        # Networks that came with the app, or that `atlas8k train` made, bring theirs along.
        self._hashes = _stored(self._file) | _stored(folder / EMBEDDED / SEEN)

    def __contains__(self, name: object) -> bool:
        return _hashed(str(name)) in self._hashes

    def add(self, names: Iterable[str]) -> None:
        """Keep more of them."""
        self._hashes |= {_hashed(name) for name in names}
        write_json(self._file, {"cases": sorted(self._hashes)})


def _hashed(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _stored(file: Path) -> set[str]:
    try:
        found: Any = read_json(file).get("cases", [])
    except (OSError, ValueError):
        logger.warning("%s cannot be read: what was trained on may be held out", file)
        found = []
    return {str(one) for one in found} if isinstance(found, list) else set()
