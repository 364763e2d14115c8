"""Routes of images and labels: labels come as submissions, and the server alone describes them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, File, Form, HTTPException, UploadFile
from fastapi.responses import FileResponse, Response, StreamingResponse
from monailabel.endpoints.datastore import ResultType
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import get_mime_type
from starlette.background import BackgroundTask

from atlas8k.core.errors import VolumeError
from atlas8k.core.files import sha256_of
from atlas8k.core.rewriting import rewrite
from atlas8k.core.volume import read_geometry, read_grid
from atlas8k.server.access import (
    ADMINS,
    ANNOTATORS,
    ANNOTATORS_OR_REVIEWERS,
    USERS,
    get_caller,
    holder,
)
from atlas8k.server.blind import (
    hidden_images,
    instead,
    label_info,
    masked,
    noted,
    others_images,
    shown_label,
)
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.notes import checked
from atlas8k.server.tasks.infer import temporary_path
from atlas8k.server.uploads import parse_object, received, received_label
from atlas8k.server.workspace import looked, workspace
from atlas8k.services.drawings import Drawings
from atlas8k.services.errors import ConflictError, NotFoundError, RequestError
from atlas8k.services.labels.recorded import HOW_TO_ANSWER, HOW_TO_SAY, questions
from atlas8k.services.labels.service import MANAGED, Receipt
from atlas8k.services.labels.submissions import OWN_KEYS
from atlas8k.services.privacy import shown
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.services.studies.folder import ORIGINAL
from atlas8k.services.studies.names import check_id, check_tag, split_suffix
from atlas8k.store import OrganChange

router = APIRouter(prefix="/datastore", tags=["Datastore"], route_class=GuardedRoute)
extra = APIRouter(prefix="/datastore", tags=["Datastore"], route_class=GuardedRoute)
"""See :data:`atlas8k.server.routes.status.extra`."""
GZIP = "application/gzip"
PIECE_BYTES = 1 << 20


@router.get("/", summary="Counts, or all images and labels", dependencies=[USERS])
def datastore(output: ResultType = ResultType.stats, every: bool = False) -> Any:
    """``stats``: counts; ``all``: images and labels; ``train``: finished pairs.

    Of 20,000 images and more, ``all`` lists those that somebody was given or labeled, and
    says as ``left_out`` how many others there are; with ``every`` it lists them, too.
    """
    store = app_instance().datastore()
    if output == ResultType.all:
        # Its text is kept ready and clean; encoding it anew takes seconds at 8,448 volumes.
        return Response(
            store.json_bytes(hidden_images(), every=every, instead=instead()),
            media_type="application/json",
        )
    unread = others_images(unread=True)
    if output == ResultType.train:
        return store.datalist([*hidden_images(), *unread])
    return store.status(unread)


@extra.get("/dataset", summary="All finished cases as a ZIP archive", dependencies=[ANNOTATORS])
def dataset(limit_cases: int | None = None) -> StreamingResponse:
    """Images with their finished labels; 404 where there are none."""
    hidden = [*hidden_images(), *others_images()]
    path = Path(app_instance().datastore().get_dataset_archive(limit_cases, hidden))
    stream = path.open("rb")
    path.unlink()  # it ends with the stream, whoever breaks off
    workspace().ledger.note("export", kind="dataset", size=os.fstat(stream.fileno()).st_size)
    return StreamingResponse(
        _pieces(stream),
        media_type="application/zip",
        headers={
            "Content-Length": str(os.fstat(stream.fileno()).st_size),
            "Content-Disposition": 'attachment; filename="dataset.zip"',
        },
    )


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while piece := stream.read(PIECE_BYTES):
            yield piece


def _there(path: str, kind: str) -> Path:
    """Return a path, or raise 404 where there is no file."""
    if not path or not Path(path).is_file():
        raise HTTPException(404, f"{kind} NOT Found")
    return Path(path)


def _file(path: Path, name: str = "") -> FileResponse:
    return FileResponse(path, media_type=get_mime_type(str(path)), filename=name or path.name)


# --- images -------------------------------------------------------------------------------


@router.put("/", include_in_schema=False, deprecated=True, dependencies=[ANNOTATORS])
@router.put("/image", summary="Upload an image", dependencies=[ANNOTATORS])
def add_image(
    file: Annotated[UploadFile, File()],
    image: str | None = None,
    params: Annotated[str, Form()] = "{}",
) -> dict[str, str]:
    """Take in a CT; its id is `image`, else the file's name."""
    info = checked(parse_object("params", params)) | _signed()
    if image:
        check_id(image)  # before the upload is read
    with received("image file", file) as path:
        try:
            read_grid(path)
        except VolumeError as err:
            raise type(err)("the image file", err.reason) from err
        name = Path(file.filename or "").name
        stem = split_suffix(name, (path.name.removeprefix("upload"),))
        target = check_id(image or (stem[0] if stem else name))
        return {"image": app_instance().datastore().add_image(target, str(path), info)}


