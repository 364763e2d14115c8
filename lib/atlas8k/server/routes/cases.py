"""Routes of one's own cases and of volumes that are not usable; the page's forms do the same."""

from __future__ import annotations

import contextlib
import re
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import FileResponse
from monailabel.interfaces.utils.app import app_instance
from pydantic import Field
from starlette.background import BackgroundTask

from atlas8k.core.grid import Grid
from atlas8k.core.parts import Part
from atlas8k.core.structure_sets import MOST
from atlas8k.core.structures import find_organ
from atlas8k.core.volume import write_nifti
from atlas8k.labels.submission_diff import ALL
from atlas8k.server.access import ANNOTATORS_OR_REVIEWERS, USERS, Who, get_caller, holder
from atlas8k.server.blind import from_scratch, gold_seen
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.routes.datastore import label_file, said
from atlas8k.server.tasks.infer import temporary_path
from atlas8k.server.uploads import parse_object, received, received_label
from atlas8k.server.workspace import looked, workspace
from atlas8k.services.cases import Cases
from atlas8k.services.errors import ConflictError, NotFoundError, RequestError
from atlas8k.services.labels.recorded import questions
from atlas8k.services.labels.service import Receipt
from atlas8k.services.privacy import hides
from atlas8k.store import Drawing, Holder, Lease

OrganNames = Annotated[list[str], Field(max_length=MOST)]
LeaseNumber = Annotated[int | None, Field(ge=1, le=2**62)]
ClientId = Annotated[str | None, Field(max_length=200)]


class Asked(Who):
    """``lease``: which of one's leases."""

    lease: LeaseNumber = None


class Held(Who):
    """``lease``: which of one's leases."""

    lease: int = Field(ge=1, le=2**62)


class Confirm(Asked):
    """What is said of the draft label's organs.

    ``absent``: looked for and not there; ``looked_at``: right as they are, ``"all"`` for
    every organ that it has; ``volume_is_right``: although their volume is unusual; ``note``:
    ``comment``, ``difficulty`` and ``kinds`` of error.
    """

    absent: OrganNames = Field(default_factory=list)
    looked_at: Literal["all"] | OrganNames = Field(default_factory=list)
    volume_is_right: OrganNames = Field(default_factory=list)
    note: dict[str, Any] = Field(default_factory=dict, max_length=3)


class SubmitDrawing(Confirm):
    """What is said of the organs of a drawing, as of a draft label; ``version``: of the drawing."""

    version: int = Field(ge=1, le=2**62)


class Restore(Asked):
    """Which of one's submissions is to be current again."""

    submission: int = Field(ge=1, le=2**62)


class Exclude(Who):
    """Why the volume is not usable."""

    reason: str = Field(min_length=1, max_length=2000)


class Include(Exclude):
    """Why it is usable after all; may be left empty."""

    reason: str = Field("", max_length=2000)


_NUMBERS = re.compile(r"\d{1,5}(,\d{1,5}){5}")
WORKER = [ANNOTATORS_OR_REVIEWERS]
router = APIRouter(prefix="/atlas8k/cases", tags=["Cases"], route_class=GuardedRoute)
volumes = APIRouter(prefix="/atlas8k/volumes", tags=["Campaign"], route_class=GuardedRoute)


def cases_of(client_id: str | None = None) -> Cases:
    """Return the cases of who asks.

    A browser's cases from before its user typed a name are theirs, too: OHIF says no name.
    """
    caller, holders = get_caller(), [holder(client_id)]
    if not caller.user and not client_id:
        holders.append(Holder.identify(address=caller.address, software=caller.software))
    client = client_id or caller.name
    return Cases(workspace(), list(dict.fromkeys(holders)), client, gold_seen())


