"""Sixteen annotators at once on 8,448 volumes, beside MONAI Label's own server.

Both are real servers, started as a user starts them, one after the other in one run, over
the same folder of tiny CTs that are all scored. For two minutes each annotator asks for the
next sample, fetches the image, asks for info and saves a label, a second or so between two
actions: some hundred times as busy as a person. Meanwhile a second process scores (it
records a score and keeps a pseudo label, over and over), and a viewer has models run on a
larger CT, the next one a second after the last has ended.

Ours: this project's app, three networks and attention. Peer: MONAI Label's local datastore,
Epistemic strategy and ``BasicInferTask`` with one network of the same size on the same CT.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import requests
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._quick import parse, report
from tests.benchmarks.queue_scale import (
    STOCK_LIMIT,
    Figures,
    Material,
    percentiles,
    prepare_ours,
    prepare_stock,
    score_with_ours,
    score_with_stock,
    scoring,
    volume_id,
)
from tests.e2e.harness import APP, Server, running
from tests.server.tiny import NETWORKS, checkpoint

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.models.checkpoint import Preprocessing, save_checkpoint
from atlas8k.models.networks import build

ANNOTATORS = 16
PAUSE_S = (0.5, 1.5)
SPACING_MM, WINDOW = 3.0, 32
CT_GRID = Grid((64, 64, 48), np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0]))
"""Of the CT that models run on; those of the queue are of 16 voxels a side."""
LARGE = 120
"""Each once: answers are kept, and the same CT again would be no inference."""
LARGE_NAME = "ZZZ_large_{}"
MEASURED = ("next_sample", "info", "save_label")

STOCK_APP = """
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import (
    AsDiscreted, EnsureChannelFirstd, LoadImaged, ScaleIntensityRanged, SqueezeDimd, ToNumpyd
)
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.activelearning.epistemic import Epistemic
from monailabel.tasks.infer.basic_infer import BasicInferTask


class Organs(BasicInferTask):
    def pre_transforms(self, data=None):
        return [
            LoadImaged(keys="image"),
            EnsureChannelFirstd(keys="image"),
            ScaleIntensityRanged(keys="image", a_min=-175, a_max=250, b_min=0, b_max=1, clip=True),
        ]

    def inferer(self, data=None):
        return SlidingWindowInferer(roi_size=({window},) * 3, overlap=0.5)

    def post_transforms(self, data=None):
        return [
            AsDiscreted(keys="pred", argmax=True), SqueezeDimd(keys="pred"), ToNumpyd(keys="pred")
        ]


