"""Saving a label of 512 x 512 x 300 voxels, beside MONAI Label's own server.

Both are real servers, started as a user starts them, one after the other in one run, over
the same CTs. Each label is sent as three clients send it: NIfTI, 3D Slicer's ``.seg.nrrd``,
and NIfTI cropped to the organs. Ours reads the file, checks it, compares it with the start
label, keeps it with its history and puts the draft label together anew; the peer, MONAI
Label's local datastore, copies the file and looks at nothing.

What is reported as a save is the time beyond the transfer: the same bytes are also sent
for a CT that is not there, which is refused when all of them have come, and the median of
that is taken off. Meanwhile somebody else asks for ``/info/``, over and over.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import numpy.typing as npt
import requests

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._quick import parse, report
from tests.benchmarks.queue_scale import Figures, Material, percentiles
from tests.e2e.harness import Server, running

from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.services.labels.service import LabelService
from atlas8k.store import OrganSource

Labels = npt.NDArray[np.uint8]
SHAPE = (512, 512, 300)
SPACING_MM = (-0.8, 0.8, 2.0, 1.0)
CLIENTS = ("nifti", "seg_nrrd", "cropped")
INFO_EVERY_S = 0.05
INFO = [{"name": name, "idx": number} for name, number in ORGAN_IDS.items()]


def organs(shape: tuple[int, int, int]) -> Labels:
    """Nine ellipsoids of some tenth of the volume, edges as rough as networks leave them."""
    axes = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    rough = np.random.default_rng(0).normal(0, 0.01, shape).astype(np.float32)
    array = np.zeros(shape, np.uint8, order="F")
    for number in ORGAN_IDS.values():
        centre = 0.45 * np.array([np.cos(number), np.sin(number), (number - 5) / 6])
        distance = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))
        array[distance + rough < 0.22**2] = number
    return array


def revision(start: Labels, n: int) -> Labels:
    """The draft label with the liver painted on."""
    array = start.copy(order="F")
    x, y, z = start.shape
    block = array[x * 2 // 5 : x // 2, y * 2 // 5 : y // 2, z // 3 : z * 2 // 5 + n]
    block[block == 0] = ORGAN_IDS["liver"]
    return array


def grid_of(array: Labels) -> Grid:
    """The CT's grid."""
    x, y, z = array.shape
    return Grid((x, y, z), np.diag(SPACING_MM))


def label_file(folder: Path, client: str, array: Labels, n: int) -> Path:
    """A label as a client writes it."""
    grid = grid_of(array)
    if client == "nifti":
        return write_nifti(folder / f"{n}.nii.gz", array, grid)
    if client == "cropped":
        where = [np.flatnonzero(array.any(axis=rest)) for rest in ((1, 2), (0, 2), (0, 1))]
        low = [int(found[0]) for found in where]
        part = array[tuple(slice(a, int(f[-1]) + 1) for a, f in zip(low, where, strict=True))]
        affine = np.array(grid.affine)
        affine[:3, 3] = (grid.affine @ [*low, 1])[:3]
        x, y, z = part.shape
        return write_nifti(folder / f"{n}.nii.gz", part, Grid((x, y, z), affine))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    header: dict[str, Any] = {
        "space": "left-posterior-superior",
        "space directions": lps[:3, :3].T,
        "space origin": lps[:3, 3],
        "kinds": ["domain"] * 3,
        "encoding": "gzip",
    }
    for name, number in ORGAN_IDS.items():
        segment = f"Segment{number - 1}"
        header |= {f"{segment}_Name": name, f"{segment}_LabelValue": str(number)}
        header |= {f"{segment}_ID": name, f"{segment}_Layer": "0"}
    path = folder / f"{n}.seg.nrrd"
    nrrd.write(str(path), array, header, index_order="F", compression_level=1)
    return path


class Saves:
    """What is sent: by client, some different labels."""

    def __init__(self, folder: Path, start: Labels, rounds: int) -> None:
        self.files: dict[str, list[Path]] = {}
        for client in CLIENTS:
            place = folder / client
            place.mkdir()
            self.files[client] = [
                label_file(place, client, revision(start, n), n) for n in range(rounds)
            ]

    @staticmethod
    def names(client: str) -> dict[str, Any]:
        """A file that names its segments itself needs no list of names."""
        return {} if client == "seg_nrrd" else {"label_info": INFO}


def send(server: Server, image: str, path: Path, info: Any) -> float:
    """Seconds until the answer has come; the status is for the caller to look at."""
    start = time.perf_counter()
    reply = requests.put(
        f"{server.url}/datastore/label?image={image}&tag=final",
        files={"label": (path.name, path.read_bytes())},
        data={"params": json.dumps({"client_id": "anna", **info})},
        timeout=120,
    )
    seconds = time.perf_counter() - start
    if reply.ok == (image == "nothing"):
        raise RuntimeError(f"{image}: {reply.status_code} {reply.text[:500]}")
    return seconds


