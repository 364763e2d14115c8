"""What a volume shows, looked at before networks are believed.

Arrays and numbers only: :func:`inspect_content` says whether the values are HU, whether the
volume is a label map, and whether there is an abdomen in it.
"""

from __future__ import annotations

from atlas8k.content.abdomen import why_no_abdomen
from atlas8k.content.finding import NEEDS_DECISION, Finding, Kind
from atlas8k.content.intensity import intensity_findings
from atlas8k.grid import Volume

__all__ = ["NEEDS_DECISION", "Finding", "Kind", "inspect_content"]


def inspect_content(ct: Volume) -> tuple[Finding, ...]:
    """Return what is remarkable about a volume that is meant to be an abdominal CT.

    Parameters
    ----------
    ct
        ``(X, Y, Z)``, finite, meant to be HU; any orientation and spacing.

    Returns
    -------
    tuple of Finding
        The abdomen is looked for only where the values are HU.
    """
    found = intensity_findings(ct.array)
    if any(finding.needs_decision for finding in found):
        return found
    why = why_no_abdomen(ct)
    if why is None:
        return found
    text = f"no abdomen found: {why}. Leave it out, or include it if it does show one."
    return (*found, Finding("no_abdomen", text))
