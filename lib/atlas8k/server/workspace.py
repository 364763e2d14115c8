"""What the running app has open, with its type: MONAI Label gives the app as anything."""

from __future__ import annotations

from typing import Any

from monailabel.interfaces.utils.app import app_instance

from atlas8k.core.acting import Actor
from atlas8k.services.context import Context


def workspace() -> Context:
    """Return the studies of this server with all that belongs to them."""
    found: Context = app_instance().context
    return found


def looked(kind: str, volume: str | None, *, by: Actor | None = None, **detail: Any) -> None:
    """Have it recorded that who asks has seen an image, label or prediction of a volume."""
    workspace().looks.note("look", volume, by=by, kind=kind, **detail)


def write_looks() -> None:
    """Write the looks that wait to be written, as the server ends."""
    workspace().looks.close()