def part_of(box: str, grid: Grid) -> Part:
    """Return the block that a request names: first voxel and the one after the last.

    Raises
    ------
    RequestError
        These are not six numbers, or no block of the CT.
    """
    if not _NUMBERS.fullmatch(box):
        raise RequestError(f"box: {box[:40]!r}; six numbers are needed, first voxel and end")
    numbers = [int(text) for text in box.split(",")]
    pairs = list(zip(numbers[:3], numbers[3:], grid.shape, strict=True))
    if not all(0 <= start < stop <= n for start, stop, n in pairs):
        raise RequestError(f"box: {box}; the CT has {' x '.join(map(str, grid.shape))} voxels")
    x, y, z = (slice(start, stop) for start, stop, _ in pairs)
    return Part((x, y, z))


def submitted(image: str, receipt: Receipt) -> dict[str, Any]:
    """Do what MONAI Label does after a submission; return its reply."""
    app_instance().on_save_label(image, image)
    return {"image": image, **said(receipt)}


def taken(image: str, lease: Lease) -> dict[str, Any]:
    """Return a lease for a reply."""
    return {"image": image, "lease": lease.id, "expires_at": lease.expires_at}


def start_file(cases: Cases, image: str, lease: int | None = None) -> FileResponse:
    """Return the draft label for download."""
    version = cases.start_label(image, lease)
    looked("label", image, version=version.sha256)
    return label_file(version.path, f"{image}.nii.gz")


@router.get(
    "/list", summary="Cases one holds, and what one has submitted last", dependencies=WORKER
)
def listing(client_id: str | None = None) -> dict[str, Any]:
    """What the page ``/atlas8k/cases`` shows."""
    cases = cases_of(client_id)
    past = [
        {
            "image": one.submission.volume,
            "submission": one.submission.id,
            "submitted_at": one.submission.submitted_at,
            "organs": {organ: change.state for organ, change in one.organs.items()},
            "asked": questions(one.organs),
            "in_force": one.is_current,
            "open": open_again,
        }
        for one, open_again in cases.past()
    ]
    returned = [
        {"image": one.volume, "note": one.note, "since": one.at} for one in cases.returned()
    ]
    return {
        "open": [asdict(one) for one in cases.open()],
        "returned": returned,
        "submitted": past,
    }


@router.get("/returned", summary="Cases that were returned to who asks", dependencies=WORKER)
def returned(client_id: ClientId = None) -> dict[str, Any]:
    """What a reviewer has returned with a note, and nobody holds."""
    found = cases_of(client_id).returned()
    return {"returned": [{"image": o.volume, "note": o.note, "since": o.at} for o in found]}


@router.get(
    "/{image}/start", summary="The label that a case of one's own began with", dependencies=WORKER
)
def start(image: str, client_id: str | None = None) -> FileResponse:
    """As it was when the case was given out."""
    return start_file(cases_of(client_id), image)


@router.post("/{image}/confirm", summary="Submit the draft label as it is", dependencies=WORKER)
def confirm(image: str, asked: Confirm) -> dict[str, Any]:
    """The organs in `absent` are taken out of it; those that nothing is said of stay open."""
    words = asked.model_dump(include={"absent", "looked_at", "volume_is_right", "note"})
    return submitted(image, cases_of(asked.client_id).confirm(image, words, lease=asked.lease))


@router.post("/{image}/submit", summary="Submit a corrected label", dependencies=WORKER)
def submit(
    image: str,
    label: Annotated[UploadFile, File(description="DICOM SEG, NIfTI or NRRD")],
    absent: Annotated[list[str], Form()] = [],  # noqa: B006 - FastAPI copies it
    looked_at: Annotated[list[str], Form()] = [],  # noqa: B006
    volume_is_right: Annotated[list[str], Form()] = [],  # noqa: B006
    partial: Annotated[bool | None, Form()] = None,
    client_id: Annotated[ClientId, Form()] = None,
    lease: Annotated[LeaseNumber, Form()] = None,
) -> dict[str, Any]:
    """Checked as every label is: refused with the reason, or kept and current.

    What is said of its organs is as in ``confirm``; ``partial`` is for a label of a part of
    the CT: true, the rest stays as it was; false, there is nothing else.
    """
    words = {
        "absent": absent,
        "looked_at": ALL if looked_at == [ALL] else looked_at,
        "volume_is_right": volume_is_right,
        "partial": partial,
    }
    cases = cases_of(client_id)
    with received_label(image, label) as sent:
        return submitted(image, cases.upload(image, sent, words, lease=lease))


