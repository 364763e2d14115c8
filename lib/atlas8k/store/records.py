"""What goes into the ledger and what comes out: plain frozen records.

Times are UTC seconds since 1970, sizes millilitres, counts voxels on the CT's grid; volumes,
organs and model versions are given by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from atlas8k.core.organ_states import (
    OLDER_RULE,
    OrganChange,
    OrganSource,
    PlacesChanged,
    QualityFound,
    QualitySeen,
)
from atlas8k.core.rankings import EQ4
from atlas8k.core.selection import RANKING

__all__ = [
    "OLDER_RULE", "OrganChange", "OrganSource", "PlacesChanged", "QualityFound", "QualitySeen",
]  # fmt: skip

Strategy = Literal["attention", "first", "random", "random_foreground", "stratified"]
Status = Literal["open", "leased", "submitted", "conflict", "excluded", "vanished"]


# Volumes and scores


class VolumeEntry(NamedTuple):
    """A volume as the studies folder shows it.

    ``source`` is the dataset it came from, ``""`` where unknown. ``fingerprint`` is any
    text that changes with the file (size and time, a checksum): when it does, scores and
    failures of the volume are forgotten. ``None`` leaves what is known.
    """

    name: str
    source: str | None = None
    fingerprint: str | None = None


class Usability(NamedTuple):
    """One decision whether a volume is usable.

    ``kind`` is ``person``, or the kind of remark for which it was set aside; ``holder`` is the
    key of who decided, empty where nobody did.
    """

    volume: str
    usable: bool
    kind: str
    reason: str
    holder: str
    at: float


@dataclass(frozen=True)
class Counts:
    """Volumes by state; ``total`` = those that count (present and not excluded)."""

    total: int
    leased: int
    submitted: int
    conflict: int
    excluded: int


class OrganScore(NamedTuple):
    """Sums of the attention terms of one organ in one volume, millilitres.

    ``attention_ml`` is Eq. 4, the figure of ranking ``eq4``; the next three are its
    terms (Eq. 1-3). ``figures`` are what the other rankings go by, by name
    (:data:`~atlas8k.core.rankings.RANKINGS`); None: measured, and this organ has none. What was
    not measured is not there.
    """

    attention_ml: float
    inconsistency_ml: float = 0.0
    uncertainty_ml: float = 0.0
    overlap_ml: float = 0.0
    figures: Mapping[str, float | None] = MappingProxyType({})

    def figure(self, ranking: str) -> float | None:
        """Return what a ranking goes by.

        Raises
        ------
        KeyError
            It was not measured.
        """
        return self.attention_ml if ranking == EQ4 else self.figures[ranking]


@dataclass(frozen=True)
class Progress:
    """How far a model version has been scored; excluded and vanished volumes are not counted.

    ``complete`` says that nothing is stale *now*; ``completed_at`` when that was first so.
    """

    scored: int
    failed: int
    total: int
    completed_at: float | None = None

    @property
    def complete(self) -> bool:
        return self.scored + self.failed >= self.total


class Cost(NamedTuple):
    """What predicting a volume took.

    Attributes
    ----------
    volume
        Its name.
    voxels
        Of the CT; ``None``: the release that scored it did not say.
    file_mb
        Of its file; ``None``: not known.
    """

    volume: str
    seconds: float
    voxels: int | None
    on_gpu: bool
    file_mb: float | None


class OrganAttention(NamedTuple):
    """An organ and its attention size in millilitres."""

    organ: str
    attention_ml: float


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


# Leases


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
        """Return the signed-in user, else the client id, else address and software.

        ``user-xyz`` is 3D Slicer's default client id, which everybody has.
        """
        if user:
            return cls(f"user:{user}")
        if client_id and client_id != "user-xyz":
            return cls(f"client:{client_id}")
        return cls(f"anonymous:{address or 'unknown'} {software}".rstrip(), anonymous=True)


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
class Offer:
    """A volume to be given out before all others.

    ``purpose`` is ``returned`` or ``double_read``; ``holder`` the only one it is for,
    ``not_holder`` the one it is not for.
    """

    volume: str
    purpose: str
    holder: str | None
    not_holder: str | None
    note: str
    at: float


@dataclass(frozen=True)
class Sample:
    """A volume leased to an annotator, and why it was this one.

    ``attention_ml``, ``rank`` and ``organs`` are empty for an unscored volume.
    ``rank`` counts from 1 among all ``ranked`` scored volumes, reviewed ones included;
    under an organ filter as without one. ``score`` is the figure of ``ranking`` that it is
    ranked by. ``purpose`` is ``revise``, ``review``, ``double_read`` or ``gold``; ``note`` what
    a reviewer said when returning the volume. ``audit``: it ranks low and was drawn at random,
    to see what errors are left there. ``given_back``: volumes that its holder had until it
    asked, and had not submitted. ``selection`` says how the list was drawn that it is from; it
    is ``ranking`` too where ``strategy`` goes by no list.
    """

    volume: str
    strategy: str
    lease: int
    expires_at: float
    model_version: str | None
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
    selection: str = RANKING

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready; organs as a list of name and millilitres, largest first."""
        return {**asdict(self), "organs": [organ._asdict() for organ in self.organs]}


