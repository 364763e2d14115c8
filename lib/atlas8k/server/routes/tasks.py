"""Routes of what is computed: inference, next sample, scoring, training, batches."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, File, Form, HTTPException, UploadFile
from fastapi.responses import FileResponse, Response
from monailabel.endpoints.infer import ResultType, send_response
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask

from atlas8k.core.acting import actor
from atlas8k.core.errors import Atlas8kError
from atlas8k.core.volume import read_label
from atlas8k.formats.dicom_seg_writing import write_segmentation
from atlas8k.server import background, startup
from atlas8k.server.access import ADMINS, ANNOTATORS, USERS, get_caller
from atlas8k.server.blind import NOTED_OF_READERS, check_predicted, gold_seen
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.notes import without_others
from atlas8k.server.routes.sessions import session
from atlas8k.server.tasks.infer import temporary_path
from atlas8k.server.tasks.strokes import MODELS, PARAMETERS
from atlas8k.server.uploads import parse_object, received, received_label
from atlas8k.server.workspace import looked, workspace
from atlas8k.services.archive.session import ArchiveSession
from atlas8k.services.errors import NotFoundError, RequestError
from atlas8k.services.privacy import shown

logger = logging.getLogger(__name__)
router = APIRouter(route_class=GuardedRoute)
extra = APIRouter(route_class=GuardedRoute)
"""See :data:`atlas8k.server.routes.status.extra`."""
Params = dict[str, Any] | None

PASSED_ON = ("save_label", "label_tag", "form", "restore_label_idx", "result_extension")
"""What a client may say of a result, see :mod:`atlas8k.server.tasks.infer` on the last three."""

INFERENCES = ThreadPoolExecutor(3, "inference", initializer=startup.give_way, initargs=(5,))
"""Threads of inferences: one computes, others read and write files. Further ones wait
without one. They and the threads of the networks run behind those that answer everybody
else, who needs a millisecond."""


def check_name(kind: str, name: str) -> None:
    """Raise :class:`NotFoundError` where the app has no such model, trainer, method, strategy."""
    app = app_instance()
    known = {
        "model": app._infers,
        "trainer": app._trainers,
        "scoring method": app._scoring_methods,
        "strategy": app._strategies,
    }[kind]
    if name not in known:
        raise NotFoundError(kind, name, known)


# --- inference ----------------------------------------------------------------------------


@router.post(
    "/infer/{model}", tags=["Infer"], summary="Run a model on an image", dependencies=[USERS]
)
async def infer(
    background_tasks: BackgroundTasks,
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
    refused unless it is the one asked for. An uploaded ``label`` is for strokes alone, see
    :class:`atlas8k.server.tasks.strokes.StrokesInfer`; other models do not use it.
    """
    who = actor()

    def run() -> Any:
        app = app_instance()
        check_name("model", model)
        asked = result_params(parse_object("params", params), model, image)
        archive = workspace().archive
        if output == ResultType.dicom_seg and archive is None:
            raise RequestError("output dicom_seg: the studies are no DICOM archive; ask for image")
        check_predicted(image)
        with contextlib.ExitStack() as stack:
            source: str | Path = image
            if session_id:
                source = Path(session(session_id).image)
            elif file is not None:
                source = stack.enter_context(received("image file", file))
            if label is not None and model in MODELS.values():
                asked["label"] = stack.enter_context(received_label(image, label))
            result = app.infer({**asked, "model": model, "image": source, "output": output})
        looked("prediction", image if source is image else None, by=who, model=model)
        if output == ResultType.dicom_seg and archive is not None:
            return dicom_seg(archive, image, model, result, background_tasks)
        return send_response(app.datastore(), result, output, background_tasks)

    return await asyncio.get_running_loop().run_in_executor(
        INFERENCES, contextvars.copy_context().run, run
    )


def result_params(params: Mapping[str, Any], model: str, image: str) -> dict[str, Any]:
    """Return the parameters of an inference, where they name no other image or model.

    Raises
    ------
    NotFoundError, RequestError
        They do: what is not there, or what is not meant by the rest of the request.
    """
    other_model, other_image = params.get("model", model), params.get("image", image)
    if not isinstance(other_model, str) or not isinstance(other_image, str):
        raise RequestError("params: image and model are names")
    check_name("model", other_model)
    if other_image != image and other_image not in app_instance().datastore().list_images():
        raise NotFoundError("image", other_image)
    if other_model != model or other_image != image:
        raise RequestError("params name another image or model than the request")
    passed = (*PASSED_ON, *PARAMETERS) if model in MODELS.values() else PASSED_ON
    return {key: params[key] for key in passed if key in params}


