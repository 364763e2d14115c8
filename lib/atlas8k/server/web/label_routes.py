"""Routes of labels: saved as submissions, served in force, described by the server alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, HTTPException, Request, UploadFile
from fastapi.responses import FileResponse
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import get_mime_type
from starlette.background import BackgroundTask

from atlas8k.errors import VolumeError
from atlas8k.ledger import OrganChange
from atlas8k.rewriting import rewrite
from atlas8k.server.desk.recorded import HOW_TO_ANSWER, HOW_TO_SAY, questions
from atlas8k.server.desk.service import MANAGED, LabelService, Receipt
from atlas8k.server.desk.submissions import OWN_KEYS
from atlas8k.server.errors import ConflictError, NotFoundError, RequestError
from atlas8k.server.infer import temporary_path
from atlas8k.server.strategy import holder
from atlas8k.server.studies.catalogue import FINAL
from atlas8k.server.studies.folder import ORIGINAL
from atlas8k.server.studies.names import LABEL_SUFFIXES, check_tag
from atlas8k.server.studies.versions import Version
from atlas8k.server.web.routes import parse_object, shown, with_caller
from atlas8k.server.web.uploads import received
from atlas8k.volume import read_geometry

router = APIRouter(prefix="/datastore", tags=["Datastore"])
AsUser = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
AsAdmin = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]
AsAnnotator = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]
# A reviewer takes a case over by submitting it.
AsEither = Annotated[
    User,
    Depends(
        RBAC([settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR, settings.MONAI_LABEL_AUTH_ROLE_REVIEWER])
    ),
]
GZIP = "application/gzip"
UPLOADS = (*LABEL_SUFFIXES, ".dcm")


@router.put("/label", summary="Save finished label")
def save_label(
    request: Request,
    user: AsEither,
    image: str,
    label: Annotated[UploadFile, File()],
    params: Annotated[str, Form()] = "{}",
    tag: str = FINAL,
) -> dict[str, Any]:
    """Check a label, keep it, and note who submitted it and what it says of each organ.

    A label that is refused (422 with the reason) leaves the one before it in place; one
    that is replaced is kept. Of two that crossed, the earlier stays in force until a
    reviewer decides.
    """
    with_caller(request, user.username, user.roles)
    info = parse_object("params", params)
    app = app_instance()
    context, where = app.context, check_tag(tag or FINAL)
    if not context.datastore.get_image_uri(image):
        raise NotFoundError("image", image)
    if where in MANAGED and where != FINAL:
        raise RequestError(
            f"tag {where!r} is made by the server; submit a corrected label under {FINAL!r}, "
            "bring labels of a dataset with `atlas8k labels import`"
        )
    limit = app.settings.upload_mb
    file = received("label file", label.filename, label.file, upload_mb=limit, suffixes=UPLOADS)
    reply: dict[str, Any] = {"image": image, "label": image}
    with file as sent, named(image):
        if where == FINAL:
            lease = info.get("lease")
            receipt = context.desk.submit(
                image,
                sent,
                holder(info),
                info,
                lease=lease if isinstance(lease, int) and not isinstance(lease, bool) else None,
            )
            reply |= said(receipt)
        else:
            reply["label"] = context.datastore.save_label(image, str(sent), where, info)
    app.on_save_label(image, reply["label"])
    return reply


@contextlib.contextmanager
def named(image: str) -> Iterator[None]:
    """What is wrong with an upload is said of the image's label, not of a file of ours."""
    try:
        yield
    except VolumeError as err:
        raise type(err)(f"label of {image}", err.reason) from err


def said(receipt: Receipt) -> dict[str, Any]:
    """What an annotator should know of a submission."""
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
        "in_force": receipt.in_force,
        "notes": list(receipt.notes),
    }


