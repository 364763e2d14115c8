"""The ledger of a studies folder opened: never a new one where an old one was lost."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from atlas8k.core.files import write_json
from atlas8k.core.structure_sets import DEFAULT_SET, StructureSet, find_set
from atlas8k.core.structures import use
from atlas8k.services.studies.labels import HISTORY
from atlas8k.services.studies.names import LABELS_FOLDER
from atlas8k.store import Ledger, LedgerLostError
from atlas8k.store import structures as store_structures
from atlas8k.store.schema import BEGUN, is_blank
from atlas8k.store.usability import decisions_file

logger = logging.getLogger(__name__)

STRUCTURES_FILE = "structures.json"
"""In the labels folder: what their values mean, where these are not AbdomenAtlas 1.0's."""


def open_ledger(
    root: Path, path: Path, *, structures: StructureSet | None = None, **more: Any
) -> Ledger:
    """Open the ledger of a studies folder; a new one only where no campaign was.

    The process works with the campaign's structures from now on.

    Parameters
    ----------
    root
        The studies folder, or what is kept of an archive.
    structures
        Set to work with; ``None``: the one of the campaign, for a new one AbdomenAtlas 1.0's.
    more
        Arguments of :class:`Ledger`.

    Raises
    ------
    LedgerLostError
        It is missing or empty, and the folder holds what a campaign has left.
    LedgerFileError
        It cannot be used.
    SettingsError
        The set lacks structures of the campaign, or numbers them anew.
    """
    traces = find_traces(root, path) if is_blank(path) else []
    if traces:
        state = "is empty" if path.exists() else "is missing"
        raise LedgerLostError(
            path,
            f"{state}, but there was a campaign here: {'; '.join(traces)}. Nothing was begun anew. "
            "Bring the ledger back with `atlas8k restore BACKUP`, or make one from the label files "
            f"with `atlas8k ledger rebuild --studies {root}"
            f"{' --replace' if path.exists() else ''}`; where it lies elsewhere, give it with "
            "--conf ledger FILE (commands: --ledger FILE); for a new campaign move these away",
        )
    ledger = Ledger(path, **more)
    with ledger.read() as tx:
        begun = tx.setting(BEGUN)
    if begun is None:
        with ledger.write(durable=True) as tx:
            tx.set(BEGUN, time.time())
    use_structures(ledger, root, structures)
    return ledger


def use_structures(
    ledger: Ledger, root: Path | None = None, wanted: StructureSet | None = None
) -> None:
    """Make the campaign's structures those of the process, extended to `wanted` where given.

    The set is also written beside the labels, whose values it explains, and from where a lost
    ledger is made anew.
    """
    if wanted is not None:
        with ledger.write(durable=True) as tx:
            added = store_structures.adopt(tx, wanted)
        if added:
            logger.info("structures %s: new are %s", wanted.name, ", ".join(added))
    with ledger.read() as tx:
        current = store_structures.current(tx)
    use(current)
    labels = root and root / LABELS_FOLDER
    if labels and (current.name != DEFAULT_SET or (labels / STRUCTURES_FILE).exists()):
        labels.mkdir(parents=True, exist_ok=True)  # of an archive nothing is there yet
        write_json(labels / STRUCTURES_FILE, current.as_dict())


def structures_beside(root: Path) -> StructureSet | None:
    """Return the set that is written beside the labels of a studies folder.

    Raises
    ------
    SettingsError
        The file is none.
    """
    path = root / LABELS_FOLDER / STRUCTURES_FILE
    return find_set(path) if path.exists() else None


def find_traces(root: Path, path: Path) -> list[str]:
    """Return what a campaign has left in a studies folder and beside its ledger, in words."""
    traces = []
    history = root / LABELS_FOLDER / HISTORY
    if next(history.glob("*/*/*"), None) is not None:
        submitted = sum(1 for _ in history.glob("final/*/*"))
        traces.append(f"{history} holds kept label files, {submitted} of them submitted")
    if decisions_file(path).exists():
        traces.append(f"{decisions_file(path)} holds decisions about CTs")
    # Set aside by a rebuild, copied by `ledger backup`, or kept of the release before.
    names = (f"{path.name}.[0-9]*Z", f"{path.stem}-[0-9]*Z{path.suffix}")
    copies = [
        one.name
        for name in (*names, f"{path.stem}-version-*{path.suffix}")
        for one in sorted(path.parent.glob(name))
    ]
    if copies:
        traces.append(f"{path.parent} holds copies of the ledger ({', '.join(copies[:5])})")
    return traces