@router.post("/{image}/release", summary="Give a case back", dependencies=WORKER)
def release(image: str, asked: Asked) -> dict[str, Any]:
    """Without submitting; one that was opened again is closed by it."""
    closed = cases_of(asked.client_id).release(image, lease=asked.lease)
    return {"image": image, "closed": closed}


@router.post("/{image}/take", summary="Take a case by name", dependencies=WORKER)
def take(image: str, asked: Asked) -> dict[str, Any]:
    """One that nobody has and nobody has submitted, such as one just given back."""
    return taken(image, cases_of(asked.client_id).take(image))


@router.get("/{image}/drawing", summary="What one has drawn and not submitted", dependencies=WORKER)
def drawing(image: str, client_id: str | None = None) -> dict[str, Any]:
    """Its version and what is said of the organs so far; version 0 where nothing is kept."""
    return about(cases_of(client_id).drawings.find(image))


def about(found: Drawing | None) -> dict[str, Any]:
    """Return what a page must know of a drawing."""
    if found is None:
        return {"version": 0, "saved_at": None, "fingerprint": "", "said": {}}
    return {
        "version": found.version,
        "saved_at": found.saved_at,
        "fingerprint": found.fingerprint,
        "said": dict(found.said),
    }


@router.get("/{image}/drawing/label", summary="The label one has drawn", dependencies=WORKER)
def drawn(image: str, client_id: str | None = None) -> FileResponse:
    """As it was saved last, also where its CT was replaced or is gone."""
    drawings = cases_of(client_id).drawings
    found = drawings.find(image)
    if found is None:
        raise NotFoundError("drawing of yours", image)
    looked("label", image, version=found.sha256)
    return label_file(drawings.file(found), f"{image}.drawn.nii.gz")


@router.put("/{image}/drawing", summary="Keep what one has drawn so far", dependencies=WORKER)
def keep_drawing(
    image: str,
    version: Annotated[int, Form(ge=0, le=2**62)],
    fingerprint: Annotated[str, Form(max_length=200)],
    label: Annotated[UploadFile | None, File(description="NIfTI, on the CT's grid")] = None,
    box: Annotated[str, Form(max_length=40)] = "",
    said: Annotated[str, Form(max_length=20_000)] = "{}",
    lease: Annotated[LeaseNumber, Form()] = None,
    client_id: Annotated[ClientId, Form()] = None,
) -> dict[str, Any]:
    """In place of `version`; 409 where another tab has saved one since. It renews the lease.

    ``box``: the block of the CT that the label covers, its first voxel and the one after its
    last, six numbers; around it, what was drawn before stays. Without a label all of it stays, and
    what is said of the organs is new.
    ``expires_at`` is null where the case is not in one's hands any more: it is kept all the same.
    """
    cases, words = cases_of(client_id), parse_object("said", said)
    with contextlib.ExitStack() as stack:
        sent = stack.enter_context(received("drawing", label)) if label else None
        kept = cases.drawings.save(
            image,
            sent,
            version=version,
            fingerprint=fingerprint,
            said=words,
            part=part_of(box, cases.view(image)[1]) if box else None,
            begun=cases.begun(image),
        )
    until = None
    if lease is not None:
        with contextlib.suppress(ConflictError):
            until = cases.renew(image, lease).expires_at
    return {**about(kept), "expires_at": until}


@router.post("/{image}/drawing/submit", summary="Submit what one has drawn", dependencies=WORKER)
def submit_drawing(image: str, asked: SubmitDrawing) -> dict[str, Any]:
    """As it was saved last; the organs in `absent` are taken out of it."""
    words = asked.model_dump(include={"absent", "looked_at", "volume_is_right", "note"})
    cases = cases_of(asked.client_id)
    return submitted(image, cases.submit_drawing(image, asked.version, words, lease=asked.lease))


