"""What the running app has open, with its type: MONAI Label gives the app as anything."""

from __future__ import annotations

from monailabel.interfaces.utils.app import app_instance

from atlas8k.services.context import Context


def workspace() -> Context:
    """Return the studies of this server with all that belongs to them."""
    found: Context = app_instance().context
    return found
