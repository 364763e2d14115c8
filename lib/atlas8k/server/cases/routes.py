"""Routes of one's own cases, below ``/atlas8k/cases``: for scripts, and for the page's forms."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, File, Form, HTTPException, Request, UploadFile
from fastapi.responses import FileResponse
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from pydantic import BaseModel, ConfigDict, Field

from atlas8k.labels.submission_diff import ALL
from atlas8k.ledger import Holder, Lease
from atlas8k.organs import ORGAN_NAMES
from atlas8k.server.cases.cases import Cases
from atlas8k.server.desk.recorded import questions
from atlas8k.server.desk.service import Receipt
from atlas8k.server.strategy import holder
from atlas8k.server.web.caller import get_caller
from atlas8k.server.web.label_routes import UPLOADS, label_file, named, said
from atlas8k.server.web.routes import with_caller
from atlas8k.server.web.uploads import received

router = APIRouter(prefix="/atlas8k/cases", tags=["Cases"])
AsEither = Annotated[
    User,
    Depends(
        RBAC([settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR, settings.MONAI_LABEL_AUTH_ROLE_REVIEWER])
    ),
]
OrganNames = Annotated[list[str], Field(max_length=len(ORGAN_NAMES))]
LeaseNumber = Annotated[int | None, Field(ge=1, le=2**62)]
ClientId = Annotated[str | None, Field(max_length=200)]


class Asked(BaseModel):
    """``client_id``: who asks, where sign-in is off; ``lease``: which of one's leases."""

    model_config = ConfigDict(extra="forbid")
    client_id: ClientId = None
    lease: LeaseNumber = None


class Confirm(Asked):
    """What is said of the start label's organs.

    ``absent``: looked for and not there; ``looked_at``: right as they are, ``"all"`` for
    every organ that it has; ``volume_is_right``: although their volume is unusual.
    """

    absent: OrganNames = []
    looked_at: Literal["all"] | OrganNames = []
    volume_is_right: OrganNames = []


class Restore(Asked):
    """Which of one's submissions is to be in force again."""

    submission: int = Field(ge=1, le=2**62)


def from_here(request: Request) -> None:
    """Raise 403 where another site's page has sent this: browsers say where a form was."""
    origin = request.headers.get("origin")
    if origin is None:  # no browser, or nothing that changes anything
        return
    if urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "sent by a page of another site; open /atlas8k/cases itself")


FromHere = Depends(from_here)


def cases_of(request: Request, user: User, client_id: str | None = None) -> Cases:
    """The cases of who asks.

    A browser's cases from before its user typed a name are theirs, too: OHIF says no name.
    """
    with_caller(request, user.username, user.roles)
    holders = [holder({"client_id": client_id})]
    if not get_caller().user and not client_id:
        caller = get_caller()
        holders.append(Holder.identify(address=caller.address, software=caller.software))
    return Cases(app_instance().context, list(dict.fromkeys(holders)))


def submitted(image: str, receipt: Receipt) -> dict[str, Any]:
    """A submission's reply; what MONAI Label does after one is done."""
    app_instance().on_save_label(image, image)
    return {"image": image, **said(receipt)}


def taken(image: str, lease: Lease) -> dict[str, Any]:
    """A lease for a reply."""
    return {"image": image, "lease": lease.id, "expires_at": lease.expires_at}


def start_file(cases: Cases, image: str, lease: int | None = None) -> FileResponse:
    """The start label for download."""
    path = cases.start_label(image, lease).path
    return label_file(path, f"{image}.nii.gz")


@router.get("/list", summary="Cases one holds, and what one has submitted last")
def listing(request: Request, user: AsEither, client_id: str | None = None) -> dict[str, Any]:
    """What the page ``/atlas8k/cases`` shows."""
    cases = cases_of(request, user, client_id)
    past = [
        {
            "image": one.submission.volume,
            "submission": one.submission.id,
            "submitted_at": one.submission.submitted_at,
            "organs": {organ: change.state for organ, change in one.organs.items()},
            "asked": questions(one.organs),
            "in_force": one.in_force,
            "open": one.open,
        }
        for one in cases.past()
    ]
    return {"open": [asdict(one) for one in cases.open()], "submitted": past}


