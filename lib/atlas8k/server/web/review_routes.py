"""Routes of history and reviews, below ``/atlas8k``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import FileResponse
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from pydantic import BaseModel, ConfigDict, Field

from atlas8k.ledger import Submission, UnknownVolumeError
from atlas8k.organs import find_organ
from atlas8k.server.desk.reviews import Revision
from atlas8k.server.desk.service import LabelService
from atlas8k.server.errors import NotFoundError, RequestError
from atlas8k.server.strategy import holder, may_review
from atlas8k.server.studies.names import check_id
from atlas8k.server.web.routes import with_caller

router = APIRouter(prefix="/atlas8k", tags=["Labels"])
AsUser = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
AsAnnotator = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]
AsReviewer = Annotated[
    User,
    Depends(RBAC([settings.MONAI_LABEL_AUTH_ROLE_REVIEWER, settings.MONAI_LABEL_AUTH_ROLE_ADMIN])),
]
AsEither = Annotated[
    User,
    Depends(
        RBAC(
            [
                settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR,
                settings.MONAI_LABEL_AUTH_ROLE_REVIEWER,
                settings.MONAI_LABEL_AUTH_ROLE_ADMIN,
            ]
        )
    ),
]
NUMBER = Field(ge=1, le=2**62, description="number of a submission")


class Who(BaseModel):
    """``client_id``: who asks, where sign-in is off."""

    model_config = ConfigDict(extra="forbid")
    client_id: str | None = Field(None, max_length=200)


class Restore(Who):
    """Which submission is to be in force again."""

    submission: int = NUMBER


class Reopen(Who):
    """``mine``: for who asks alone; else for anybody."""

    mine: bool = False
    note: str = Field("", max_length=2000)


class Return(Who):
    """Why, and whether anybody may take the case or its annotator alone."""

    note: str = Field(min_length=1, max_length=2000)
    to: Literal["annotator", "anybody"] = "annotator"


class Decide(Who):
    """Either a submission, or an organ and where it is to come from."""

    submission: int | None = Field(None, ge=1, le=2**62)
    organ: str | None = Field(None, max_length=80)
    source: Literal["public", "revised"] | None = None


def desk(request: Request, user: User) -> LabelService:
    """The labels of this server; notes who is calling.

    Raises
    ------
    NotFoundError
        On a DICOMweb server, which keeps its own labels.
    """
    with_caller(request, user.username, user.roles)
    found: LabelService | None = app_instance().context.desk
    if found is None:
        raise NotFoundError("history of labels", "a DICOMweb server keeps its own")
    return found


def known(found: LabelService, image: str) -> str:
    """An image that the ledger knows.

    Raises
    ------
    NotFoundError
        It does not.
    """
    try:
        found.ledger.status(check_id(image))
    except UnknownVolumeError:
        raise NotFoundError("image", image) from None
    return image


def who(asked: Who) -> str:
    """Key of who asks, for the records."""
    return holder({"client_id": asked.client_id}).key


def own(user: User, asked: Who, one: Submission | None, desk_: LabelService) -> None:
    """Raise 403 where a submission is somebody else's and who asks is no reviewer."""
    if may_review(user.roles):
        return
    if one is not None and one.restored is not None:
        one = desk_.ledger.submission(one.restored)
    if one is None or one.holder != who(asked):
        raise HTTPException(403, "somebody else's submission; a reviewer may do that")


def line(one: Revision) -> dict[str, Any]:
    """A revision for JSON."""
    record = asdict(one.submission)
    record.pop("content")
    organs = {organ: change._asdict() for organ, change in one.organs.items()}
    return {**record, "organs": organs, "in_force": one.in_force, "there": one.file is not None}


@router.get("/labels/{image}/history", summary="Every submission of a case")
def history(request: Request, user: AsEither, image: str) -> dict[str, Any]:
    """Who submitted what and when, what changed in each organ, and which one is in force."""
    found = desk(request, user)
    known(found, image)
    sources = {organ: one._asdict() for organ, one in found.ledger.sources(image).items()}
    return {
        "image": image,
        "history": [line(r) for r in found.reviews.history(image)],
        "organs": sources,
    }


