"""What is found about a volume's content, in words that say what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["label_map", "not_hu", "no_abdomen", "clipped", "padding"]

NEEDS_DECISION: tuple[Kind, ...] = ("label_map", "not_hu", "no_abdomen")
"""A volume of these kinds is ranked and trained on only after somebody includes it."""


@dataclass(frozen=True)
class Finding:
    """One finding about a volume's content.

    Attributes
    ----------
    kind
        ``label_map``: values are numbers of structures; ``not_hu``: intensities on another
        scale than HU; ``no_abdomen``: HU of something else; ``clipped`` and ``padding``:
        worth knowing, the volume is used as any other.
    text
        What was found and what to do about it, without the volume's name.
    """

    kind: Kind
    text: str

    @property
    def needs_decision(self) -> bool:
        """Whether the volume waits for somebody to include it."""
        return self.kind in NEEDS_DECISION

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {"kind": self.kind, "text": self.text, "needs_decision": self.needs_decision}
