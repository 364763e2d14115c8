"""Repairs of a draft label: proposed, and made a revision of who accepts them."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.labels.repairs import Repair, propose, repaired
from atlas8k.services.errors import ConflictError, NotFoundError, RequestError
from atlas8k.services.labels.service import LabelService, Receipt
from atlas8k.services.studies.folder import ORIGINAL
from atlas8k.store import Holder


def proposals(service: LabelService, volume: str) -> list[Repair]:
    """Return the repairs that rules propose for the draft label; nothing is changed.

    Raises
    ------
    NotFoundError
        The volume has no draft label.
    """
    array, grid = _draft(service, volume)
    return propose(array, grid)


def accept(service: LabelService, volume: str, numbers: Collection[int], holder: Holder) -> Receipt:
    """Make a revision of the draft label with the repairs of these numbers, from 1.

    It is no review of the volume: it counts in no round, and a volume that was open is given
    out as before, with the repairs in its draft label. Where somebody else has revised the
    volume, a reviewer decides between the two.

    Raises
    ------
    ConflictError
        Somebody has the volume in hand.
    RequestError
        There is no proposal of such a number.
    NotFoundError
        The volume has no draft label.
    """
    held = [lease for lease in service.ledger.leases() if lease.volume == volume]
    if held:
        raise ConflictError(
            f"{volume}: is in the hands of {held[0].holder}; accept repairs when it is back"
        )
    array, grid = _draft(service, volume)
    found = propose(array, grid)
    if not numbers or not {*numbers} <= set(range(1, len(found) + 1)):
        raise RequestError(f"{volume}: there are proposals 1 to {len(found)}; name one of them")
    chosen = [found[number - 1] for number in sorted({*numbers})]
    info = [{"name": name, "idx": number} for name, number in ORGAN_IDS.items()]
    with tempfile.TemporaryDirectory(prefix="atlas8k-") as folder:
        sent = write_nifti(Path(folder) / "label.nii.gz", repaired(array, chosen), grid)
        return service.take_in(volume, sent, holder, {"label_info": info})


def _draft(service: LabelService, volume: str) -> tuple[npt.NDArray[np.uint8], Grid]:
    draft = service.versions.current(volume, ORIGINAL)
    if draft is None:
        raise NotFoundError("draft label of volume", volume)
    label = read_label(draft.path)
    return label.array, label.grid
