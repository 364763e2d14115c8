"""Routes of strokes on the page of a case: decide a doubt, nothing is kept or submitted."""

from __future__ import annotations

import time
import zlib
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, File, Form, Response, UploadFile

from atlas8k.core.grid import Grid
from atlas8k.core.grid_alignment import Box
from atlas8k.core.resample import on_canonical_axes, on_own_axes
from atlas8k.core.structures import find_organ
from atlas8k.core.volume import read_grid
from atlas8k.refine.strokes import Strokes
from atlas8k.server.blind import from_scratch
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.routes.cases import WORKER, ClientId, cases_of, part_of
from atlas8k.server.workspace import workspace
from atlas8k.services.errors import NotFoundError, RequestError, TooLargeError
from atlas8k.services.strokes import By

router = APIRouter(prefix="/atlas8k/cases", tags=["Cases"], route_class=GuardedRoute)
MOST_BYTES = 64 << 20
"""Of an unpacked label block, and of strokes."""
SCRATCH = "you read this CT from scratch: decided from intensities alone"


@router.get("/{image}/strokes", summary="Whether a stroke waits for networks", dependencies=WORKER)
def ready(image: str, client_id: ClientId = None) -> dict[str, Any]:
    """``ready``: nobody waits for networks, which have predicted the CT before.

    ``nninteractive``: null where no server of it is set; else the ``licence`` of its weights,
    and ``why_not`` where it cannot be asked now.
    """
    cases_of(client_id).look(image)
    service = workspace().strokes
    found: dict[str, Any] = {"image": image, "ready": service.ready(image), "nninteractive": None}
    if service.outside is not None:
        found["nninteractive"] = asdict(service.outside.about())
    return found


@router.post("/{image}/strokes", summary="Change an organ by strokes", dependencies=WORKER)
def strokes(
    image: str,
    organ: Annotated[str, Form(max_length=80)],
    region: Annotated[str, Form(max_length=40)],
    label: Annotated[UploadFile, File(description="uint8 of the region, deflated")],
    inside: Annotated[UploadFile | None, File(description="uint16 triples, organ")] = None,
    outside: Annotated[UploadFile | None, File(description="uint16 triples, not organ")] = None,
    box: Annotated[str, Form(max_length=40)] = "",
    by: Annotated[By, Form()] = "networks",
    client_id: Annotated[ClientId, Form()] = None,
) -> Response:
    """Return the label of a region as strokes have it; nothing is kept.

    Voxels are counted as a viewer shows them: from left to right, back to front, foot to head, the
    first axis fastest, within ``box``, the block of the CT that is shown. ``region``: first voxel
    and the one after the last of the label that is sent, six numbers. ``by``: what decides; the
    server of ``nninteractive`` may change all of the region. The reply is the region's label,
    deflated.
    """
    begun = time.monotonic()
    found = find_organ(organ)
    if found is None:
        raise NotFoundError("organ", organ)
    cases = cases_of(client_id)
    cases.look(image)
    grid = read_grid(workspace().studies.image_path(image)).served
    part = part_of(box, grid).box if box else tuple(slice(0, n) for n in grid.shape)
    shown = grid.crop((part[0], part[1], part[2]))
    turned = shown.canonical()
    where = part_of(region, turned).box
    sent = on_own_axes(_unpacked(label, where), shown)
    start = _block(where, shown, part)
    marks = [_points(one, shown, part) for one in (inside, outside)]
    scratch = from_scratch(image, client_id)
    answer = workspace().strokes.answer(
        *(image, found, sent, Strokes(*marks)),
        box=start,
        predicted=not scratch,
        by=by,
        asked_by=cases.keys,
    )
    out = sent.copy()
    added = removed = 0
    if answer.box is not None and answer.refined is not None:
        at = tuple(
            slice(s.start - first.start, s.stop - first.start)
            for s, first in zip(answer.box, start, strict=True)
        )
        out[at] = answer.refined.label
        added, removed = answer.refined.added, answer.refined.removed
    packed = zlib.compress(on_canonical_axes(out, shown).tobytes(order="F"), 1)
    note = SCRATCH if scratch and answer.box is not None else answer.note
    headers = {
        "X-Added-Ml": f"{added * grid.voxel_ml:.1f}",
        "X-Removed-Ml": f"{removed * grid.voxel_ml:.1f}",
        "X-Note": note.encode("ascii", "replace").decode(),
        "X-Seconds": f"{time.monotonic() - begun:.2f}",
    }
    return Response(packed, media_type="application/octet-stream", headers=headers)


def _read(file: UploadFile, packed: bool) -> bytes:
    data = file.file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise TooLargeError("strokes: more than 64 MiB were sent; send a smaller region")
    if not packed:
        return data
    try:
        unpack = zlib.decompressobj()
        out = bytes(unpack.decompress(data, MOST_BYTES + 1))
    except zlib.error as err:
        raise RequestError(f"label: not deflated ({err})") from err
    if len(out) > MOST_BYTES:
        raise TooLargeError("label: more than 64 MiB unpacked; send a smaller region")
    return out


def _unpacked(file: UploadFile, where: Box) -> npt.NDArray[np.uint8]:
    shape = tuple(s.stop - s.start for s in where)
    data = np.frombuffer(_read(file, packed=True), dtype=np.uint8)
    if data.size != np.prod(shape):
        raise RequestError(f"label: {data.size} voxels were sent for a region of {shape}")
    return data.reshape(shape, order="F")


def _points(file: UploadFile | None, shown: Grid, part: Any) -> npt.NDArray[np.intp]:
    """Return voxels of the CT's own array, ``(n, 3)``, of those that a viewer counts."""
    if file is None:
        return np.zeros((0, 3), dtype=np.intp)
    data = _read(file, packed=False)
    if len(data) % 6:
        raise RequestError("strokes: triples of uint16 are needed, a voxel each")
    points = np.frombuffer(data, dtype="<u2").reshape(-1, 3).astype(np.intp)
    index_map = np.linalg.solve(shown.affine, shown.canonical().affine)
    found = np.rint(points @ index_map[:3, :3].T + index_map[:3, 3]).astype(np.intp)
    out: npt.NDArray[np.intp] = found + [s.start for s in part]
    return out


def _block(where: Box, shown: Grid, part: Any) -> Box:
    """Return a region that a viewer counts as a block of the CT's own array."""
    ends = np.array([[s.start for s in where], [s.stop - 1 for s in where]])
    index_map = np.linalg.solve(shown.affine, shown.canonical().affine)
    found = np.rint(ends @ index_map[:3, :3].T + index_map[:3, 3]).astype(int)
    low, high = found.min(axis=0), found.max(axis=0) + 1
    x, y, z = (
        slice(int(a) + s.start, int(b) + s.start) for a, b, s in zip(low, high, part, strict=True)
    )
    return x, y, z