def _signed() -> dict[str, str]:
    """Return who is signed in, for what is known about an image or label."""
    user = get_caller().user
    return {"user": user} if user else {}


@extra.delete("/", include_in_schema=False, deprecated=True, dependencies=[ADMINS])
@router.delete("/image", summary="Remove an image", dependencies=[ADMINS])
def remove_image(id: str) -> dict[str, Any]:
    """Delete an image; its labels stay and come back with it."""
    app_instance().datastore().remove_image(id)
    return {}


@router.get("/image", summary="Download an image", dependencies=[USERS])
def get_image(image: str) -> FileResponse:
    """The CT as clients get it: with one geometry where its file has two."""
    path = _there(app_instance().datastore().get_image_uri(image), "Image")
    looked("image", image)
    return _file(path)


@router.head("/image", summary="Whether an image is there", dependencies=[USERS])
def check_image(image: str, check_sum: str | None = None) -> dict[str, Any]:
    """200 where the image is there and, if given, has that ``SHA256:<hex>``; else 404."""
    store = app_instance().datastore()
    _there(store.get_image_uri(image), "Image")
    if check_sum:
        algorithm, _, digest = check_sum.rpartition(":")
        if algorithm not in {"", "SHA256"}:
            raise RequestError("check_sum: SHA256:<hex> is needed")
        if workspace().studies.checksum(image).lower() != f"sha256:{digest.lower()}":
            raise NotFoundError("image of that checksum", image)
    return {}


@router.get("/image/info", summary="What is known about an image", dependencies=[USERS])
def get_image_info(image: str) -> dict[str, Any]:
    """Its name, path and checksum, and what clients have noted."""
    return noted(image, shown(app_instance().datastore().get_image_info(image)))


@router.put("/image/info", summary="Note something about an image")
def put_image_info(
    image: str, user: Annotated[User, ANNOTATORS], info: Annotated[str, Form()] = "{}"
) -> Any:
    """Add to what is known about an image: what :mod:`atlas8k.server.notes` lists."""
    store = app_instance().datastore()
    store.get_image_uri(image)  # 404 comes first
    given = checked(parse_object("info", info))
    return store.update_image_info(image, {**given, "user": user.username})


# --- labels -------------------------------------------------------------------------------


@router.put("/label", summary="Save finished label", dependencies=[ANNOTATORS_OR_REVIEWERS])
def save_label(
    image: str,
    label: Annotated[UploadFile, File()],
    params: Annotated[str, Form()] = "{}",
    tag: str = FINAL,
) -> dict[str, Any]:
    """Check a label, keep it, and note who submitted it and what it says of each organ.

    A label that is refused (422 with the reason) leaves the one before it in place; one
    that is replaced is kept. Of two that crossed, the earlier stays current until a
    reviewer decides. A reviewer takes a case over by submitting it.
    """
    info = parse_object("params", params)
    app = app_instance()
    context, where = workspace(), check_tag(tag or FINAL)
    context.studies.known_image(image)
    if where in MANAGED and where != FINAL:
        raise RequestError(
            f"tag {where!r} is made by the server; submit a corrected label under {FINAL!r}, "
            "bring labels of a dataset with `atlas8k labels import`"
        )
    reply: dict[str, Any] = {"image": image, "label": image}
    with received_label(image, label) as sent:
        if where == FINAL:
            lease = info.get("lease")
            if not isinstance(lease, int) or isinstance(lease, bool):
                lease = None
            reply |= said(
                context.label_service.submit(
                    image,
                    sent,
                    holder(info.get("client_id")),
                    info,
                    lease=lease,
                    blind=masked(image) is not None,
                )
            )
        else:
            reply["label"] = app.datastore().save_label(image, str(sent), where, info)
    app.on_save_label(image, reply["label"])
    return reply


def said(receipt: Receipt) -> dict[str, Any]:
    """Return what an annotator should know of a submission."""
    one = receipt.submission
    return {
        "submission": one.id,
        "round": one.round,
        "late": one.late,
        "conflict": one.conflict,
        "minutes": one.minutes,
        "organs": receipt.organs,
        "recorded": receipt.recorded,
        **_to_say(receipt.changes),
        "disputes": list(receipt.disputes),
        "review": list(receipt.review),
        "in_force": receipt.is_current,
        "notes": list(receipt.notes),
        "findings": [one._asdict() for one in receipt.findings],
    }


