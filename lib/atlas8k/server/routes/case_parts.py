"""Parts of a CT and of its labels, for browsers that cannot hold the whole: thinned, or a block."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from monailabel.interfaces.utils.app import app_instance
from starlette.background import BackgroundTask

from atlas8k.core.acting import actor
from atlas8k.core.grid import Grid
from atlas8k.core.parts import Part, read_part
from atlas8k.core.volume import write_nifti
from atlas8k.server.blind import check_predicted, check_shown, shown_label
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.layers import DRAWING, START, SUBMISSION, TAGS, layers
from atlas8k.server.routes.cases import WORKER, cases_of, part_of
from atlas8k.server.routes.review import submitted
from atlas8k.server.routes.tasks import INFERENCES
from atlas8k.server.tasks.infer import temporary_path
from atlas8k.server.workspace import looked, workspace
from atlas8k.services.cases import Cases
from atlas8k.services.errors import NotFoundError

router = APIRouter(prefix="/atlas8k", include_in_schema=False, route_class=GuardedRoute)
Box = Annotated[str, Query(max_length=40)]


def _shown(cases: Cases, image: str, box: str) -> tuple[Part, Grid]:
    """Return the part that is asked for, thinned without a box, and the CT's grid."""
    view, grid = cases.view(image)
    return (part_of(box, grid) if box else view.part), grid


@router.get("/case/ct", dependencies=WORKER)
def ct(image: str, box: Box = "") -> FileResponse:
    """Return a block of a CT at full resolution; without a box all of it, thinned if need be."""
    part, grid = _shown(cases_of(), image, box)
    looked("image", image)
    return _sent(read_part(workspace().studies.image_path(image), part), part.grid(grid))


@router.post("/case/layer", dependencies=WORKER)
async def layer(image: str, key: str, box: Box = "") -> FileResponse:
    """Return a layer of the page of a case, or what one has drawn, as :func:`ct` does a CT."""
    who = actor()

    def read() -> FileResponse:
        cases = cases_of()
        case = cases.look(image)
        part, grid = _shown(cases, image, box)
        found = next((one for one in layers(cases, case) if one.key == key), None)
        model = found.model() if found is not None else None
        if model is not None:
            check_predicted(image)
            asked = {"model": model, "image": image, "output": "image"}
            path = Path(app_instance().infer(asked)["file"])
            looked("prediction", image, by=who, model=model)
            try:
                return _sent(read_part(path, part, label=True), part.grid(grid))
            finally:
                path.unlink(missing_ok=True)
        if found is None and key != DRAWING:
            raise NotFoundError("layer", f"{key[:80]!r} of {image}")
        if not case.lease:
            check_shown(image)
        path = _kept(cases, image, key)
        looked("label", image, layer=key)
        return _sent(read_part(path, part, label=True), part.grid(grid))

    computed = key not in (START, DRAWING, *TAGS) and not key.startswith(SUBMISSION)
    return await (_computed if computed else run_in_threadpool)(read)


async def _computed(read: Callable[[], FileResponse]) -> FileResponse:
    """Run what waits for the networks where inferences run."""
    run = functools.partial(contextvars.copy_context().run, read)
    return await asyncio.get_running_loop().run_in_executor(INFERENCES, run)


def _kept(cases: Cases, image: str, key: str) -> Path:
    """Return the file of a layer that is kept."""
    if key.startswith(SUBMISSION):
        return Path(submitted(image, int(key.removeprefix(SUBMISSION))).path)
    if key == DRAWING:
        path = cases.drawings.current(image)
    elif key == START:
        path = cases.begun(image)
    else:
        versions = cases.context.label_service.versions
        version = shown_label(image, key) or versions.current(image, key)
        path = version.path if version is not None else None
    if path is None:
        raise NotFoundError("label", f"{key} of {image}")
    return path


def _sent(array: Any, grid: Grid) -> FileResponse:
    made = write_nifti(temporary_path(".nii.gz"), array, grid, sync=False)
    done = BackgroundTask(made.unlink, missing_ok=True)
    return FileResponse(made, media_type="application/gzip", background=done)
