"""Hide the first reading of a case from who is, or may be, its second reader.

The label, its versions, what is said of it and what an export would hold: everything that a route
gives out of a submission asks here.
"""

from __future__ import annotations

from pathlib import Path

from monailabel.config import settings

from atlas8k.server.access import get_caller, holder, may_review
from atlas8k.server.workspace import workspace
from atlas8k.services.errors import ConflictError, NotFoundError
from atlas8k.services.labels.drafts import PSEUDO, PUBLIC
from atlas8k.services.studies.folder import ORIGINAL
from atlas8k.services.studies.versions import Version

OPEN_TAGS = (PSEUDO, PUBLIC)
"""Of labels that say nothing of a submission."""


def hides_first(image: str, client_id: str | None = None) -> bool:
    """Return whether who asks may not see what was submitted of a volume."""
    signed_in = bool(settings.MONAI_LABEL_AUTH_ENABLE)
    return workspace().ledger.hides_first(
        image,
        _keys(client_id),
        reviews=signed_in and may_review(),
        known=signed_in,
    )


def _keys(client_id: str | None) -> list[str]:
    """Return the keys under which who asks is known, as :func:`holder` has them."""
    caller = get_caller()
    keys = {holder(client_id).key, holder().key}
    return sorted(key for key in keys if caller.user or not key.startswith("anonymous:"))


def hidden_images(client_id: str | None = None) -> list[str]:
    """Return the volumes whose first reading who asks may not see."""
    return [one for one in workspace().ledger.read_twice() if hides_first(one, client_id)]


def from_scratch(image: str, client_id: str | None = None) -> bool:
    """Return whether who asks reads, or may still read, a volume without any label to begin with.

    Then no prediction is shown either, and no place to look at.
    """
    return workspace().label_service.from_scratch and hides_first(image, client_id)


def check_predicted(image: str) -> None:
    """Raise a conflict where who asks reads a volume from scratch."""
    if from_scratch(image):
        raise ConflictError(f"{image}: is read from scratch; nothing is predicted until it is in")


def shown_label(image: str, tag: str) -> Version | None:
    """Return what who asks gets in place of the current label; ``None``: that one.

    Raises
    ------
    NotFoundError
        It is of a submission that is hidden, or cannot be told from one.
    """
    service = workspace().label_service
    if (tag in OPEN_TAGS and not service.from_scratch) or not hides_first(image):
        return None
    start = service.first_start(image) if tag == ORIGINAL else None
    if start is None:
        raise NotFoundError(f"label with tag {tag!r} of image", image)
    return start


def draft_label(image: str) -> Path:
    """Return the file of the draft label that who asks may see.

    Raises
    ------
    NotFoundError
        There is none yet, or it is hidden.
    """
    versions = workspace().label_service.versions
    found = shown_label(image, ORIGINAL) or versions.current(image, ORIGINAL)
    found = found or versions.current(image, PSEUDO)
    if found is None:
        raise NotFoundError("draft label", f"{image} has none yet: it was not scored")
    return found.path


def check_shown(image: str, client_id: str | None = None) -> None:
    """Raise a conflict where what was submitted of a volume is hidden from who asks."""
    if hides_first(image, client_id):
        raise ConflictError(
            f"{image}: is read by two people; what the first has submitted is shown when the "
            "second has"
        )