@router.get("/{image}/start", summary="The label that a case of one's own began with")
def start(
    request: Request, user: AsEither, image: str, client_id: str | None = None
) -> FileResponse:
    """As it was when the case was given out."""
    return start_file(cases_of(request, user, client_id), image)


@router.post("/{image}/confirm", summary="Submit the start label as it is", dependencies=[FromHere])
def confirm(request: Request, user: AsEither, image: str, asked: Confirm) -> dict[str, Any]:
    """The organs in `absent` are taken out of it; those that nothing is said of stay open."""
    cases = cases_of(request, user, asked.client_id)
    receipt = cases.confirm(
        image,
        asked.model_dump(include={"absent", "looked_at", "volume_is_right"}),
        lease=asked.lease,
        client=asked.client_id or get_caller().name,
    )
    return submitted(image, receipt)


@router.post("/{image}/submit", summary="Submit a corrected label", dependencies=[FromHere])
def submit(
    request: Request,
    user: AsEither,
    image: str,
    label: Annotated[UploadFile, File(description="DICOM SEG, NIfTI or NRRD")],
    absent: Annotated[list[str], Form()] = [],  # noqa: B006 - FastAPI copies it
    looked_at: Annotated[list[str], Form()] = [],  # noqa: B006
    volume_is_right: Annotated[list[str], Form()] = [],  # noqa: B006
    partial: Annotated[bool | None, Form()] = None,
    client_id: Annotated[ClientId, Form()] = None,
    lease: Annotated[LeaseNumber, Form()] = None,
) -> dict[str, Any]:
    """Checked as every label is: refused with the reason, or kept and in force.

    What is said of its organs is as in ``confirm``; ``partial`` is for a label of a part of
    the CT: true, the rest stays as it was; false, there is nothing else.
    """
    cases = cases_of(request, user, client_id)
    said = {
        "absent": absent,
        "looked_at": ALL if looked_at == [ALL] else looked_at,
        "volume_is_right": volume_is_right,
        "partial": partial,
    }
    with uploaded(image, label) as sent:
        client = client_id or get_caller().name
        receipt = cases.upload(image, sent, said, lease=lease, client=client)
        return submitted(image, receipt)


@contextlib.contextmanager
def uploaded(image: str, label: UploadFile) -> Iterator[Path]:
    """An uploaded file on disk; what is wrong with it is said of the image's label."""
    limit, name = app_instance().settings.upload_mb, upload_name(label)
    with (
        received("label file", name, label.file, upload_mb=limit, suffixes=UPLOADS) as sent,
        named(image),
    ):
        yield sent


def upload_name(label: UploadFile) -> str:
    """Name of a file; OHIF and archives save DICOM SEG without a suffix."""
    name = Path(label.filename or "").name
    if "." in name:
        return name
    label.file.seek(128)
    dicom = label.file.read(4) == b"DICM"
    label.file.seek(0)
    return f"{name}.dcm" if dicom else name


@router.post("/{image}/release", summary="Give a case back", dependencies=[FromHere])
def release(request: Request, user: AsEither, image: str, asked: Asked) -> dict[str, Any]:
    """Without submitting; one that was opened again is closed by it."""
    closed = cases_of(request, user, asked.client_id).release(image, lease=asked.lease)
    return {"image": image, "closed": closed}


@router.post("/{image}/take", summary="Take a case by name", dependencies=[FromHere])
def take(request: Request, user: AsEither, image: str, asked: Asked) -> dict[str, Any]:
    """One that nobody has and nobody has submitted, such as one just given back."""
    return taken(image, cases_of(request, user, asked.client_id).take(image))


@router.post("/{image}/reopen", summary="Open an own case again", dependencies=[FromHere])
def reopen(request: Request, user: AsEither, image: str, asked: Asked) -> dict[str, Any]:
    """It is in one's hands again, with the last submission on it."""
    return taken(image, cases_of(request, user, asked.client_id).reopen(image))


@router.post(
    "/{image}/restore", summary="An own submission in force again", dependencies=[FromHere]
)
def restore(request: Request, user: AsEither, image: str, asked: Restore) -> dict[str, Any]:
    """A new entry of the history; nothing is lost."""
    made = cases_of(request, user, asked.client_id).restore(image, asked.submission)
    app_instance().on_save_label(image, image)
    return {"image": image, "submission": made.id, "restored": asked.submission}
