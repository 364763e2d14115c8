"""What is labeled in a studies folder, for a command that is to change nothing there.

A server takes in what it does not know and finishes what was begun, with the ledger it was
given. A command that was given another ledger, or none, would take half of the labels for
all there is, and write them down so.
"""

from __future__ import annotations

import logging
from pathlib import Path

from atlas8k.core.errors import TrainingError
from atlas8k.services.labels.drafts import PUBLIC
from atlas8k.services.labels.service import LabelService
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.store import locate

logger = logging.getLogger(__name__)


def existing_ledger(studies: str | Path, given: Path | None) -> Path:
    """Return the ledger of a studies folder, which is there.

    Raises
    ------
    TrainingError
        It is not: what is labeled in the folder stands in it.
    """
    path = given or locate(str(studies))
    if not path.is_file():
        raise TrainingError(
            f"{path}: there is no such ledger, and what is labeled in {studies} stands in it; "
            "give --ledger as the server was given it, or import labels first (atlas8k labels "
            "import), or start the server once on a folder that has labels of its own"
        )
    return path


def check_ledger(label_service: LabelService) -> None:
    """Check that a ledger is that of its folder; volumes it does not know are logged.

    Raises
    ------
    TrainingError
        The folder has public labels that the ledger never heard of: it is another one's.
    """
    known = label_service.ledger.statuses()
    labels = label_service.folder.now()
    strange = [
        volume
        for volume in labels.ids_by_label(PUBLIC, labeled=True)
        if not (volume in known and _heard_of(label_service, volume))
    ]
    if strange:
        raise TrainingError(
            f"{label_service.ledger.path}: knows nothing of the public labels of {len(strange)} "
            f"volumes in {label_service.folder.path}, so it is not their ledger; give --ledger as "
            "the server was given it, or import them again"
        )
    by_hand = {
        volume
        for volume in labels.ids_by_label(FINAL, labeled=True)
        if known.get(volume, "open") in ("open", "leased")
    }
    if by_hand:
        logger.warning(
            "not trained on %d volumes whose labels/final is not in the ledger (%s): start the "
            "server once, which takes them in, or give --ledger as it was given it",
            len(by_hand),
            label_service.ledger.path,
        )


def _heard_of(label_service: LabelService, volume: str) -> bool:
    """Return whether a public label of the volume was ever entered."""
    noted = any(one.tag == PUBLIC for one in label_service.ledger.labels(volume))
    return noted or bool(label_service.ledger.dataset_organs(volume))
