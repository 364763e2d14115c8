"""Routes that end a round and begin the next, as ``atlas8k campaign`` does."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from atlas8k.server.access import ADMINS, Who
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.workspace import workspace
from atlas8k.services.campaign import begin_round, end_round, reopen_round

router = APIRouter(
    prefix="/atlas8k/campaign",
    tags=["Campaign"],
    dependencies=[ADMINS],
    route_class=GuardedRoute,
)


class Close(Who):
    """Why, for the records; may be left empty."""

    note: str = Field("", max_length=2000)


@router.post("/close-round", summary="End the open round without fine-tuning")
def close(asked: Close) -> dict[str, Any]:
    """The number of the round, null where none was open; 409 where nothing was submitted in it."""
    return {"closed": end_round(workspace().ledger, asked.note or "closed on the page")}


@router.post("/reopen-round", summary="Open the round again that was ended last")
def reopen(asked: Who) -> dict[str, Any]:
    """Its number; 409 where another is open, none was ended, or new networks ended it."""
    return {"round": reopen_round(workspace().ledger)}


@router.post("/begin-round", summary="Begin a round, unless one is open")
def begin(asked: Who) -> dict[str, Any]:
    """Its number, and whether its list is drawn: it is once every volume has a score."""
    number, drawn = begin_round(workspace())
    return {"round": number, "drawn": drawn}
