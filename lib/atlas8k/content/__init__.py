"""Inspect what a volume shows, before networks predict it.

Arrays and numbers only: :func:`inspect_content` finds out whether the values are HU, whether
the volume is a label map or damaged, and whether there is an abdomen in it.
"""

from __future__ import annotations

from atlas8k.content.abdomen import why_no_abdomen
from atlas8k.content.damage import DAMAGED, damage_remarks
from atlas8k.content.intensity import LABEL_MAP, NOT_HU, intensity_remarks
from atlas8k.core.grid import Volume
from atlas8k.core.remarks import Remark, worst

__all__ = ["DAMAGED", "DECIDED_BY_PEOPLE", "LABEL_MAP", "NOT_HU", "NO_ABDOMEN", "inspect_content"]

NO_ABDOMEN = "no_abdomen"
DECIDED_BY_PEOPLE = (LABEL_MAP, NOT_HU, DAMAGED, NO_ABDOMEN)
"""Kinds of remarks for which a volume is left out until somebody includes it."""


def inspect_content(ct: Volume) -> tuple[Remark, ...]:
    """Remark on what is odd about a volume that is meant to be an abdominal CT.

    Parameters
    ----------
    ct
        ``(X, Y, Z)``, finite, meant to be HU; any orientation and spacing.

    Returns
    -------
    tuple of Remark
        Of level ``blocked``: ``label_map`` or ``not_hu``, else ``damaged``, else
        ``no_abdomen``. Warnings: ``outliers``, ``blank_slices``. Of level ``note``:
        ``clipped``, ``padding``.
    """
    remarks = intensity_remarks(ct.array)
    if worst(remarks) != "blocked":
        remarks = (*remarks, *damage_remarks(ct.array, ct.grid.spacing))
    if worst(remarks) == "blocked":
        return remarks
    why = why_no_abdomen(ct)
    if why is None:
        return remarks
    text = f"no abdomen found: {why}. Leave it out, or include it if it does show one."
    return (*remarks, Remark(NO_ABDOMEN, text, "blocked"))