class Meanwhile:
    """Somebody who asks for ``/info/`` while the block runs."""

    def __init__(self, server: Server) -> None:
        self.seconds: list[float] = []
        self._url, self._stop = f"{server.url}/info/", threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        http = requests.Session()
        while not self._stop.is_set():
            start = time.perf_counter()
            http.get(self._url, timeout=120).raise_for_status()
            self.seconds.append(time.perf_counter() - start)
            self._stop.wait(INFO_EVERY_S)

    def __enter__(self) -> Meanwhile:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def studies_of(folder: Path, start: Labels, images: list[str], *, stock: bool) -> Path:
    studies = folder / ("stock-studies" if stock else "studies")
    studies.mkdir()
    grid = grid_of(start)
    first = write_nifti(studies / f"{images[0]}.nii.gz", np.zeros(grid.shape, np.int16), grid)
    for image in images[1:]:
        os.link(first, studies / f"{image}.nii.gz")
    if stock:
        labels = studies / "labels" / "original"
        labels.mkdir(parents=True)
        for image in images:
            write_nifti(labels / f"{image}.nii.gz", start, grid)
        return studies
    label_service = LabelService.open(studies)
    label_service.ledger.register_model_version("networks")
    for image in images:
        label_service.keep_pseudo(image, start, grid, {"model_version": "networks"})
    # The costlier way for one of them: the draft label is put together from three sources.
    aorta = np.where(start == ORGAN_IDS["aorta"], start, 0).astype(np.uint8)
    label_service.keep_public(
        images[-1], aorta, grid, {"aorta": OrganSource("public", "present", "BTCV")}
    )
    label_service.close()
    return studies


def measure(
    material: Material,
    start: Labels,
    saves: Saves,
    images: list[str],
    quiet_s: float,
    *,
    stock: bool,
) -> Figures:
    studies = studies_of(material.folder, start, images, stock=stock)
    app = material.stock_app() if stock else material.own_app()
    figures: Figures = {}
    with running(app, studies, material.folder) as server:
        first = saves.files["nifti"][0]
        send(server, images[0], first, saves.names("nifti"))  # what is imported late
        with Meanwhile(server) as quiet:
            time.sleep(quiet_s)
        figures |= percentiles("info_quiet", quiet.seconds)
        busy: list[float] = []
        for client in CLIENTS:
            names = saves.names(client)
            transfers = [send(server, "nothing", p, names) for p in saves.files[client]]
            transfer = statistics.median(transfers)
            for image, suffix in ((images[1], ""), (images[-1], "_with_public")):
                with Meanwhile(server) as meanwhile:
                    taken = [send(server, image, p, names) for p in saves.files[client]]
                busy += meanwhile.seconds
                beyond = sorted(max(0.0, seconds - transfer) for seconds in taken)
                name = f"{client}{suffix}"
                figures[f"{name}_median_s"] = round(statistics.median(beyond), 3)
                figures[f"{name}_max_s"] = round(beyond[-1], 3)
            figures[f"{client}_transfer_s"] = round(transfer, 3)
            figures[f"{client}_mb"] = round(saves.files[client][0].stat().st_size / 1e6, 2)
        figures |= percentiles("info_busy", busy)
        figures["info_busy_max_ms"] = round(1000 * max(busy), 1)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="labels a client")
    parser.add_argument("--without-peer", action="store_true", help="ours alone, for a profiler")
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, help="of CT and label")
    parser.add_argument("--quiet", type=float, default=5.0, help="seconds in which nobody saves")
    given = parse(parser, {"rounds": 2, "shape": (64, 60, 40), "quiet": 1.0})
    # Scoring by the server itself would run networks meanwhile; both do without.
    os.environ["MONAI_LABEL_AUTO_UPDATE_SCORING"] = "false"
    images = ["warm", "plain", "disputed"]
    with tempfile.TemporaryDirectory() as folder:
        material = Material(Path(folder))
        start = organs(tuple(given.shape))
        saves = Saves(Path(folder), start, given.rounds)
        ours = measure(material, start, saves, images, given.quiet, stock=False)
        print(f"ours : {json.dumps(ours)}", flush=True)
        stock: Figures = {}
        if not given.without_peer:
            stock = measure(material, start, saves, images, given.quiet, stock=True)
            print(f"stock: {json.dumps(stock)}", flush=True)
    figures = ours | {f"stock_{name}": value for name, value in stock.items()}
    report("save_label", figures, given)


if __name__ == "__main__":
    main()