class Stock(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        super().__init__(app_dir, studies, conf, name="stock", labels={labels!r})

    def init_strategies(self):
        return {{"epistemic": Epistemic()}}

    def init_infers(self):
        network = UNet(
            spatial_dims=3, in_channels=1, out_channels=10, channels=(4, 8), strides=(2,),
            norm=("instance", {{"affine": True}}),
        )
        labels = {{name: number for number, name in enumerate({labels!r}, start=1)}}
        return {{"organs": Organs({weights!r}, network, InferType.SEGMENTATION, labels, 3, "")}}
"""


def own_app(folder: Path) -> Path:
    app = folder / "app"
    app.mkdir()
    shutil.copy(APP / "main.py", app)
    for name in NETWORKS:
        network = checkpoint(name)
        preprocessing = Preprocessing(spacing_mm=(SPACING_MM,) * 3, window_size=(WINDOW,) * 3)
        network = dataclasses.replace(network, preprocessing=preprocessing)
        save_checkpoint(app / "model" / "embedded" / f"{name}.safetensors", network)
    return app


def stock_app(folder: Path) -> Path:
    app = folder / "stock"
    app.mkdir()
    architecture = {"name": "unet", "out_channels": 10, "channels": [4, 8], "strides": [2]}
    weights = app / "network.pt"
    torch.save({"model": build(architecture).state_dict()}, weights)
    text = STOCK_APP.format(labels=list(ORGAN_NAMES), weights=str(weights), window=WINDOW)
    (app / "main.py").write_text(text)
    return app


def add_large(studies: Path, count: int) -> None:
    """The CTs that models run on: an ellipsoid of tissue in air."""
    axes = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in CT_GRID.shape)]
    inside = sum(axis**2 for axis in axes) < 0.8
    for seed in range(count):
        noise = np.random.default_rng(seed).normal(40, 60, CT_GRID.shape)
        ct = np.where(inside, noise, -1000).astype(np.int16)
        write_nifti(studies / f"{LARGE_NAME.format(seed)}.nii.gz", ct, CT_GRID)


class Load:
    """Everybody who uses the server, for a while; times by action, and what failed."""

    def __init__(self, server: Server, strategy: str, model: str, label: bytes, large: int) -> None:
        self.large = [LARGE_NAME.format(number) for number in range(large)]
        self.url, self.strategy, self.model, self.label = server.url, strategy, model, label
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.failures: dict[str, int] = defaultdict(int)
        self.end = 0.0

    def run(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        people: list[Callable[[], None]] = [
            lambda number=number: self.annotate(number)  # type: ignore[misc]
            for number in range(ANNOTATORS)
        ]
        threads = [threading.Thread(target=who) for who in (*people, self.view)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def ask(
        self, http: requests.Session, what: str, method: str, path: str, **more: Any
    ) -> requests.Response | None:
        """The reply, ``None`` where it is an error; its time is kept either way."""
        start = time.perf_counter()
        try:
            try:
                reply = http.request(method, f"{self.url}{path}", timeout=120, **more)
            except requests.ConnectionError:
                # The server may close a connection that was idle just as it is used again.
                reply = http.request(method, f"{self.url}{path}", timeout=120, **more)
        except requests.RequestException as error:
            self.failures[f"{what}: {type(error).__name__}"] += 1
            return None
        finally:
            self.seconds[what].append(time.perf_counter() - start)
        if not reply.ok:
            self.failures[f"{what}: {reply.status_code}"] += 1
            return None
        return reply

    def annotate(self, number: int) -> None:
        rng, http, who = random.Random(number), requests.Session(), f"anna-{number}"

        def pause() -> bool:
            """Whether there is time for more."""
            time.sleep(rng.uniform(*PAUSE_S))
            return time.monotonic() < self.end

        time.sleep(rng.uniform(0, 2))  # nobody begins with everybody else
        while pause():
            path = f"/activelearning/{self.strategy}"
            reply = self.ask(http, "next_sample", "POST", path, json={"client_id": who})
            sample = reply.json() if reply is not None else {}
            image = sample.get("id", volume_id(number))
            self.ask(http, "image", "GET", f"/datastore/image?image={image}")
            if pause():
                self.ask(http, "info", "GET", "/info/")
            if image not in self.large and pause():
                self.ask(
                    http,
                    "save_label",
                    "PUT",
                    f"/datastore/label?image={image}&tag=final",
                    files={"label": ("label.nii.gz", self.label)},
                    data={"params": json.dumps({"client_id": who})},
                )

    def view(self) -> None:
        """Have the model run, on one CT after the other."""
        http = requests.Session()
        for number in itertools.count():
            path = f"/infer/{self.model}?image={self.large[number % len(self.large)]}&output=image"
            self.ask(http, "inference", "POST", path, data={"params": "{}"})
            if time.monotonic() > self.end:
                return
            time.sleep(1.0)

    def warm_up(self) -> None:
        """One inference: networks are loaded, and kernels compiled, at the first."""
        path = f"/infer/{self.model}?image={self.large[-1]}&output=image"
        requests.post(f"{self.url}{path}", data={"params": "{}"}, timeout=600).raise_for_status()

    def figures(self) -> Figures:
        figures: Figures = {}
        for what in (*MEASURED, "image", "inference"):
            if self.seconds[what]:  # a server that hangs comes to some of it never
                figures |= percentiles(what, self.seconds[what])
            figures[f"{what}_count"] = len(self.seconds[what])
        figures["failed"] = sum(self.failures.values())
        return figures


def measure(material: Material, n: int, seconds: float, large: int, *, stock: bool) -> Figures:
    studies = material.studies(n, "stock" if stock else "ours")
    add_large(studies, large)
    if stock:
        app, strategy, model = stock_app(material.folder), "epistemic", "organs"
        prepare_stock(studies, n)
    else:
        app, strategy, model = own_app(material.folder), "attention", "ensemble"
        prepare_ours(studies, app, n)
    scored: list[float] = []
    with running(app, studies, material.folder) as server:
        load = Load(server, strategy, model, material.label.read_bytes(), large)
        load.warm_up()
        scorer = score_with_stock if stock else score_with_ours
        with scoring(scorer, studies, app, n, scored):
            load.run(seconds)
    figures = load.figures()
    figures["scores_recorded"] = len(scored)
    print(f"{'stock' if stock else 'ours '}: {json.dumps(figures)}", flush=True)
    if load.failures:
        print(f"       failed: {json.dumps(load.failures)}", flush=True)
    shutil.rmtree(studies)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="of load on each server")
    parser.add_argument("--volumes", type=int, default=STOCK_LIMIT)
    parser.add_argument("--without-peer", action="store_true", help="ours alone, for a profiler")
    parser.add_argument("--large", type=int, default=LARGE, help="CTs that models run on")
    given = parse(parser, {"seconds": 8.0, "volumes": 40, "large": 4})
    # Scoring by the server itself would run networks meanwhile; both do without.
    os.environ["MONAI_LABEL_AUTO_UPDATE_SCORING"] = "false"
    with tempfile.TemporaryDirectory() as folder:
        material = Material(Path(folder))
        ours = measure(material, given.volumes, given.seconds, given.large, stock=False)
        stock: Figures = {}
        if not given.without_peer:
            stock = measure(material, given.volumes, given.seconds, given.large, stock=True)
    figures = ours | {f"stock_{name}": value for name, value in stock.items()}
    report("server_load", figures, given)


if __name__ == "__main__":
    main()