def dicom_seg(
    archive: ArchiveSession, image: str, model: str, result: Any, later: BackgroundTasks
) -> Response:
    """Return the result as DICOM SEG, segments named and coded by organ.

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
            archive.headers(image),
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


# --- next sample --------------------------------------------------------------------------


@router.post(
    "/activelearning/{strategy}",
    tags=["ActiveLearning"],
    summary="Get the next sample",
    dependencies=[USERS],
)
def next_sample(strategy: str, params: Params = None) -> dict[str, Any]:
    """Lease the next volume to who asks; return why it is this one, and where it is."""
    check_name("strategy", strategy)
    app, given = app_instance(), params or {}
    found: dict[str, Any] = app.next_sample({**given, "strategy": strategy})
    if not found:
        return {}
    image = str(found["id"])
    stored = workspace().studies.catalogue.image_info(image)
    info = without_others(app.datastore().get_image_info(image), stored)
    gold = image in gold_seen()
    if gold:
        info = {key: value for key, value in info.items() if key not in NOTED_OF_READERS}
    # As MONAI Label notes it, and calls who is not signed in.
    who = given.get("client_id", get_caller().user or "admin")
    before = info.get("strategy")
    served = {
        **(before if isinstance(before, dict) else {}),
        strategy: {"ts": int(time.time()), "client_id": str(who)[:200]},
    }
    try:
        if not gold:  # what is noted of those would be read by its other readers
            app.datastore().update_image_info(image, {"strategy": served})
    except (Atlas8kError, OSError) as err:
        logger.warning("%s: who got it was not noted: %s", image, err)
    if "strategy" in info:
        info = {**info, "strategy": served}
    return shown({**info, **found})


# --- scoring ------------------------------------------------------------------------------


@router.post(
    "/scoring/{method}", tags=["Scoring"], summary="Score what is stale", dependencies=[ANNOTATORS]
)
def start_scoring(method: str, params: Params = None, run_sync: bool = False) -> Any:
    """Start scoring in the background; no process is started when nothing is stale."""
    check_name("scoring method", method)
    context = workspace()
    context.sync(thorough=True)
    if context.progress().complete:
        return nothing_stale(context.status())
    if background.runs("scoring"):
        raise HTTPException(429, "scoring is already running")
    return background.start("scoring", {"method": method}, run_sync=run_sync)


@extra.post("/scoring/", include_in_schema=False, deprecated=True, dependencies=[ANNOTATORS])
def start_all_scoring() -> dict[str, Any]:
    """Start every scoring method there is, as MONAI Label's clients may ask for."""
    methods = list(app_instance()._scoring_methods)
    return {name: {"result": start_scoring(name), "detail": None} for name in methods}


def nothing_stale(status: dict[str, Any]) -> dict[str, Any]:
    """Return a task that is done before it began, in MONAI Label's form."""
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return {
        "id": str(uuid.uuid4()),
        "status": "DONE",
        "request": {"method": "attention"},
        "start_ts": now,
        "end_ts": now,
        "details": [f"nothing is stale: {status.get('message', '')}"],
        "progress": status,
    }


# --- training and batches -----------------------------------------------------------------


@router.post(
    "/train/{model}", tags=["Train"], summary="Fine-tune on submitted labels", dependencies=[ADMINS]
)
def train(model: str, params: Params = None, run_sync: bool = False, enqueue: bool = False) -> Any:
    """Start a training in the background."""
    check_name("trainer", model)
    wanted = background.training_request(model, params)
    app_instance()._trainers[model].check(wanted)
    ledger = workspace().ledger
    if run_sync:  # it is never refused, and takes hours
        ledger.note("train", **wanted)
        return background.start("train", wanted, run_sync=True)
    started = background.start("train", wanted, enqueue=enqueue)
    ledger.note("train", **wanted)
    return started


@router.post("/train/", include_in_schema=False, deprecated=True, dependencies=[ADMINS])
def train_all(params: Params = None) -> Any:
    """Start the training of every trainer there is, unless one runs; there is one trainer.

    OHIF trains so, and sends each trainer's settings under its name.
    """
    given = params or {}
    own = {name: given.get(name) for name in app_instance()._trainers}
    return {
        name: {"result": train(name, it if isinstance(it, dict) else given), "detail": None}
        for name, it in own.items()
    }


@extra.post(
    "/batch/infer/{model}",
    tags=["Infer"],
    summary="Run a model on many images",
    dependencies=[ADMINS],
)
def batch_infer(
    model: str,
    images: BatchInferImageType = BatchInferImageType.IMAGES_ALL,
    params: Params = None,
    run_sync: bool = False,
) -> Any:
    """Start a batch inference in the background; results are kept as labels."""
    check_name("model", model)
    wanted = background.batch_request(model, images.value, params)
    return background.start("batch_infer", wanted, run_sync=run_sync)


# --- what runs ----------------------------------------------------------------------------


@router.get("/scoring/", tags=["Scoring"], summary="Status of scoring", dependencies=[USERS])
def scoring_status(all: bool = False, check_if_running: bool = False) -> Any:
    """Return the task, with ``progress``: how many volumes are scored of how many."""
    task = _task("scoring", all, check_if_running)
    if isinstance(task, dict):
        return {**task, "progress": workspace().status()}
    return task


@router.get("/train/", tags=["Train"], summary="Status of training", dependencies=[USERS])
def training_status(all: bool = False, check_if_running: bool = False) -> Any:
    """Return the last task, all of them, or the one that runs; 404 where there is none."""
    return _task("train", all, check_if_running)


@extra.get(
    "/batch/infer", tags=["Infer"], summary="Status of batch inference", dependencies=[USERS]
)
def batch_status(all: bool = False, check_if_running: bool = False) -> Any:
    """Return the last task, all of them, or the one that runs; 404 where there is none."""
    return _task("batch_infer", all, check_if_running)


def _task(kind: str, all_of_them: bool, check_if_running: bool) -> Any:
    task, detail = AsyncTask.status(kind, all_of_them, check_if_running)
    if task is None:
        raise HTTPException(404, detail)
    return task


@router.delete(
    "/scoring/", tags=["Scoring"], summary="Stop the scoring that runs", dependencies=[ANNOTATORS]
)
def stop_scoring() -> Any:
    """Return the task that was stopped, or null; what is scored stays scored."""
    return background.stop("scoring")


@router.delete(
    "/train/", tags=["Train"], summary="Stop the training that runs", dependencies=[ADMINS]
)
def stop_training() -> Any:
    """Return the task that was stopped, or null; the next start goes on from what was learned."""
    return background.stop("train")


@extra.delete(
    "/batch/infer",
    tags=["Infer"],
    summary="Stop the batch inference that runs",
    dependencies=[ADMINS],
)
def stop_batch() -> Any:
    """Return the task that was stopped, or null."""
    return background.stop("batch_infer")
