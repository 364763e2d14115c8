"""Say that a volume is not usable, or that it is: for routes and the page."""

from __future__ import annotations

from atlas8k.ledger import Holder, UnknownVolumeError
from atlas8k.server.context import Context
from atlas8k.server.errors import ConflictError, NotFoundError, RequestError
from atlas8k.server.studies.names import check_id


def exclude(context: Context, image: str, reason: str, holder: Holder) -> None:
    """Leave a volume out until somebody includes it; its holder no longer has it.

    Raises
    ------
    RequestError
        No reason is given.
    NotFoundError
        There is no such volume.
    ConflictError
        Somebody else works on it.
    """
    _check(context, image)
    if not reason.strip():
        raise RequestError(f"{image}: say why it is not usable")
    if any(one.volume == image and one.holder != holder.key for one in context.ledger.leases()):
        raise ConflictError(f"{image}: somebody else works on it now; try again later")
    context.ledger.exclude(image, reason, holder)


def include(context: Context, image: str, reason: str, holder: Holder) -> bool:
    """Let a volume count again; False where it does.

    Raises
    ------
    NotFoundError
        There is no such volume.
    """
    _check(context, image)
    return context.ledger.include(image, reason, holder)


def _check(context: Context, image: str) -> None:
    context.sync()
    try:
        context.ledger.status(check_id(image))
    except UnknownVolumeError:
        raise NotFoundError("image", image) from None
