"""Hide the first reading of a case from who is, or may be, its second reader.

The label, its versions, what is said of it and what an export would hold: everything that a route
gives out of a submission asks here. Of a gold case each annotator sees their own readings alone,
and it is open to who has none: see :mod:`atlas8k.store.gold`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from monailabel.config import settings

from atlas8k.server.access import get_caller, holder, may_review
from atlas8k.server.workspace import workspace
from atlas8k.services.errors import ConflictError, NotFoundError
from atlas8k.services.labels.drafts import PSEUDO, PUBLIC
from atlas8k.services.labels.service import MANAGED
from atlas8k.services.studies.catalogue import FINAL, Instead
from atlas8k.services.studies.folder import ORIGINAL
from atlas8k.services.studies.versions import Version
from atlas8k.store import Ledger, Seen

OPEN_TAGS = (PSEUDO, PUBLIC)
"""Of labels that say nothing of a submission."""
NOTED_OF_READERS = ("strategy", "user", "comment")
"""What an image's info says of who had it."""


def gold_seen() -> dict[str, Seen]:
    """Return the submitted gold cases as who asks sees them; nothing for who may review."""
    ledger = workspace().ledger
    return {} if may_review() or not workspace().gold else ledger.gold_seen(holder().key)


def seen_ledger() -> Ledger:
    """Return the ledger as who asks may see it, for lists and counts."""
    ledger = workspace().ledger
    return ledger.as_seen(holder().key) if gold_seen() else ledger


def masked(image: str) -> Seen | None:
    """Return how who asks sees a gold case whose current submission is hidden from them."""
    found = gold_seen().get(image)
    return None if found is None or found.is_current else found


def hides_first(image: str, client_id: str | None = None) -> bool:
    """Return whether who asks may not see what was submitted of a volume."""
    if masked(image) is not None:
        return True
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
    """Return the volumes whose first reading who asks may not see, but gold cases."""
    return [one for one in workspace().ledger.read_twice() if hides_first(one, client_id)]


def others_images(*, unread: bool = False) -> list[str]:
    """Return the gold cases of which who asks may see no submission but their own.

    Parameters
    ----------
    unread
        Of them, those without one.
    """
    found = gold_seen().items()
    return [
        one for one, gold in found if not gold.is_current and not (unread and gold.own is not None)
    ]


def label_info(image: str, version: Version) -> dict[str, Any]:
    """Return what is known about a label that who asks gets in place of the current one."""
    checksum = {"checksum": f"SHA256:{version.sha256}"}
    if masked(image) is None:
        return {**version.info, "name": f"{image}.nii.gz", **checksum}
    return {**_as_current(version), "name": f"{image}.nii.gz"}


def _as_current(version: Version) -> dict[str, Any]:
    """Return what is known about a label, with what would be noted if it were the current one."""
    checksum = {"checksum": f"SHA256:{version.sha256}"}
    return {"ts": int(version.path.stat().st_mtime), **version.info, **checksum}


def instead() -> dict[str, Instead]:
    """Return what who asks is told of gold cases in the list of all images."""
    context, found = workspace(), {}
    versions, catalogue = context.label_service.versions, context.studies.catalogue
    for image, gold in gold_seen().items():
        labels = {}
        for tag in (FINAL, ORIGINAL, *OPEN_TAGS):
            with contextlib.suppress(NotFoundError):
                version = None if gold.is_current else shown_label(image, tag)
                if version is not None:
                    labels[tag] = _as_current(version)
                elif (version := versions.current(image, tag)) is not None:
                    labels[tag] = version.info
        found[image] = Instead(noted(image, catalogue.image_info(image)), labels)
    return found


def noted(image: str, info: dict[str, Any]) -> dict[str, Any]:
    """Return what is known about an image without what readers left there that are hidden.

    Of a gold case: with what would be noted of who asks.
    """
    gold, who = masked(image), get_caller().user
    if not hides_first(image):
        return info
    hidden = ("strategy",) if gold is not None and info.get("user") == who else NOTED_OF_READERS
    kept = {key: value for key, value in info.items() if key not in hidden}
    own = {} if gold is None else workspace().ledger.given(image, holder().key)
    served = {name: {"ts": int(at), "client_id": who} for name, at in own.items()}
    first = {key: kept.pop(key) for key in ("ts",) if key in kept}
    return {**first, **({"strategy": served} if served else {}), **kept}


def from_scratch(image: str, client_id: str | None = None) -> bool:
    """Return whether who asks reads, or may still read, a volume without any label to begin with.

    Then no prediction is shown either, and no place to look at. Of a gold case they are.
    """
    scratch = workspace().label_service.from_scratch and hides_first(image, client_id)
    return scratch and masked(image) is None


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
    service, gold = workspace().label_service, masked(image)
    scratch = service.from_scratch and gold is None
    if (tag in OPEN_TAGS and not scratch) or not hides_first(image):
        return None
    if gold is not None and tag not in MANAGED and service.versions.current(image, tag) is None:
        return None
    if gold is not None and tag in (ORIGINAL, FINAL):
        start = service.seen_label(image, gold, tag)
    else:
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
    """Raise a conflict where what was submitted of a volume is hidden from who asks.

    Not of a gold case: it is shown as if that were not there.
    """
    if hides_first(image, client_id) and masked(image) is None:
        raise ConflictError(
            f"{image}: is read by two people; what the first has submitted is shown when the "
            "second has"
        )
