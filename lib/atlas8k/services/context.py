"""What the use-cases of one server or command share: studies, networks, ledger, labels."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlas8k.campaign import learning
from atlas8k.core.errors import CheckpointError, VolumeError
from atlas8k.core.files import read_json
from atlas8k.core.remarks import Remark
from atlas8k.core.settings import Settings
from atlas8k.models.store import ModelStore
from atlas8k.services.archive.session import ArchiveSession
from atlas8k.services.calibrations import Calibrations
from atlas8k.services.device_lock import DeviceLock
from atlas8k.services.duplicates import DuplicateWatch
from atlas8k.services.errors import NotFoundError, UpstreamError
from atlas8k.services.exporting.exports import Exports
from atlas8k.services.gold import GoldCases
from atlas8k.services.labels.label_watch import LabelWatch
from atlas8k.services.labels.service import LabelService
from atlas8k.services.looks import Looks
from atlas8k.services.nninteractive import nninteractive_of
from atlas8k.services.overview import Overview
from atlas8k.services.prediction.engine import Engine
from atlas8k.services.strokes import StrokeService
from atlas8k.services.studies.content import admit
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.names import check_id
from atlas8k.services.studies.scan import ImageFile
from atlas8k.services.sweep import Sweep
from atlas8k.services.thumbnails import Thumbnails
from atlas8k.store import Holder, Ledger, Progress, VolumeEntry

logger = logging.getLogger(__name__)

SHOWN_FAILURES = 20
SHOWN_REMARKS = 20


@dataclass
class Context:
    """One studies folder or archive, opened with all that belongs to it.

    Attributes
    ----------
    studies
        The folder, of an archive its working folder.
    archive
        Where images come from one.
    looks
        Who looks at what.
    overview
        What the page of the campaign shows.
    thumbnails
        Small pictures of its CTs.
    calibrations
        What predicted quality rests on, by model version.
    sweep
        The look through the outlines of all labels.
    state
        Folder for the locks of scoring and training: one run a studies folder.
    label_service
        The labels of the studies.
    duplicate_watch
        Finds near-duplicates, where a server has started it.
    exports
        Datasets that are exported from the page.
    strokes
        Changes labels by strokes.
    gold
        Gold cases, where the setting names their labels.
    label_watch
        Holds their files against their hashes, where a server has started it.
    """

    settings: Settings
    studies: StudiesFolder
    models: ModelStore
    engine: Engine
    device: DeviceLock
    ledger: Ledger
    state: Path
    label_service: LabelService
    label_watch: LabelWatch
    archive: ArchiveSession | None = None
    gold: GoldCases | None = None
    looks: Looks = field(init=False)
    overview: Overview = field(init=False)
    thumbnails: Thumbnails = field(init=False)
    calibrations: Calibrations = field(init=False)
    sweep: Sweep = field(init=False)
    duplicate_watch: DuplicateWatch = field(init=False)
    exports: Exports = field(init=False)
    strokes: StrokeService = field(init=False)
    _synced: object = None
    _files: dict[str, ImageFile | None] = field(default_factory=dict)
    """The images at the last :meth:`sync`."""
    _registered: str = ""

    def __post_init__(self) -> None:
        self.looks = Looks(self.ledger)
        self.overview = Overview(self.ledger)
        self.thumbnails = Thumbnails()
        self.calibrations = Calibrations(self.ledger)
        self.sweep = Sweep(self.ledger)
        self.duplicate_watch = DuplicateWatch(self.studies)
        self.strokes = StrokeService(
            *(self.studies, self.engine, self.models),
            networks=self.settings.networks,
            outside=nninteractive_of(self.settings),
        )
        self.exports = Exports(
            self.studies.path, self.ledger.path, self.settings.exports, self.settings.patients
        )

    def close(self) -> None:
        """Close files; any further use opens them again."""
        self.label_watch.stop()
        self.duplicate_watch.stop()
        self.strokes.close()
        self.exports.close()
        if self.gold is not None:
            self.gold.close()
        self.looks.close()
        if self.archive is not None:
            self.archive.close()
        self.studies.close()
        self.ledger.close()

    def sync(self, *, thorough: bool = False) -> None:
        """Have the ledger know which volumes there are.

        Parameters
        ----------
        thorough
            Look at all files, also those that may have changed in place; without it at those
            that are new or lie elsewhere than before. What an archive tells is always taken.
        """
        if thorough:
            self.studies.refresh()
        # Taken before the list: what changes in between is looked at the next time.
        seen = self.studies.now().changes
        if not thorough and seen == self._synced:
            return
        catalogue = self.studies.now()
        files = {name: catalogue.images.get(name) for name in catalogue.ids()}
        before = self.ledger.fingerprints()
        # What an archive's series are is in the store: nothing is fetched for it.
        thorough = thorough or self.archive is not None
        asked = {
            name
            for name, file in files.items()
            if thorough or name not in before or self._files.get(name, file) != file
        }
        self.ledger.sync_volumes(self._looked_at(files, asked, before))
        self._files = files
        self._synced = seen

    def _looked_at(
        self, files: Collection[str], asked: Collection[str], before: Mapping[str, str | None]
    ) -> list[VolumeEntry]:
        """Return what the ledger is to know of images after a look at the files of some.

        Such a look may take minutes: what others have entered since `before` is newer.
        """
        marks = dict(self.studies.fingerprints(asked))  # they change when the files do
        known = self.ledger.fingerprints()
        newer = {name for name in marks if known.get(name) != before.get(name)}
        later = known.keys() & set(self.studies.now().ids()) - set(files)
        return [
            *(
                VolumeEntry(name, None, None if name in newer else marks.get(name))
                for name in files
                if name in marks or name not in asked  # else it is gone
            ),
            *(VolumeEntry(name) for name in later),
        ]

    def know(self, volume: str) -> None:
        """Have the ledger know a volume, also one that was put into the folder just now.

        Raises
        ------
        BadNameError, NotFoundError
            That cannot be an id; there is no such volume, nor was there ever.
        """
        if not self.ledger.is_known(check_id(volume)):
            self.studies.known_image(volume)
            self.sync()

    def reach(self) -> None:
        """Raise :class:`UpstreamError` where images come from an archive that does not answer."""
        if self.archive is not None:
            self.archive.archive.answers()

    def admit(self, volume: str, known: tuple[Remark, ...] | None = None) -> bool:
        """Return whether a volume may be ranked and handed out, by a look at its content.

        Parameters
        ----------
        known
            What such a look found, where somebody has looked already.

        Raises
        ------
        NotFoundError, UpstreamError
            The image is gone; its archive does not answer.
        """
        return not self.settings.check_content or admit(self.studies, self.ledger, volume, known)

    def bring(self, volume: str, holder: Holder) -> bool:
        """Have the image of a volume that was just handed out here, and looked at.

        False where it turns out to be no abdominal CT, to be gone, or to have a label already; it
        is not offered again.

        Raises
        ------
        UpstreamError
            The archive does not answer; the volume is nobody's again.
        """
        try:
            offered = not self.label_service.existing.check(volume)
            if offered and (self.archive is not None or self._registered):
                self.studies.served_image(volume)
            offered = offered and self.admit(volume)
        except UpstreamError:
            self.ledger.release(volume, holder)
            raise
        except (VolumeError, NotFoundError) as err:
            if isinstance(err, NotFoundError) and self.archive is None:
                return True  # gone a moment ago: whoever asks for it is told so
            logger.warning("%s is not offered: %s", volume, err)
            self.ledger.release(volume, holder)
            if self.archive is not None:
                self.archive.folder.look()
                self.sync()
            else:
                self.ledger.record_failure(volume, self._registered, str(err))
            return False
        if not offered:
            self.ledger.release(volume, holder)
        return offered

    def labels_checked(self) -> tuple[int, int]:
        """Return how many labels of the folder are checked, of how many; 0 of 0: all are."""
        return self.label_service.existing.progress()

    def model_version(self) -> str:
        """Return the model version scores are made under now, registered in the ledger.

        Raises
        ------
        CheckpointError
            There is no set of networks to serve.
        """
        served = self.models.served()
        if served.model_version == self._registered:
            return served.model_version
        rounds = self.ledger.rounds()
        before = rounds[-1].model_version if rounds else None
        # Other attention settings over the same networks make new scores, not a new round.
        same = (
            before is not None
            and self.ledger.model_version_detail(before).get("networks") == served.folder
        )
        self.note_training()
        self.ledger.register_model_version(
            served.model_version, {"networks": served.folder}, new_round=not same
        )
        self._registered = served.model_version
        return served.model_version

    def progress(self) -> Progress:
        """Return how far the networks served now have been scored."""
        return self.ledger.progress(self.model_version())

    def status(self) -> dict[str, Any]:
        """Return where scoring stands, for ``/info/`` and ``/scoring/``."""
        try:
            model_version = self.model_version()
        except CheckpointError as err:
            return {"error": str(err), **self._existing()}
        progress = self.ledger.progress(model_version)
        ranked_by = self.ledger.ranking_model_version(model_version)
        failures = self.ledger.failures(model_version) if progress.failed else {}
        return {
            "model_version": model_version,
            "model_signature": model_version,  # its name before 0.2
            "networks_out": self.engine.left_out(),
            "ranked_by": ranked_by,
            "scored": progress.scored,
            "failed": progress.failed,
            "total": progress.total,
            "message": message(progress, model_version, ranked_by),
            "failures": dict(list(failures.items())[:SHOWN_FAILURES]),
            "training": str(self.training_stats().get("message", "")),
            **({"archive": self.archive.brief_status()} if self.archive else {}),
            **self._existing(),
        }

    def _existing(self) -> dict[str, Any]:
        """Return how the label files are, and labels of the folder that are no one's yet."""
        found: dict[str, Any] = {}
        if self.label_watch.started:
            found["label_files"] = self.label_watch.status()
        checked, total = self.labels_checked()
        if total:
            found["unchecked_labels"] = {"checked": checked, "total": total}
        if waiting := self.label_service.existing.waiting():
            shown = {one.volume: one.reason for one in waiting[:SHOWN_FAILURES]}
            found["rejected_labels"] = {"count": len(waiting), "labels": shown}
        return found

    def remarks(self, most: int | None = SHOWN_REMARKS) -> dict[str, Any]:
        """Return what was found in the files of the studies, for ``/info/`` and pages.

        Parameters
        ----------
        most
            So many volumes and files are named, ``None``: all.

        Returns
        -------
        dict
            ``count``: volumes with remarks; ``volumes``: the remarks of each, see
            :meth:`~atlas8k.core.remarks.Remark.as_dict`; ``not_listed``: files that are no volume
            here, with the reason; ``not_listed_count``.
        """
        catalogue = self.studies.now()
        found, aside = catalogue.all_remarks(), catalogue.not_listed
        return {
            "count": len(found),
            "volumes": {
                one: [remark.as_dict() for remark in found[one]] for one in list(found)[:most]
            },
            "not_listed_count": len(aside),
            "not_listed": dict(sorted(aside.items())[:most]),
        }

    def unlike(self, most: int | None = SHOWN_REMARKS) -> dict[str, Any]:
        """Return scored volumes that are unlike the training CTs; no rank depends on it.

        Returns
        -------
        dict
            ``count``, ``of``: volumes looked at; ``volumes``: by name, in what each is
            unlike, at most so many.
        """
        model_version = self.ranked_by()
        looked = {} if model_version is None else self.ledger.familiar(model_version)
        found = {name: one["unlike"] for name, one in looked.items() if one["unlike"]}
        shown = dict(list(found.items())[:most])
        return {"count": len(found), "of": len(looked), "volumes": shown}

    def ranked_by(self) -> str | None:
        """Return the model version whose scores order the volumes; ``None``: no order."""
        try:
            return self.ledger.ranking_model_version(self.model_version())
        except CheckpointError:
            return None

    def note_training(self) -> None:
        """Note what the last training did with the round it was made in; again at will."""
        if stats := self.training_stats():
            learning.record_training(self.ledger, stats)

    def training_stats(self) -> dict[str, Any]:
        """Return what is known of the last training; nothing where none has ended."""
        try:
            return read_json(self.models.root / learning.STATS)
        except (OSError, ValueError):
            return {}  # being written, or not ours


def message(progress: Progress, model_version: str, ranked_by: str | None) -> str:
    """Return what an annotator should know about the order that samples come in."""
    text = f"scored {progress.scored} of {progress.total}"
    if progress.failed:
        text += f", {progress.failed} cannot be scored"
    if ranked_by is not None and ranked_by != model_version:
        return f"{text} under the new networks {model_version}; ranked by {ranked_by} until then"
    if not progress.complete:
        return f"{text} under {model_version}; the order is not final"
    return f"{text} under {model_version}"
