"""Measure each annotator by labels that the owner of a campaign knows.

Their CTs lie in the studies folder as all others and are handed out as those are. The labels lie
elsewhere, and only this command is told where: the server does not know which volumes they are of,
so that nothing that it says, shows or takes time for can tell them apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from atlas8k.core.errors import EvaluationError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import NIFTI_SUFFIXES, read_label
from atlas8k.metrics.overlap import dsc
from atlas8k.metrics.surface import TOLERANCE_MM, nsd, tolerances
from atlas8k.reports.folders import onto_truth
from atlas8k.services.labels.service import LabelService
from atlas8k.services.overview import name_of

ASSESSED = ("confirmed", "revised", "absent")
READINGS = ("revise", "double_read")


class GoldLine(NamedTuple):
    """How an annotator drew an organ in volumes whose label is known.

    ``dsc`` and ``nsd`` are means over the ``readings`` in which the organ was assessed and is in
    the known label or in the annotator's; 0 where it is in one of them only.
    """

    annotator: str
    organ: str
    readings: int
    dsc: float
    nsd: float


def measure(
    service: LabelService,
    known: Path,
    *,
    names: bool = False,
    tolerance_mm: float = TOLERANCE_MM,
) -> list[GoldLine]:
    """Return every annotator's lines, in the order in which they came, by organ.

    Of several submissions of one volume by one person the first counts: it was made before
    anybody said what is wrong with it.

    Parameters
    ----------
    known
        Folder of the known labels, ``NAME.nii.gz`` after their volumes.
    names
        Show names in place of numbers.

    Raises
    ------
    EvaluationError
        There is no label of a volume of this ledger in the folder.
    """
    order = service.ledger.annotators()
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for volume, path in labels_in(known, service):
        truth, seen = read_label(path), set()
        for one in service.reviews.history(volume):
            who = one.submission.holder
            if one.submission.purpose not in READINGS or one.file is None or who in seen:
                continue
            seen.add(who)
            drawn, base = onto_truth(read_label(one.file), truth)
            overlap = dsc(drawn.array, base.array)
            surface = nsd(drawn.array, base.array, base.grid.spacing, tolerances(tolerance_mm))
            for number, organ in enumerate(ORGAN_NAMES, start=1):
                if organ not in one.organs or one.organs[organ].state not in ASSESSED:
                    continue
                if np.isfinite(overlap[number - 1]):
                    pair = float(overlap[number - 1]), float(surface[number - 1])
                elif (drawn.array == number).any():
                    pair = 0.0, 0.0
                else:
                    continue  # in neither
                found[who, organ].append(pair)
    holders = sorted({who for who, _ in found}, key=lambda who: (who not in order, who))
    holders.sort(key=lambda who: order.index(who) if who in order else len(order))
    return [
        GoldLine(
            name_of(who, order, names=names),
            organ,
            len(pairs),
            *(float(value) for value in np.mean(pairs, axis=0)),
        )
        for who in holders
        for organ in ORGAN_NAMES
        if (pairs := found.get((who, organ)))
    ]


def labels_in(known: Path, service: LabelService) -> Iterator[tuple[str, Path]]:
    """Yield volumes of the ledger and their known labels, by name.

    Raises
    ------
    EvaluationError
        There is none, or the folder lies within the studies, where the server would find it.
    """
    if known.resolve().is_relative_to(service.folder.path.resolve()):
        raise EvaluationError(
            known, "lies within the studies folder: anybody could read it; move it out"
        )
    none = True
    for path in sorted(known.iterdir()) if known.is_dir() else ():
        suffix = next((one for one in NIFTI_SUFFIXES if path.name.endswith(one)), None)
        if suffix and service.ledger.is_known(volume := path.name.removesuffix(suffix)):
            none = False
            yield volume, path
    if none:
        raise EvaluationError(known, "holds no label NAME.nii.gz of a volume of this ledger")
