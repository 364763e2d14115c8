"""A server with tiny networks and three small CTs: answers in milliseconds, one for a module."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import requests
from tests.e2e.harness import APP, Server, running
from tests.server.tiny import GRID, write_ct, write_networks

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import write_nifti

IMAGES = ("a", "b", "c")
LIMIT_S = 60


@contextlib.contextmanager
def small_server(
    folder: Path,
    *more: str,
    images: tuple[str, ...] = IMAGES,
    main: str = "",
    alike: bool = False,
) -> Iterator[Server]:
    """Start one in `folder`, with further arguments of the command line.

    `main` is what follows in the app's ``main.py``; `alike`: all CTs are the same.
    """
    app, studies = folder / "app", folder / "studies"
    app.mkdir()
    studies.mkdir()
    (app / "main.py").write_text((APP / "main.py").read_text() + main)
    write_networks(app / "model")
    for seed, name in enumerate(images):
        write_ct(studies / f"{name}.nii.gz", 0 if alike else seed)
    with running(app, studies, folder, *more) as server:
        yield server


def label_bytes(folder: Path, organ: int = 5) -> bytes:
    """A label map of one organ that fits every CT: 180 voxels, 389 ml."""
    array = np.zeros(GRID.shape, np.uint8)
    array[8:14, 8:13, 6:12] = organ
    return write_nifti(folder / f"label{organ}.nii.gz", array, GRID).read_bytes()


def put_label(server: Server, content: bytes, image: str = "a", **more: Any) -> requests.Response:
    """Submit a label."""
    return requests.put(
        f"{server.url}/datastore/label?image={image}",
        files={"label": ("label.nii.gz", content)},
        data={"params": json.dumps({"client_id": "small", "volume_is_right": list(ORGAN_NAMES)})},
        timeout=LIMIT_S,
        **more,
    )


def get_label(server: Server, image: str = "a", **more: Any) -> bytes:
    """The submitted label as the server has it."""
    where = f"{server.url}/datastore/label?label={image}&tag=final"
    answer = requests.get(where, timeout=LIMIT_S, **more)
    assert answer.status_code == 200, answer.text
    return answer.content
