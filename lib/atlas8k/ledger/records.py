"""What goes into the ledger and what comes out: plain frozen records."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from atlas8k.ledger.records_labels import (
    OLDER_RULE,
    Begun,
    LabelFile,
    Offer,
    OrganChange,
    OrganSource,
    Review,
    Submission,
)

__all__ = [
    "OLDER_RULE",
    "Begun",
    "Budget",
    "Counts",
    "Holder",
    "LabelFile",
    "Lease",
    "Offer",
    "OrganAttention",
    "OrganChange",
    "OrganScore",
    "OrganSource",
    "Progress",
    "Ranked",
    "Review",
    "Sample",
    "Status",
    "Strategy",
    "Submission",
    "VolumeEntry",
]

Strategy = Literal["attention", "first", "random"]
Status = Literal["open", "leased", "submitted", "conflict", "excluded", "vanished"]


class OrganScore(NamedTuple):
    """Sums of the attention terms of one organ in one volume, millilitres.

    ``attention_ml`` is Eq. 4, what volumes are ranked by as a rule; the next three are its
    terms (Eq. 1-3). ``salient_ml`` and ``per_slice_ml`` (ml a slice) are what the other two
    published rankings go by, None where they were not measured.
    """

    attention_ml: float
    inconsistency_ml: float = 0.0
    uncertainty_ml: float = 0.0
    overlap_ml: float = 0.0
    salient_ml: float | None = None
    per_slice_ml: float | None = None


class VolumeEntry(NamedTuple):
    """A volume as the studies folder shows it.

    ``source`` is the dataset it came from, ``""`` where unknown. ``fingerprint`` is any
    text that changes with the file (size and time, a checksum): when it does, scores and
    failures of the volume are forgotten. ``None`` leaves what is known.
    """

    name: str
    source: str | None = None
    fingerprint: str | None = None


class OrganAttention(NamedTuple):
    """An organ and its attention size in millilitres."""

    organ: str
    attention_ml: float


@dataclass(frozen=True)
class Progress:
    """How far a model signature has been scored; excluded and vanished volumes are not counted.

    ``complete`` says that nothing is stale *now*; ``completed_at`` when that was first so.
    """

    scored: int
    failed: int
    total: int
    completed_at: float | None = None

    @property
    def complete(self) -> bool:
        return self.scored + self.failed >= self.total


@dataclass(frozen=True)
class Ranked:
    """One line of the priority list.

    ``score`` is the figure of ``ranking`` that decides the rank; for ``eq4`` it is the
    attention size.
    """

    volume: str
    attention_ml: float
    rank: int
    organs: tuple[OrganAttention, ...]
    status: Status
    source: str = ""
    ranking: str = "eq4"
    score: float = 0.0


@dataclass(frozen=True)
class Holder:
    """Who a volume is leased to; make one with :meth:`identify`.

    An anonymous holder may be several people, so that its second request does not
    release its first lease.
    """

    key: str
    anonymous: bool = False

    @classmethod
    def identify(
        cls,
        user: str | None = None,
        client_id: str | None = None,
        address: str = "",
        software: str = "",
    ) -> Holder:
        """The signed-in user, else the client id, else address and software.

        ``user-xyz`` is 3D Slicer's default client id, which everybody has.
        """
        if user:
            return cls(f"user:{user}")
        if client_id and client_id != "user-xyz":
            return cls(f"client:{client_id}")
        return cls(f"anonymous:{address or 'unknown'} {software}".rstrip(), anonymous=True)


@dataclass(frozen=True)
class Budget:
    """Volumes to review in a round and how many have been, those drawn for audit aside."""

    round: int
    total: int
    reviewed: int

    @property
    def left(self) -> int:
        return max(0, self.total - self.reviewed)


@dataclass(frozen=True)
class Sample:
    """A volume leased to an annotator, and why it was this one.

    ``attention_ml``, ``rank`` and ``organs`` are empty for an unscored volume.
    ``rank`` counts from 1 among all ``ranked`` scored volumes, reviewed ones included;
    under an organ filter as without one. ``score`` is the figure of ``ranking`` that it is
    ranked by. ``purpose`` is ``revise``, ``review`` or ``double_read``; ``note`` what a
    reviewer said when returning the volume. ``audit``: it ranks low and was drawn at random,
    to see what errors are left there. ``given_back``: volumes that its holder had until it
    asked, and had not submitted. Times are UTC seconds since 1970.
    """

    volume: str
    strategy: str
    lease: int
    expires_at: float
    signature: str | None
    attention_ml: float | None
    rank: int | None
    ranked: int
    organs: tuple[OrganAttention, ...]
    round: int
    budget: int
    budget_left: int
    over_budget: bool
    unscored: bool
    skipped_before: bool
    base_submission: int | None
    anonymous: bool
    ranking: str = "eq4"
    score: float | None = None
    purpose: str = "revise"
    note: str = ""
    audit: bool = False
    given_back: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; organs as a list of name and millilitres, largest first."""
        return {**asdict(self), "organs": [organ._asdict() for organ in self.organs]}


@dataclass(frozen=True)
class Lease:
    """A volume in somebody's hands."""

    id: int
    volume: str
    holder: str
    anonymous: bool
    taken_at: float
    expires_at: float


@dataclass(frozen=True)
class Counts:
    """Volumes by state; ``total`` = those that count (present and not excluded)."""

    total: int
    available: int
    leased: int
    submitted: int
    conflict: int
    excluded: int
    present: int
    failed: int
