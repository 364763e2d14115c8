"""What an annotator waits for at 100 to 100,000 volumes, beside MONAI Label's own server.

Both are real servers, started as a user starts them, over the same folder of tiny CTs that
are all scored; a second process scores meanwhile: it records a score and keeps a pseudo
label, over and over. Ours: this project's app. Peer: MONAI Label's local datastore and
Epistemic strategy, up to 8,448 volumes, with its scores where it keeps them, in the
datastore's JSON.

Measured over HTTP: next sample; everything 3D Slicer's *Next Sample* button asks for
(sample, image, ``datastore?output=all``, label, info, train); saving a label. In the
scoring process: recording one score. And the start, from the command to the first answer. Of
ours, memory: what the server has after its first answer, and what it has more after all that and
every page of the list with pictures of some volumes.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._quick import parse, report
from tests.e2e.harness import APP, Server, running
from tests.models.tiny import ARCHITECTURES, tiny

from atlas8k.core.settings import Settings
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.models.store import ModelStore
from atlas8k.server.archive_datastore import datastore_of
from atlas8k.services.opening import open_context
from atlas8k.store import OrganScore, locate

Figures = dict[str, float]
SIZES = (100, 1_000, 8_448, 100_000)
STOCK_LIMIT = 8_448
PAGES = {
    "list": "/atlas8k/list",
    "list_searched": "/atlas8k/list?q=0042",
    "campaign_page": "/atlas8k/",
    "landing": "/",
}
SEEN_PAGES, SEEN_PICTURES = 200, 400
"""Pages of the list, and pictures of volumes, that are looked at before memory is measured."""
LINKS = 30_000
"""A file system allows some 65,000 names of one file."""

STOCK_APP = """
from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.activelearning.epistemic import Epistemic


