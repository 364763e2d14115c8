"""What the tasks of one app share: settings, datastore, networks, ledger."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas8k.campaign import learning
from atlas8k.errors import CheckpointError, VolumeError
from atlas8k.ledger import Holder, Ledger, Progress, VolumeEntry
from atlas8k.models.store import ModelStore
from atlas8k.server.archive.datastore import ArchiveDatastore
from atlas8k.server.desk.service import LabelService
from atlas8k.server.device_lock import DeviceLock
from atlas8k.server.engine import Engine
from atlas8k.server.errors import NotFoundError, UpstreamError
from atlas8k.server.files import read_json
from atlas8k.server.studies.content import admit
from atlas8k.server.studies.datastore import StudiesDatastore
from atlas8k.settings import Settings

logger = logging.getLogger(__name__)

SHOWN_FAILURES = 20
SHOWN_REMARKS = 20


@dataclass
class Context:
    """One app's parts.

    Attributes
    ----------
    state
        Folder for the locks of scoring and training: one run a studies folder.
    desk
        The labels of the studies.
    """

    settings: Settings
    datastore: StudiesDatastore
    store: ModelStore
    engine: Engine
    device: DeviceLock
    ledger: Ledger
    state: Path
    desk: LabelService
    _synced: object = None
    _registered: str = ""

    def sync(self, *, thorough: bool = False) -> None:
        """Tell the ledger which volumes there are.

        Parameters
        ----------
        thorough
            Also notice files that changed in place; without it only names are compared.
        """
        if thorough:
            self.datastore.refresh()
        # Taken before the list: what changes in between is looked at the next time.
        seen = self.datastore.images_version()
        if not thorough and seen == self._synced:
            return
        names = self.datastore.list_images()
        self.ledger.sync_volumes(entry for name in names if (entry := self._entry(name)))
        self._synced = seen

    def _entry(self, name: str) -> VolumeEntry | None:
        """A volume with a fingerprint that changes when its file does; ``None``: it is gone."""
        fingerprint = self.datastore.fingerprint(name)
        return None if fingerprint is None else VolumeEntry(name, None, fingerprint)

    def reach(self) -> None:
        """Raise :class:`UpstreamError` where images come from an archive that does not answer."""
        if isinstance(self.datastore, ArchiveDatastore):
            self.datastore.answers()

    def admit(self, volume: str) -> bool:
        """Whether a volume may be ranked and handed out, by a look at its content.

        Raises
        ------
        NotFoundError, UpstreamError
            The image is gone; its archive does not answer.
        """
        return not self.settings.check_content or admit(self.datastore.studies, self.ledger, volume)

    def bring(self, volume: str, holder: Holder) -> bool:
        """Have the image of a volume that was just handed out here, and looked at.

        False where it turns out to be no abdominal CT, to be gone, or to have a label already; it
        is not offered again.

        Raises
        ------
        UpstreamError
            The archive does not answer; the volume is nobody's again.
        """
        if self.desk.existing.check(volume):
            self.ledger.release(volume, holder)
            return False
        if not isinstance(self.datastore, ArchiveDatastore):
            return self._given_out(volume, holder) and self._usable(volume, holder)
        try:
            self.datastore.get_image_uri(volume)
            return self._usable(volume, holder)
        except UpstreamError:
            self.ledger.release(volume, holder)
            raise
        except (VolumeError, NotFoundError) as err:
            logger.warning("%s is not offered: %s", volume, err)
            self.ledger.release(volume, holder)
            self.datastore.studies.look()
            self.sync()
            return False

    def _usable(self, volume: str, holder: Holder) -> bool:
        """Whether a volume is what it should be; where not, it is nobody's and set aside."""
        try:
            usable = self.admit(volume)
        except NotFoundError:
            return True  # gone a moment ago: whoever asks for it is told so
        if not usable:
            self.ledger.release(volume, holder)
        return usable

    def _given_out(self, volume: str, holder: Holder) -> bool:
        """Whether clients can get a volume of a folder; where not, it is noted as failed."""
        if not self._registered:
            return True
        try:
            self.datastore.get_image_uri(volume)
        except VolumeError as err:
            logger.warning("%s is not offered: %s", volume, err)
            self.ledger.release(volume, holder)
            self.ledger.record_failure(volume, self._registered, str(err))
            return False
        except NotFoundError:
            pass  # gone a moment ago: whoever asks for it is told so
        return True

    def take_up_labels(self) -> threading.Thread | None:
        """Have labels that the ledger does not know imported, or set aside, beside the requests.

        They come from an earlier use of the folder and count as nothing before they have
        been checked. What killed processes began is finished first.
        """
        return self.desk.existing.start()

    def labels_checked(self) -> tuple[int, int]:
        """How many labels that lay in the folder are checked, of how many; 0 of 0: all are."""
        return self.desk.existing.progress()

    def signature(self) -> str:
        """The signature scores are made under now, registered in the ledger.

        Raises
        ------
        CheckpointError
            There is no set of networks to serve.
        """
        served = self.store.served()
        if served.signature == self._registered:
            return served.signature
        rounds = self.ledger.rounds()
        before = rounds[-1].signature if rounds else None
        # Other attention settings over the same networks make new scores, not a new round.
        same = (
            before is not None
            and self.ledger.signature_detail(before).get("networks") == served.folder
        )
        self.note_training()
        self.ledger.register_signature(
            served.signature, {"networks": served.folder}, new_round=not same
        )
        self._registered = served.signature
        return served.signature

    def progress(self) -> Progress:
        """How far the networks served now have been scored."""
        return self.ledger.progress(self.signature())

    def status(self) -> dict[str, Any]:
        """Where scoring stands, for ``/info/`` and ``/scoring/``."""
        try:
            signature = self.signature()
        except CheckpointError as err:
            return {"error": str(err), **self._existing()}
        progress = self.ledger.progress(signature)
        ranked_by = self.ledger.ranking_signature(signature)
        failures = self.ledger.failures(signature) if progress.failed else {}
        return {
            "model_signature": signature,
            "networks_out": self.engine.left_out(),
            "ranked_by": ranked_by,
            "scored": progress.scored,
            "failed": progress.failed,
            "total": progress.total,
            "message": message(progress, signature, ranked_by),
            "failures": dict(list(failures.items())[:SHOWN_FAILURES]),
            "training": self._training(),
            **self._archive(),
            **self._existing(),
        }

    def _existing(self) -> dict[str, Any]:
        """Labels of the folder that are to be checked, or failed; nothing where there are none."""
        found: dict[str, Any] = {}
        checked, total = self.labels_checked()
        if total:
            found["unchecked_labels"] = {"checked": checked, "total": total}
        if waiting := self.desk.existing.waiting():
            shown = {one.volume: one.reason for one in waiting[:SHOWN_FAILURES]}
            found["rejected_labels"] = {"count": len(waiting), "labels": shown}
        return found

    def _archive(self) -> dict[str, Any]:
        if not isinstance(self.datastore, ArchiveDatastore):
            return {}
        return {"archive": self.datastore.brief_status()}

    def remarks(self, most: int | None = SHOWN_REMARKS) -> dict[str, Any]:
        """What was found in the files of the studies, for ``/info/`` and pages.

        Parameters
        ----------
        most
            So many volumes and files are named, ``None``: all.

        Returns
        -------
        dict
            ``count``: volumes with remarks; ``volumes``: the remarks of each, see
            :meth:`~atlas8k.remarks.Remark.as_dict`; ``not_listed``: files that are no volume
            here, with the reason; ``not_listed_count``.
        """
        catalogue = self.datastore.studies.now()
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
        """Scored volumes that are unlike the training CTs; nothing is ranked or left out by it.

        Returns
        -------
        dict
            ``count``, ``of``: volumes looked at; ``volumes``: by name, in what each is
            unlike, at most so many.
        """
        signature = self._ranked_by()
        looked = {} if signature is None else self.ledger.familiar(signature)
        found = {name: one["unlike"] for name, one in looked.items() if one["unlike"]}
        shown = dict(list(found.items())[:most])
        return {"count": len(found), "of": len(looked), "volumes": shown}

    def _ranked_by(self) -> str | None:
        try:
            return self.ledger.ranking_signature(self.signature())
        except CheckpointError:
            return None

    def note_training(self) -> None:
        """Keep what the last training did with the round it was made in; again at will."""
        try:
            stats = read_json(self.store.root / learning.STATS)
        except (OSError, ValueError):
            return  # being written, or not ours
        learning.note(self.ledger, stats)

    def _training(self) -> str:
        """What became of the last training, one line; empty where none has ended."""
        try:
            return str(read_json(self.store.root / learning.STATS).get("message", ""))
        except (OSError, ValueError):
            return ""


def message(progress: Progress, signature: str, ranked_by: str | None) -> str:
    """What an annotator should know about the order that samples come in."""
    text = f"scored {progress.scored} of {progress.total}"
    if progress.failed:
        text += f", {progress.failed} cannot be scored"
    if ranked_by is not None and ranked_by != signature:
        return f"{text} under the new networks {signature}; ranked by {ranked_by} until then"
    if not progress.complete:
        return f"{text} under {signature}; the order is not final"
    return f"{text} under {signature}"