def _to_say(organs: Mapping[str, OrganChange]) -> dict[str, Any]:
    """What is still to be said of organs that were not assessed, and how."""
    asked = questions(organs)
    untouched = any(
        one.state == "not_assessed" and not one.note and one.voxels_after for one in organs.values()
    )
    return {
        **({"asked": asked, "to_answer": HOW_TO_ANSWER} if asked else {}),
        **({"to_assess": HOW_TO_SAY} if untouched else {}),
    }


@router.get("/label", summary="Download label")
def get_label(request: Request, user: AsUser, label: str, tag: str) -> FileResponse:
    """The label in force; for who reads a case blind, the start label without the first reading."""
    with_caller(request, user.username, user.roles)
    path = blind(label, tag)
    uri = str(path.path) if path else app_instance().datastore().get_label_uri(label, tag)
    if not uri or not Path(uri).is_file():
        raise HTTPException(404, "Label NOT Found")
    name = f"{label}.nii.gz" if path else Path(uri).name
    return label_file(Path(uri), name)


def label_file(path: Path, name: str) -> FileResponse:
    """A label for download, where clients see its CT; without shear, see :mod:`rewriting`."""
    with contextlib.suppress(VolumeError):  # other formats, and what was put there by hand
        geometry = read_geometry(path)
        if not geometry.plain:
            copy = rewrite(path, temporary_path(".nii.gz"), geometry.grid.served)
            done = BackgroundTask(copy.unlink, missing_ok=True)
            return FileResponse(copy, media_type=GZIP, filename=name, background=done)
    return FileResponse(path, media_type=get_mime_type(str(path)), filename=name)


@router.get("/label/info", summary="Get label info")
def get_info(request: Request, user: AsUser, label: str, tag: str) -> Any:
    """What is known about a label in force."""
    with_caller(request, user.username, user.roles)
    version = blind(label, tag)
    if version is None:
        return shown(app_instance().datastore().get_label_info(label, tag))
    sums = {"name": f"{label}.nii.gz", "checksum": f"SHA256:{version.sha256}"}
    return shown({**version.info, **sums})


def blind(label: str, tag: str) -> Version | None:
    """What to show in place of the start label in force, ``None`` for that one."""
    desk: LabelService = app_instance().context.desk
    if check_tag(tag) != ORIGINAL:
        return None
    return desk.blind_start(label)


@router.put("/label/info", summary="Update label info")
def put_info(
    request: Request, user: AsAnnotator, label: str, tag: str, info: Annotated[str, Form()] = "{}"
) -> Any:
    """Add to what is known about a label; what the server says of it cannot be changed."""
    return _update(request, user, label, tag, parse_object("info", info))


@router.put("/updatelabelinfo", include_in_schema=False, deprecated=True)
def put_info_deprecated(
    request: Request,
    user: AsAnnotator,
    label: str,
    tag: str,
    params: Annotated[str, Form()] = "{}",
) -> Any:
    """As :func:`put_info`, under its former name."""
    return _update(request, user, label, tag, parse_object("params", params))


def _update(request: Request, user: User, label: str, tag: str, info: dict[str, Any]) -> Any:
    with_caller(request, user.username, user.roles)
    datastore = app_instance().datastore()
    datastore.get_label_info(label, tag)  # 404 comes first
    own = sorted(OWN_KEYS & info.keys())
    if own and check_tag(tag) in MANAGED:
        raise RequestError(
            f"{', '.join(own)}: said by the server alone; submit a label to change it"
        )
    if settings.MONAI_LABEL_AUTH_ENABLE:
        info["user"] = user.username
    return datastore.update_label_info(label, tag, info)


@router.delete("/label", summary="Remove label")
def remove_label(request: Request, user: AsAdmin, id: str, tag: str) -> dict[str, Any]:
    """Take a label out of force; not one that follows from submissions and datasets."""
    with_caller(request, user.username, user.roles)
    app = app_instance()
    app.datastore().get_label_info(id, tag)
    if check_tag(tag) in MANAGED:
        raise ConflictError(
            f"label {tag!r} of {id}: follows from what was submitted and imported; restore an "
            "earlier submission, or open the case again"
        )
    app.datastore().remove_label(id, tag)
    return {}