@router.get("/labels/{image}/history/{number}", summary="The label of one submission")
def submitted(request: Request, user: AsEither, image: str, number: int) -> FileResponse:
    """The file as it was kept; annotators get their own."""
    found = desk(request, user)
    known(found, image)
    if not 1 <= number <= 2**62:
        raise NotFoundError(f"submission of {image}", number)
    one = found.reviews.own(image, number)
    own(user, Who(), one, found)
    path = found.reviews.file_of(image, number)
    return FileResponse(path, media_type="application/gzip", filename=f"{image}.{number}.nii.gz")


@router.post("/labels/{image}/restore", summary="Put an earlier submission in force")
def restore(request: Request, user: AsEither, image: str, asked: Restore) -> dict[str, Any]:
    """A new entry of the history; nothing is lost. Annotators restore their own."""
    found = desk(request, user)
    known(found, image)
    own(user, asked, found.reviews.own(image, asked.submission), found)
    own(user, asked, found.ledger.in_force(image), found)
    restored = found.reviews.restore(
        image, asked.submission, holder({"client_id": asked.client_id})
    )
    return {"image": image, "submission": restored.id, "restored": asked.submission}


@router.post("/labels/{image}/reopen", summary="Open a submitted case again")
def reopen(request: Request, user: AsEither, image: str, asked: Reopen) -> dict[str, Any]:
    """It is given out next, with its last revision on it. Annotators open their own."""
    found = desk(request, user)
    known(found, image)
    own(user, asked, found.ledger.in_force(image), found)
    me = who(asked)
    found.reviews.reopen(image, to=me if asked.mine else None, note=asked.note, reviewer=me)
    return {"image": image, "for": me if asked.mine else None}


@router.get("/review", summary="What a reviewer has to decide")
def reviews(request: Request, user: AsReviewer) -> dict[str, Any]:
    """Open questions, oldest first, and second readings that wait for somebody."""
    return desk(request, user).reviews.queue()


@router.get("/review/{image}", summary="What there is to decide of one case")
def review(request: Request, user: AsReviewer, image: str) -> dict[str, Any]:
    """Questions with what was decided, submissions, organs, agreement of two readings."""
    found = desk(request, user)
    return found.reviews.case(known(found, image))


@router.post("/review/{image}/accept", summary="What is in force stays")
def accept(request: Request, user: AsReviewer, image: str, asked: Who) -> dict[str, Any]:
    """Closes every open question of the case but disputes; those that are left."""
    found = desk(request, user)
    left = found.reviews.accept(known(found, image), who(asked))
    return {"image": image, "left": [asdict(one) for one in left]}


@router.post("/review/{image}/return", summary="Return a case with a note")
def give_back(request: Request, user: AsReviewer, image: str, asked: Return) -> dict[str, Any]:
    """It is given out again, the note with it; its open questions are closed."""
    found = desk(request, user)
    to = found.reviews.give_back(
        known(found, image), who(asked), asked.note, to_anybody=asked.to == "anybody"
    )
    return {"image": image, "to": to}


@router.post("/review/{image}/take-over", summary="Take a case over")
def take_over(request: Request, user: AsReviewer, image: str, asked: Who) -> dict[str, Any]:
    """Leases the case; what is submitted on it is in force and answers the open questions."""
    found = desk(request, user)
    lease = found.reviews.take_over(known(found, image), holder({"client_id": asked.client_id}))
    return {"image": image, "lease": lease}


@router.post("/review/{image}/decide", summary="Decide a conflict or a dispute")
def decide(request: Request, user: AsReviewer, image: str, asked: Decide) -> dict[str, Any]:
    """The submission in force of those in conflict; or ``public`` or ``revised`` for an organ."""
    found = desk(request, user)
    known(found, image)
    if asked.submission is not None and asked.organ is None and asked.source is None:
        found.reviews.decide_submission(image, asked.submission, who(asked))
    elif asked.submission is None and asked.organ is not None and asked.source is not None:
        organ = find_organ(asked.organ)
        if organ is None:
            raise NotFoundError("organ", asked.organ)
        found.reviews.decide_organ(image, organ.name, asked.source, who(asked))
    else:
        raise RequestError("give a submission, or an organ and a source (public or revised)")
    left = found.ledger.reviews(image)
    return {"image": image, "left": [asdict(one) for one in left]}