# Submissions and labels


@dataclass(frozen=True)
class SubmissionContext:
    """What a submission that comes in now belongs to.

    ``lease`` is None where the holder never had the volume; ``taken_at`` the lease's
    start. ``base`` is the last submission it can have known, 0 for none. ``ambiguous``:
    an anonymous holder had several leases, and nothing says which this is. ``round`` is the
    one it was given out in. ``looked_at`` is ``"all"`` where its holder said, when it was
    given out, that every organ will be looked at. ``draft`` is the number of the draft label
    (:class:`~atlas8k.store.label_files.LabelVersion`) that it was given out with.
    """

    lease: int | None
    taken_at: float | None
    late: bool
    base: int
    model_version: str | None
    purpose: str
    ambiguous: bool
    round: int | None = None
    looked_at: str | None = None
    draft: int | None = None


@dataclass(frozen=True)
class Submission:
    """An accepted submission.

    ``late`` says that its lease had run out, been skipped or never was; ``conflict`` that
    somebody else's submission landed since it began. ``minutes`` counts from the lease,
    None where there was none or an anonymous holder had several. ``round`` is the one that it
    was given out in. ``purpose`` is ``revise``, ``review``, ``double_read``, ``gold``, ``restore``
    or ``adopted`` (it was in the folder); ``start_submission`` the one that was current in the
    draft label, ``restored`` the one it makes current again, ``content`` the sha256 of the
    file as it came.
    """

    id: int
    volume: str
    holder: str
    anonymous: bool
    submitted_at: float
    minutes: float | None
    model_version: str | None
    round: int
    file: str | None
    sha256: str | None
    late: bool
    conflict: bool
    purpose: str = "revise"
    start_submission: int | None = None
    start_sha256: str | None = None
    restored: int | None = None
    content: str | None = None


@dataclass(frozen=True)
class Worked(Submission):
    """A submission with what it says of each organ by name.

    ``lease`` and ``minutes`` are None where nobody knows which hand-out it belongs to.
    ``places`` is empty where no places were shown, or by a release that did not look;
    ``quality`` where nothing was predicted of the draft label.
    """

    lease: int | None = None
    organs: dict[str, OrganChange] = field(default_factory=dict)
    places: dict[str, PlacesChanged] = field(default_factory=dict)
    quality: dict[str, QualityFound] = field(default_factory=dict)


CheckedLabel = Literal["pseudo", "submitted", "fused"]


class LabelNoise(NamedTuple):
    """Volumes of a dataset in which a rule has something against an organ.

    Of ``checked`` volumes, ``before`` by their pseudo label and ``after`` by the label that is
    current. ``organ`` is ``any`` for whichever. ``rules``: volumes by rule, as of now.
    """

    dataset: str
    organ: str
    checked: int
    before: int
    after: int
    rules: dict[str, int]


@dataclass(frozen=True)
class LabelFile:
    """A label file of a volume; `replaced_at` is None for the current one of its tag."""

    tag: str
    file: str
    sha256: str | None = None
    model_version: str | None = None
    submission: int | None = None
    written_at: float | None = None
    replaced_at: float | None = None


@dataclass(frozen=True)
class Review:
    """A question for a reviewer: `conflict`, `dispute`, `sample` or `double_read`.

    ``submission`` is the one in question, ``other`` the current one when it was asked. The
    last four are None while it is open.
    """

    id: int
    volume: str
    kind: str
    organ: str | None
    submission: int | None
    other: int | None
    opened_at: float
    closed_at: float | None = None
    reviewer: str | None = None
    decision: str | None = None
    note: str | None = None


# Rounds


class Round(NamedTuple):
    """A round as kept; ``budget`` is a fraction of the volumes.

    ``audited`` of the ``reviewed`` volumes were drawn for audit.
    """

    number: int
    model_version: str | None
    opened_at: float
    closed_at: float | None
    budget: float
    reviewed: int
    closing: dict[str, Any]
    audited: int = 0


@dataclass(frozen=True)
class Budget:
    """Volumes to review in a round and how many have been, those drawn for audit aside."""

    round: int
    total: int
    reviewed: int

    @property
    def left(self) -> int:
        return max(0, self.total - self.reviewed)


class CampaignSettings(NamedTuple):
    """``audit_percent`` of the low-ranked volumes are audited; ``stop_after`` in a row end it."""

    audit_percent: float = 1.0
    stop_after: int = 10


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
    ``stop_after`` is the setting of then. ``selection`` is how it was drawn
    (:mod:`atlas8k.core.selection`): a place says how large a figure is by ``ranking`` alone.
    """

    round: int
    model_version: str
    ranking: str
    drawn_at: float
    top: int
    audit_percent: float
    seed: str
    audits: int
    reviewed: int
    stop_after: int
    lines: tuple[Planned, ...]
    selection: str = RANKING


@dataclass(frozen=True)
class Trained:
    """A training that has ended; ``round`` is the one it ended in, ``detail`` its statistics."""

    round: int | None
    at: float
    detail: dict[str, Any]
