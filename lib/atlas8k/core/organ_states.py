"""State of an organ in a label: the outcome of a submission, and the source of its voxels."""

from __future__ import annotations

from typing import NamedTuple


class OrganChange(NamedTuple):
    """Outcome of a submission for one organ.

    ``state`` is ``confirmed`` (looked at and right as it is), ``revised`` (changed),
    ``absent`` or ``not_assessed``: unchanged and not marked as looked at, or of a volume that
    was asked about. ``dsc`` is that of draft label and submission, ``note`` the reason, where
    there is one to give.
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


class PlacesChanged(NamedTuple):
    """One organ of one submission, beside the places shown with the volume.

    Attributes
    ----------
    places
        Places shown for this organ.
    changed_places
        Those of them in whose box any voxel of any organ was changed.
    changed_ml
        Volume of the organ's voxels that are in one of draft label and submission only.
    inside_ml
        Of these, what lies in the box of a place, for whichever organ it was shown.
    """

    places: int
    changed_places: int
    changed_ml: float
    inside_ml: float


class QualityFound(NamedTuple):
    """One organ of one submission: what was predicted of its draft label, and what was found.

    Attributes
    ----------
    dice, spread, wrong_ml
        As the networks' fitted quality says, before any recalibration; ``spread`` is the size of
        error that it expects of ``dice``.
    shown, low, high
        Dice and its interval as they were shown before this submission.
    calibrated
        Submitted volumes that these were calibrated on by then; 0: none, as embedded.
    found_dice, found_ml
        DSC of draft label and submission, and the volume that is in one of them only, ml.
    """

    dice: float
    spread: float
    wrong_ml: float
    shown: float
    low: float | None
    high: float | None
    calibrated: int
    found_dice: float
    found_ml: float


class QualitySeen(NamedTuple):
    """A :class:`QualityFound` of a campaign, and how much of the campaign it stands for.

    Attributes
    ----------
    weight
        Volumes of its round's list that it stands for.
    drawn
        Its volume was drawn at random, not for its rank.
    """

    volume: str
    organ: str
    quality: QualityFound
    weight: float
    drawn: bool


OLDER_RULE = "by the older rule, under which an untouched organ was confirmed"
"""Note of organs confirmed before annotators recorded which they had looked at."""


class OrganSource(NamedTuple):
    """Source of an organ's voxels in the fused label.

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