@router.delete("/{image}/drawing", summary="Forget what one has drawn", dependencies=WORKER)
def forget_drawing(image: str, client_id: str | None = None) -> dict[str, Any]:
    """The label that the case begins with is shown again."""
    cases_of(client_id).drawings.discard(image)
    return {"image": image}


@router.post("/{image}/change", summary="Change a label as a tool does", dependencies=WORKER)
def change(
    image: str,
    label: Annotated[UploadFile, File(description="NIfTI, on the CT's grid")],
    do: Annotated[Literal["largest", "between", "take"], Form()],
    organ: Annotated[str, Form(max_length=80)],
    plane: Annotated[Literal["axial", "coronal", "sagittal"], Form()] = "axial",
    other: Annotated[UploadFile | None, File(description="NIfTI, for take")] = None,
    box: Annotated[str, Form(max_length=40)] = "",
    client_id: Annotated[ClientId, Form()] = None,
) -> FileResponse:
    """Return the label that was sent, changed; nothing is kept or submitted.

    ``largest``: no more than the largest piece of the organ; ``between``: the organ between
    the slices in which it was drawn, guided by the networks where they have predicted the CT;
    ``take``: the organ as `other` has it. ``box``: the block of
    the CT that both labels cover.
    """
    found = find_organ(organ)
    if found is None:
        raise NotFoundError("organ", organ)
    if do == "take" and other is None:
        raise RequestError("other: the label that the organ is taken from is needed")
    cases = cases_of(client_id)
    with contextlib.ExitStack() as stack:
        sent = stack.enter_context(received_label(image, label))
        more = stack.enter_context(received_label(image, other)) if other else None
        part = part_of(box, cases.view(image)[1]) if box else None
        array, grid, count = cases.change(
            image,
            sent,
            do,
            found,
            plane=plane,
            other=more,
            part=part,
            predicted=not from_scratch(image, client_id),
        )
    made = write_nifti(temporary_path(".nii.gz"), array, grid)
    done = BackgroundTask(made.unlink, missing_ok=True)
    headers = {"X-Slices": str(count)}
    return FileResponse(made, media_type="application/gzip", headers=headers, background=done)


@router.post("/{image}/renew", summary="Keep a case that one works on", dependencies=WORKER)
def renew(image: str, asked: Held) -> dict[str, Any]:
    """For another full time; 409 where it has run out or is somebody else's."""
    return taken(image, cases_of(asked.client_id).renew(image, asked.lease))


@router.post("/{image}/reopen", summary="Open an own case again", dependencies=WORKER)
def reopen(image: str, asked: Asked) -> dict[str, Any]:
    """It is in one's hands again, with the last submission on it."""
    return taken(image, cases_of(asked.client_id).reopen(image))


@router.post(
    "/{image}/restore", summary="Make an own submission current again", dependencies=WORKER
)
def restore(image: str, asked: Restore) -> dict[str, Any]:
    """A new entry of the history; nothing is lost."""
    made = cases_of(asked.client_id).restore(image, asked.submission)
    app_instance().on_save_label(image, image)
    return {"image": image, "submission": made.id, "restored": asked.submission}


@volumes.get("/not-usable", summary="Volumes that are left out, and why", dependencies=[USERS])
def not_usable() -> list[dict[str, Any]]:
    """Each with its reason and when; who, where the server shows names."""
    found = [one._asdict() for one in workspace().ledger.not_usable()]
    return [{**one, "holder": ""} if hides() else one for one in found]


@volumes.post("/{image}/exclude", summary="Say that a CT is not usable", dependencies=WORKER)
def exclude(image: str, asked: Exclude) -> dict[str, Any]:
    """Left out of list, budget, audits and training until it is included; no label is lost."""
    cases_of(asked.client_id).exclude(image, asked.reason)
    return {"image": image, "usable": False, "reason": asked.reason}


@volumes.post("/{image}/include", summary="Let a CT count again", dependencies=WORKER)
def include(image: str, asked: Include) -> dict[str, Any]:
    """What its content looks like is not held against it again, unless the file changes."""
    changed = cases_of(asked.client_id).include(image, asked.reason)
    app_instance().score_again()
    return {"image": image, "usable": True, "changed": changed}
