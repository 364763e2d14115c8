"""Records of rounds as a campaign looks at them; import them from :mod:`atlas8k.ledger`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from atlas8k.ledger.records_labels import OrganChange


class CampaignSettings(NamedTuple):
    """``audit_percent`` of the low-ranked volumes are audited; ``stop_after`` in a row end it."""

    audit_percent: float
    stop_after: int


class Planned(NamedTuple):
    """One line of a round's list.

    ``ml`` is the figure of the ranking when the list was drawn, ``audit`` the order in which
    audits are given out, None for what was not drawn; ``status`` is that of now, or
    ``failed``: it can no longer be predicted, and is not given out.
    """

    place: int
    volume: str
    ml: float
    audit: int | None
    status: str


@dataclass(frozen=True)
class Plan:
    """The list of a round as it was drawn; the first ``top`` places are the budget's.

    ``reviewed`` volumes of the budget were before, by the list of the networks before;
    ``stop_after`` is the setting of then.
    """

    round: int
    signature: str
    ranking: str
    drawn_at: float
    top: int
    audit_percent: float
    seed: str
    audits: int
    reviewed: int
    stop_after: int
    lines: tuple[Planned, ...]


@dataclass(frozen=True)
class Worked:
    """A submission as its round counts it.

    ``round`` is the one that the volume was given out in, whenever it came in. ``lease`` and
    ``minutes`` are None where nobody knows which hand-out it belongs to. ``signature`` is that
    of the networks whose label it corrects, None where nobody knows.
    ``organs`` has what it says of each organ by name.
    """

    id: int
    round: int
    volume: str
    holder: str
    anonymous: bool
    submitted_at: float
    lease: int | None
    minutes: float | None
    purpose: str
    organs: dict[str, OrganChange]
    signature: str | None = None


@dataclass(frozen=True)
class Trained:
    """A training that has ended; ``round`` is the one it ended in, ``detail`` its statistics."""

    round: int | None
    at: float
    detail: dict[str, Any]
