"""Routes of inference, training, batch inference and uploaded images."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, File, Form, Request, UploadFile
from fastapi.responses import FileResponse, Response
from monailabel.config import settings
from monailabel.endpoints.infer import ResultType, send_response
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from monailabel.interfaces.utils.app import app_instance

from atlas8k.errors import VolumeError
from atlas8k.labels.dicom_seg_writing import write_segmentation
from atlas8k.server import background, startup
from atlas8k.server.archive.datastore import ArchiveDatastore
from atlas8k.server.errors import NotFoundError, RequestError
from atlas8k.server.files import checksum
from atlas8k.server.infer import temporary_path
from atlas8k.server.studies.names import check_id, split_suffix
from atlas8k.server.web.routes import check_name, parse_object, with_caller
from atlas8k.server.web.sessions import session_image
from atlas8k.server.web.uploads import received
from atlas8k.volume import read_grid, read_label

router = APIRouter()
AsUser = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
AsAnnotator = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]
AsAdmin = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]
Params = dict[str, Any] | None

PASSED_ON = (
    *("save_label", "label_tag", "label_info"),
    *("form", "restore_label_idx", "result_extension"),
)
"""What a client may say of a result, see :mod:`atlas8k.server.infer` on the last three."""

INFERENCES = ThreadPoolExecutor(3, "inference", initializer=startup.give_way, initargs=(5,))
"""Threads of inferences: one computes, others read and write files. Further ones wait
without one. They and the threads of the networks run behind those that answer everybody
else, who needs a millisecond."""


@router.post("/infer/{model}", tags=["Infer"], summary="Run a model on an image")
async def infer(
    request: Request,
    background_tasks: BackgroundTasks,
    user: AsUser,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: ResultType | None = None,
) -> Any:
    """Run a model on an image of the studies, an uploaded one, or one of a session.

    ``params`` may hold ``save_label`` and ``label_tag``; an image or model there is
    refused unless it is the one asked for. An uploaded ``label`` is not used.
    """

    def run() -> Any:
        with_caller(request, user.username)
        check_name("/infer/{model}", {"model": model})
        asked = named(parse_object("params", params), model, image)
        datastore = app_instance().datastore()
        if output == ResultType.dicom_seg:
            check_dicom_seg(datastore)
        with contextlib.ExitStack() as stack:
            source: str | Path = image
            if session_id:
                source = session_image(session_id)
            elif file is not None:
                source = stack.enter_context(
                    received("image file", file.filename, file.file, upload_mb=upload_mb())
                )
            result = app_instance().infer(
                {**asked, "model": model, "image": source, "output": output}
            )
        if output == ResultType.dicom_seg:
            return dicom_seg(datastore, image, model, result, background_tasks)
        return send_response(datastore, result, output, background_tasks)

    return await asyncio.get_running_loop().run_in_executor(INFERENCES, run)


def named(params: dict[str, Any], model: str, image: str) -> dict[str, Any]:
    """Parameters of an inference, where they name no other image or model.

    Raises
    ------
    NotFoundError, RequestError
        They do: what is not there, or what is not meant by the rest of the request.
    """
    other_model, other_image = params.get("model", model), params.get("image", image)
    if not isinstance(other_model, str) or not isinstance(other_image, str):
        raise RequestError("params: image and model are names")
    check_name("/infer/{model}", {"model": other_model})
    if other_image != image and other_image not in app_instance().datastore().list_images():
        raise NotFoundError("image", other_image)
    if other_model != model or other_image != image:
        raise RequestError("params name another image or model than the request")
    return {key: params[key] for key in PASSED_ON if key in params}


def check_dicom_seg(datastore: Any) -> None:
    """Raise :class:`RequestError` where a result cannot be given as DICOM SEG."""
    if not isinstance(datastore, ArchiveDatastore):
        raise RequestError("output dicom_seg: the studies are no DICOM archive; ask for image")


def dicom_seg(
    datastore: ArchiveDatastore, image: str, model: str, result: Any, later: BackgroundTasks
) -> Response:
    """The result as DICOM SEG, segments named and coded by organ; it goes after the reply.

    Raises
    ------
    EmptyVolumeError
        Nothing was found: DICOM SEG cannot say so.
    UpstreamError
        The archive does not give the series' headers.
    """
    made, plain = temporary_path(".dcm"), Path(result["file"])
    later.add_task(made.unlink, missing_ok=True)
    try:
        label = read_label(plain)
        write_segmentation(
            label.array,
            label.grid,
            datastore.headers(image),
            made,
            description=f"atlas8k {model}",
            kind="attention" if model == "attention" else "organs",
            made="AUTOMATIC",
        )
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    finally:
        plain.unlink(missing_ok=True)
    return FileResponse(made, media_type="application/dicom", filename=made.name)


def upload_mb() -> float:
    """Bound of an upload, MiB."""
    return float(app_instance().settings.upload_mb)


@router.post("/train/{model}", tags=["Train"], summary="Fine-tune on submitted labels")
def train(
    request: Request,
    user: AsAdmin,
    model: str,
    params: Params = None,
    run_sync: bool = False,
    enqueue: bool = False,
) -> Any:
    """Start a training in the background."""
    with_caller(request, user.username)
    check_name("/train/{model}", {"model": model})
    wanted = background.training_request(model, params)
    app_instance()._trainers[model].check(wanted)
    return background.start("train", wanted, run_sync=run_sync, enqueue=enqueue)


@router.post("/train/", include_in_schema=False, deprecated=True)
def train_all(request: Request, user: AsAdmin, params: Params = None) -> Any:
    """Start the training of every trainer there is, unless one runs; there is one trainer.

    OHIF trains so, and sends each trainer's settings under its name.
    """
    given = params or {}
    return {
        name: {"result": train(request, user, name, _settings_of(name, given)), "detail": None}
        for name in list(app_instance()._trainers)
    }


def _settings_of(name: str, params: dict[str, Any]) -> dict[str, Any]:
    own = params.get(name)
    return own if isinstance(own, dict) else params


@router.delete("/train/", tags=["Train"], summary="Stop the training that runs")
def stop_training(request: Request, user: AsAdmin) -> Any:
    """The task that was stopped, or null; what was learned is kept for the next start."""
    with_caller(request, user.username)
    return background.stop("train")


@router.delete("/batch/infer", tags=["Infer"], summary="Stop the batch inference that runs")
def stop_batch(request: Request, user: AsAdmin) -> Any:
    """The task that was stopped, or null."""
    with_caller(request, user.username)
    return background.stop("batch_infer")


@router.post("/batch/infer/{model}", tags=["Infer"], summary="Run a model on many images")
def batch_infer(
    request: Request,
    user: AsAdmin,
    model: str,
    images: BatchInferImageType = BatchInferImageType.IMAGES_ALL,
    params: Params = None,
    run_sync: bool = False,
) -> Any:
    """Start a batch inference in the background; results are kept as labels."""
    with_caller(request, user.username)
    check_name("/batch/infer/{model}", {"model": model})
    wanted = background.batch_request(model, images.value, params)
    return background.start("batch_infer", wanted, run_sync=run_sync)


@router.put("/datastore/", include_in_schema=False, deprecated=True)
@router.put("/datastore/image", tags=["Datastore"], summary="Upload an image")
def add_image(
    request: Request,
    user: AsAnnotator,
    file: Annotated[UploadFile, File()],
    image: str | None = None,
    params: Annotated[str, Form()] = "{}",
) -> dict[str, str]:
    """Take in a CT; its id is `image`, else the file's name."""
    with_caller(request, user.username)
    info = parse_object("params", params)
    if image:
        check_id(image)  # before the upload is read
    if settings.MONAI_LABEL_AUTH_ENABLE:
        info["user"] = user.username
    with received("image file", file.filename, file.file, upload_mb=upload_mb()) as path:
        try:
            read_grid(path)
        except VolumeError as err:
            raise type(err)("the image file", err.reason) from err
        name = Path(file.filename or "").name
        stem = split_suffix(name, (path.name.removeprefix("upload"),))
        target = check_id(image or (stem[0] if stem else name))
        return {"image": app_instance().datastore().add_image(target, str(path), info)}


@router.head("/datastore/image", tags=["Datastore"], summary="Whether an image is there")
def check_image(request: Request, user: AsUser, image: str, check_sum: str | None = None) -> Any:
    """200 where the image is there and, if given, has that ``SHA256:<hex>``; else 404."""
    with_caller(request, user.username)
    datastore = app_instance().datastore()
    path = datastore.get_image_uri(image)
    if not path or not Path(path).is_file():
        raise NotFoundError("image", image)
    if check_sum:
        algorithm, _, digest = check_sum.rpartition(":")
        if algorithm not in {"", "SHA256"}:
            raise RequestError("check_sum: SHA256:<hex> is needed")
        own = getattr(datastore, "checksum", None)
        known = own(image) if own is not None else checksum(Path(path))
        if known.lower() != f"sha256:{digest.lower()}":
            raise NotFoundError("image of that checksum", image)
    return {}
