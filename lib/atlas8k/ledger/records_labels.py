"""Records of submissions, label files and reviews; import them from :mod:`.records`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Submission:
    """An accepted submission.

    ``late`` says that its lease had run out, been skipped or never was; ``conflict`` that
    somebody else's submission landed since it began. ``minutes`` counts from the lease,
    None where there was none or an anonymous holder had several. ``round`` is the one that it
    was given out in. ``purpose`` is ``revise``, ``review``, ``double_read``, ``restore`` or
    ``adopted`` (it was in the folder); ``start_submission`` the one in force in the start
    label, ``restored`` the one it puts in force again, ``content`` the sha256 of the file as
    it came.
    """

    id: int
    volume: str
    holder: str
    anonymous: bool
    submitted_at: float
    minutes: float | None
    signature: str | None
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
class Begun:
    """What a submission that comes in now belongs to.

    ``lease`` is None where the holder never had the volume; ``taken_at`` the lease's
    start. ``base`` is the last submission it can have known, 0 for none. ``ambiguous``:
    an anonymous holder had several leases, and nothing says which this is. ``round`` is the
    one it was given out in. ``looked_at`` is ``"all"`` where its holder said, when it was
    given out, that every organ will be looked at.
    """

    lease: int | None
    taken_at: float | None
    late: bool
    base: int
    signature: str | None
    purpose: str
    ambiguous: bool
    round: int | None = None
    looked_at: str | None = None


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


class OrganChange(NamedTuple):
    """What a submission says of one organ.

    ``state`` is ``confirmed`` (looked at and right as it is), ``revised`` (changed),
    ``absent`` or ``not_assessed``: as it went out and nobody said that they looked, or of a
    volume that was asked about. Counts are voxels on the CT's grid, ``dsc`` is that of start
    label and submission, ``note`` why it is so, where that needs saying.
    """

    state: str
    voxels_before: int | None = None
    voxels_after: int | None = None
    voxels_changed: int | None = None
    dsc: float | None = None
    note: str | None = None

    @property
    def drawn_unassessed(self) -> bool:
        """Whether voxels were changed that nobody vouches for yet."""
        return self.state == "not_assessed" and bool(self.voxels_changed)


OLDER_RULE = "by the older rule, under which an untouched organ was confirmed"
"""Note of what was confirmed before annotators said what they had looked at."""


class OrganSource(NamedTuple):
    """Where an organ's voxels in the assembled label come from.

    ``source`` is ``public``, ``revised`` or ``pseudo``; ``state`` ``present``, ``absent``,
    ``unknown``, ``confirmed``, ``revised`` or, of a drawn organ that nobody vouches for yet,
    ``not_assessed``; ``dataset`` the source dataset of a public one; ``disputed`` that a
    submission changed a public organ.
    """

    source: str
    state: str
    dataset: str | None = None
    submission: int | None = None
    disputed: bool = False


@dataclass(frozen=True)
class LabelFile:
    """A label file of a volume; `replaced_at` is None for the one in force of its tag."""

    tag: str
    file: str
    sha256: str | None = None
    signature: str | None = None
    submission: int | None = None
    written_at: float | None = None
    replaced_at: float | None = None


@dataclass(frozen=True)
class Review:
    """A question for a reviewer: `conflict`, `dispute`, `sample` or `double_read`.

    ``submission`` is the one in question, ``other`` the one in force when it was asked. The
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