def _to_say(organs: Mapping[str, OrganChange]) -> dict[str, Any]:
    """Return what is still to be said of organs that were not assessed, and how."""
    asked = questions(organs)
    untouched = any(
        one.state == "not_assessed" and not one.note and one.voxels_after for one in organs.values()
    )
    return {
        **({"asked": asked, "to_answer": HOW_TO_ANSWER} if asked else {}),
        **({"to_assess": HOW_TO_SAY} if untouched else {}),
    }


@router.get("/label", summary="Download label", dependencies=[USERS])
def get_label(label: str, tag: str) -> FileResponse:
    """The current label; for who reads a case a second time, what the first reader began with.

    ``original`` is what one has drawn in the browser, where one has.
    """
    if (drawn := _drawn(label, tag)) is not None:
        looked("label", label, version=drawn.name)
        return label_file(drawn, f"{label}.nii.gz")
    try:
        version = shown_label(label, check_tag(tag))
    except NotFoundError:
        if masked(label) is None:
            raise
        raise HTTPException(404, "Label NOT Found") from None  # as of a case without one
    if version is not None:
        looked("label", label, version=version.sha256)
        return label_file(version.path, f"{label}.nii.gz")
    path = _there(app_instance().datastore().get_label_uri(label, tag), "Label")
    looked("label", label, tag=tag if tag in MANAGED else "other")
    return label_file(path, path.name)


def _drawn(image: str, tag: str) -> Path | None:
    """Return what who asks has drawn in the browser; nothing of who cannot be told apart."""
    me = holder()
    if tag != ORIGINAL or me.anonymous:
        return None
    return Drawings(workspace(), [me.key]).current(image)


@router.head("/label", summary="Whether a label is there", dependencies=[USERS])
def check_label(image: str, tag: str) -> dict[str, Any]:
    """200 where an image has a label of that tag, else 404."""
    if shown_label(image, check_tag(tag)) is None:
        _there(app_instance().datastore().get_label_uri(image, tag), "Label")
    return {}


def label_file(path: Path, name: str) -> FileResponse:
    """Return a label for download, where clients see its CT; see :mod:`rewriting` on shear."""
    with contextlib.suppress(VolumeError):  # other formats, and what was put there by hand
        geometry = read_geometry(path)
        if not geometry.plain:
            copy = rewrite(path, temporary_path(".nii.gz"), geometry.grid.served)
            done = BackgroundTask(copy.unlink, missing_ok=True)
            return FileResponse(copy, media_type=GZIP, filename=name, background=done)
    return _file(path, name)


@router.get("/label/info", summary="Get label info", dependencies=[USERS])
def get_info(label: str, tag: str) -> dict[str, Any]:
    """What is known about a current label."""
    version = shown_label(label, check_tag(tag))
    info = app_instance().datastore().get_label_info(label, tag) if version is None else {}
    sums = label_info(label, version) if version else {}
    if (drawn := _drawn(label, tag)) is not None:
        sums = {"name": f"{label}.nii.gz", "checksum": f"SHA256:{sha256_of(drawn)}"}
    return shown({**info, **sums})


@router.put("/updatelabelinfo", include_in_schema=False, deprecated=True, dependencies=[ANNOTATORS])
@router.put("/label/info", summary="Update label info", dependencies=[ANNOTATORS])
def put_info(
    label: str,
    tag: str,
    info: Annotated[str, Form()] = "{}",
    params: Annotated[str, Form(include_in_schema=False)] = "{}",  # as the older path calls it
) -> Any:
    """Add to what is known about a label; what the server says of it cannot be changed."""
    given = parse_object("info", info) | parse_object("params", params)
    store = app_instance().datastore()
    shown_label(label, check_tag(tag))  # 404 comes first
    store.get_label_info(label, tag)
    own = sorted(OWN_KEYS & given.keys())
    if own and check_tag(tag) in MANAGED:
        raise RequestError(
            f"{', '.join(own)}: said by the server alone; submit a label to change it"
        )
    return store.update_label_info(label, tag, checked(given) | _signed())


@router.delete("/label", summary="Remove label", dependencies=[ADMINS])
def remove_label(id: str, tag: str) -> dict[str, Any]:
    """Take a label out of force; not one that follows from submissions and datasets."""
    store = app_instance().datastore()
    store.get_label_info(id, tag)
    if check_tag(tag) in MANAGED:
        raise ConflictError(
            f"label {tag!r} of {id}: follows from what was submitted and imported; restore an "
            "earlier submission, or open the case again"
        )
    store.remove_label(id, tag)
    return {}