class Stock(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        super().__init__(app_dir, studies, conf, name="stock", labels={labels!r})

    def init_strategies(self):
        return {{"epistemic": Epistemic()}}
"""


def percentiles(name: str, seconds: list[float]) -> Figures:
    ordered = sorted(seconds)
    return {
        f"{name}_p{p}_ms": round(1000 * ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 3)
        for p in (50, 99)
    }


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def volume_id(i: int) -> str:
    return f"BDMAP_{i:08d}"


class Material:
    """Tiny CTs under many names, one label that fits them all, tiny networks."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        self.grid = Grid((16, 16, 16), np.diag([4.0, 4.0, 4.0, 1.0]))
        self.label_array = rng.integers(0, 10, self.grid.shape).astype(np.uint8)
        self.label = write_nifti(folder / "label.nii.gz", self.label_array, self.grid)
        self.folder = folder

    def studies(self, n: int, kind: str) -> Path:
        """A folder of `n` volumes with a pseudo label each."""
        studies = self.folder / f"{kind}-{n}"
        labels = studies / "labels" / "original"
        labels.mkdir(parents=True)
        rng = np.random.default_rng(n)
        for i in range(n):
            name = f"{volume_id(i)}.nii.gz"
            if i % LINKS == 0:
                ct = rng.integers(-1000, 1000, self.grid.shape).astype(np.int16)
                first = write_nifti(studies / name, ct, self.grid)
            else:
                os.link(first, studies / name)
            # No links: MONAI Label writes into the file that is there.
            shutil.copyfile(self.label, labels / name)
        return studies

    def own_app(self) -> Path:
        """Our app with networks that need not be good."""
        app = self.folder / "app"
        if not app.exists():
            app.mkdir()
            shutil.copy(APP / "main.py", app)
            store = ModelStore(app / "model")
            store.publish({name: tiny(name) for name in ARCHITECTURES})
        return app

    def stock_app(self) -> Path:
        app = self.folder / "stock"
        app.mkdir(exist_ok=True)
        (app / "main.py").write_text(STOCK_APP.format(labels=list(ORGAN_NAMES)))
        return app


def sizes(rng: random.Random) -> dict[str, OrganScore]:
    """Scores of a volume, with the figures of every ranking."""
    return {
        organ: OrganScore(
            *(rng.lognormvariate(0.5, 1.2), 1.0, 1.0, 1.0),
            {
                "salient": rng.lognormvariate(0.5, 1.2),
                "per_slice": 1.0,
                "pairwise_dice": 0.1,
                "epistemic_sum": 2.0,
                "findings": 0.0,
            },
        )
        for organ in ORGAN_NAMES
    }


# --- the process that scores meanwhile ------------------------------------------------------


def score_with_ours(studies: Path, app: Path, n: int, ready: Any, stop: Any, out: Any) -> None:
    context = open_context(Settings.from_conf({}), str(studies), app / "model")
    model_version, rng = context.model_version(), random.Random(1)
    ct = Path(datastore_of(context).get_image_uri(volume_id(0)))
    label = ct.parent / "labels" / "original" / ct.name
    seconds = []
    ready.set()
    while not stop.is_set():
        volume, scores = volume_id(rng.randrange(n)), sizes(rng)
        seconds.append(
            timed(lambda v=volume, s=scores: context.ledger.record_score(v, model_version, s))
        )
        context.studies.save_label(volume, "original", label, {"model": "ensemble"})
        time.sleep(0.02)  # a prediction lies between
    out.put(seconds)


def score_with_stock(studies: Path, app: Path, n: int, ready: Any, stop: Any, out: Any) -> None:
    from monailabel.datastore.local import LocalDatastore

    datastore = LocalDatastore(str(studies), extensions=("*.nii.gz", "*.nii"), auto_reload=True)
    rng = random.Random(1)
    label = str(studies / "labels" / "original" / f"{volume_id(0)}.nii.gz")
    copy = shutil.copy(label, studies.parent / "scored.nii.gz")
    seconds = []
    ready.set()
    while not stop.is_set():
        volume = volume_id(rng.randrange(n))
        info = {"epistemic_entropy": rng.random()}
        # Its own processes lose the image under each other's feet; go on as ours must.
        with contextlib.suppress(Exception):
            seconds.append(timed(lambda v=volume, i=info: datastore.update_image_info(v, i)))
            datastore.save_label(volume, str(copy), "original", {"model": "ensemble"})
        time.sleep(0.02)
    out.put(seconds)


@contextlib.contextmanager
def scoring(
    target: Callable[..., None], studies: Path, app: Path, n: int, seconds: list[float]
) -> Iterator[None]:
    """A process that scores while the block runs; its times are in `seconds` afterwards."""
    context = multiprocessing.get_context("spawn")
    ready, stop, out = context.Event(), context.Event(), context.Queue()
    process = context.Process(target=target, args=(studies, app, n, ready, stop, out), daemon=True)
    process.start()
    try:
        if not ready.wait(600):
            raise TimeoutError("the scoring process does not begin")
        yield
        stop.set()
        seconds.extend(out.get(timeout=120))
        process.join(60)
    finally:
        process.kill()


# --- what is asked over HTTP ----------------------------------------------------------------


class Client:
    """One annotator; counts what failed."""

    def __init__(self, server: Server, strategy: str) -> None:
        self.url, self.strategy = server.url, strategy
        self.http = requests.Session()
        self.failed = 0

    def ask(self, method: str, path: str, **more: Any) -> bytes:
        """The reply's body, empty where it failed."""
        for _ in range(2):
            try:
                reply = self.http.request(method, f"{self.url}{path}", timeout=120, **more)
            except requests.ConnectionError:
                # The server may close a connection that was idle just as it is used again.
                self.http = requests.Session()
                continue
            except requests.RequestException:
                break  # cut short: the file was being overwritten
            if reply.ok:
                return reply.content
            break
        self.failed += 1
        return b""

    def next_sample(self) -> dict[str, Any]:
        body = {"client_id": "anna"}
        return dict(
            json.loads(self.ask("POST", f"/activelearning/{self.strategy}", json=body) or b"{}")
        )

    def button(self) -> None:
        """What 3D Slicer asks for when *Next Sample* is pressed."""
        image = self.next_sample().get("id", volume_id(0))
        self.ask("GET", f"/datastore/image?image={image}")
        json.loads(self.ask("GET", "/datastore/?output=all") or b"{}")
        self.ask("GET", f"/datastore/label?label={image}&tag=original")
        json.loads(self.ask("GET", "/info/") or b"{}")
        failed = self.failed
        self.ask("GET", "/train/?check_if_running=true")
        self.failed = failed  # 404 says that none runs

    def save_label(self, image: str, label: bytes) -> None:
        self.ask(
            "PUT",
            f"/datastore/label?image={image}&tag=final",
            files={"label": ("label.nii.gz", label)},
            data={"params": json.dumps({"client_id": "anna"})},
        )


def measure(server: Server, strategy: str, n: int, rounds: int, label: Path) -> tuple[Figures, int]:
    client, data = Client(server, strategy), label.read_bytes()
    rng = random.Random(n)
    # What this process has imported to prepare the folders is no part of a client: without
    # this, Python's collector goes through all of it when the client reads a large reply.
    gc.collect()
    gc.freeze()
    for _ in range(3):
        client.button()
    figures = percentiles("next_sample", [timed(client.next_sample) for _ in range(rounds)])
    buttons = [timed(client.button) for _ in range(max(10, rounds // 4))]
    figures |= percentiles("slicer_next_sample", buttons)
    volumes = [volume_id(rng.randrange(n)) for _ in range(max(10, rounds // 4))]
    saves = [timed(lambda v=v: client.save_label(v, data)) for v in volumes]
    figures |= percentiles("save_label", saves)
    if strategy == "attention":  # pages of ours
        for name, path in PAGES.items():
            asked = [
                timed(lambda p=path: client.ask("GET", p)) for _ in range(max(10, rounds // 2))
            ]
            figures |= percentiles(name, asked)
        for number in range(1, SEEN_PAGES + 1):
            client.ask("GET", f"/atlas8k/list?page={number}")
        for number in range(min(n, SEEN_PICTURES)):
            client.ask("GET", f"/atlas8k/thumbnail?image={volume_id(number)}")
    return figures, client.failed


def memory_mb(server: Server) -> float:
    """Memory that the processes of a server have for themselves, MB."""
    first = psutil.Process(server.process.pid)
    found = [one.memory_full_info().uss for one in (first, *first.children(recursive=True))]
    return round(sum(found) / 1e6, 1)


def prepare_ours(studies: Path, app: Path, n: int) -> None:
    """All volumes scored once, as after a night."""
    context = open_context(Settings.from_conf({}), str(studies), app / "model")
    context.sync()
    model_version, rng = context.model_version(), random.Random(0)
    for i in range(n):
        context.ledger.record_score(volume_id(i), model_version, sizes(rng))
    context.close()
    assert locate(str(studies)).exists()


def prepare_stock(studies: Path, n: int) -> None:
    """The scores in one go, as nobody's scoring writes them: that would take a quarter hour."""
    from monailabel.datastore.local import LocalDatastore

    datastore = LocalDatastore(str(studies), extensions=("*.nii.gz", "*.nii"))
    rng = random.Random(0)
    for i in range(n):
        datastore._datastore.objects[volume_id(i)].image.info["epistemic_entropy"] = rng.random()
    datastore._update_datastore_file()


def run(material: Material, n: int, rounds: int, *, stock: bool) -> Figures:
    studies = material.studies(n, "stock" if stock else "ours")
    if stock:
        app, strategy, scorer = material.stock_app(), "epistemic", score_with_stock
        prepare_stock(studies, n)
    else:
        app, strategy, scorer = material.own_app(), "attention", score_with_ours
        prepare_ours(studies, app, n)
    scored: list[float] = []
    started = time.perf_counter()
    with running(app, studies, material.folder) as server:
        figures = {"start_s": round(time.perf_counter() - started, 2)}
        figures["start_mb"] = memory_mb(server)
        with scoring(scorer, studies, app, n, scored):
            more, failed = measure(server, strategy, n, rounds, material.label)
        figures["grown_mb"] = round(memory_mb(server) - figures["start_mb"], 1)
    figures |= more
    figures["failed"] = float(failed)
    if scored:
        figures |= percentiles("record_score", scored)
    shutil.rmtree(studies)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument(
        "--rounds", type=int, default=500, help="next samples a size; a fifth of it for the peer"
    )
    parser.add_argument("--without-peer", action="store_true", help="ours alone, for a profiler")
    given = parse(parser, {"sizes": [40], "rounds": 20})
    # Scoring by the server itself would run networks meanwhile; both do without.
    os.environ["MONAI_LABEL_AUTO_UPDATE_SCORING"] = "false"
    table: dict[tuple[str, int], Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        material = Material(Path(folder))
        for n in given.sizes:
            for kind in ("ours", "stock"):
                if kind == "stock" and (n > STOCK_LIMIT or given.without_peer):
                    continue
                table[kind, n] = run(
                    material,
                    n,
                    given.rounds // (5 if kind == "stock" else 1),
                    stock=kind == "stock",
                )
                print(f"{kind:5} {n:7,}: {json.dumps(table[kind, n])}", flush=True)
    figures: Figures = {}
    for (kind, n), row in table.items():
        prefix = "stock_" if kind == "stock" else ""
        figures |= {f"{prefix}{name}_{n}": value for name, value in row.items()}
    small, large = 1_000, 100_000
    for name in ("next_sample", "record_score"):
        with contextlib.suppress(KeyError):
            before, after = (table["ours", n][f"{name}_p50_ms"] for n in (small, large))
            figures[f"{name}_growth"] = round(after / before, 2)
        with contextlib.suppress(KeyError):
            before, after = (table["stock", n][f"{name}_p50_ms"] for n in (small, STOCK_LIMIT))
            figures[f"stock_{name}_growth"] = round(after / before, 2)
    report("queue_scale", figures, given)


if __name__ == "__main__":
    main()
