"""What was recorded of each organ, in the annotator's words."""

from __future__ import annotations

from collections.abc import Mapping

from atlas8k.store import OrganChange

STATES = {
    "revised": "changed",
    "confirmed": "correct",
    "absent": "absent",
    "not_assessed": "not assessed",
}
"""States of :class:`~atlas8k.store.records.OrganChange` in words, in the order told."""

HOW_TO_SAY = (
    "organs that came back as they went out are not assessed: say what you looked at by "
    "all_looked_at (Options of 3D Slicer, with the next sample), on the page /atlas8k/cases, or "
    "in params.looked_at"
)
HOW_TO_ANSWER = (
    "to have it counted, open the case again on the page /atlas8k/cases and record the volume "
    "as right, or name the organ in params.volume_is_right"
)


def words(name: str) -> str:
    """Return an organ's name as words."""
    return name.replace("_", " ")


def questions(organs: Mapping[str, OrganChange]) -> dict[str, str]:
    """Return what is asked about organs that were therefore not assessed."""
    return {
        organ: one.note for organ, one in organs.items() if one.state == "not_assessed" and one.note
    }


def recorded_text(organs: Mapping[str, OrganChange]) -> str:
    """Return what was recorded of each organ, one line."""
    parts = []
    for state, text in STATES.items():
        named = [words(organ) for organ, one in organs.items() if one.state == state]
        if named:
            parts.append(f"{text}: {', '.join(named)}")
    asked = [f"{words(organ)} {text}" for organ, text in questions(organs).items()]
    if asked:
        parts.append(f"asked about: {'; '.join(asked)}")
    return "; ".join(parts)
