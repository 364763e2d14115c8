"""Sixteen further structures learnt in two rounds, over HTTP with MONAI Label's own client.

Usage: ``python tests/benchmarks/extend_structures.py --work FOLDER [--table]``

A server with ``--conf structures abdomenatlas-1.1`` and two small networks that know nine of the
25 (the embedded U-Net and nnU-Net, brought to 6 mm as ``_tuning_place`` does it) serves ten CTs
painted on s0001, s0004, s0006 and s0328. Each round the client scores, takes five samples by
attention, submits the true label of each and has the U-Net fine-tuned; then the result is exported.
The CTs show the whole body that a map has. Celiac trunk, hepatic vessel and rectum are in no map:
nobody says anything of them. Judged is the ensemble's label of CTs painted on s0327, on which
nothing was trained or chosen, sent as sessions, before and after each round.

What was done is written down in FOLDER: a run that was ended, or killed, goes on when the command
is repeated; ``--table`` prints what is known meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._data import BODIES
from tests.benchmarks._quick import parse, print_markdown, report
from tests.e2e.harness import APP, Server, running

from atlas8k.core.files import read_json, write_json
from atlas8k.core.structure_sets import NINE, built_in
from atlas8k.core.structures import use
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.metrics.overlap import dsc

SET = built_in("abdomenatlas-1.1")
UNKNOWN = ("celiac_trunk", "hepatic_vessel", "rectum")
NETWORK = "unet"
"""The one that learns."""
LEARNT_ON = (("s0004", 3), ("s0328", 3), ("s0006", 2), ("s0001", 2))
HELD_OUT, JUDGED = "s0327", 2
FIRST_SEED = 67_000
"""No other training or benchmark paints these."""
LARGE_ML = 20.0
CT_MM = 4.0
EACH_ROUND = 5
WAIT_S = 6 * 3600.0
TRAINING = {
    "batch_size": 1,
    "averaging": 0.97,
    "balance": 0,
    "balance_loss": 1,
    "workers": 0,
    "patch": [48, 48, 48],
    "augment": 0.5,
    "validation": 0,
    "optimisers": {NETWORK: {"lr": 2e-3}},
}
"""Larger than a round's rates: the new outputs begin from random weights."""


@dataclass(frozen=True)
class Ct:
    """A synthetic CT and its truth, as files."""

    name: str
    path: Path
    truth: Path


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder of what is kept between runs")
    parser.add_argument("--steps", default="260,260", help="of the U-Net in each round")
    parser.add_argument("--table", action="store_true", help="run nothing; print what is known")
    options = parse(parser, {"steps": "1"}, arguments)
    with tempfile.TemporaryDirectory() as temporary:
        fallback = Path(tempfile.gettempdir()) / "atlas8k-extend-structures"
        work = Path(temporary) if options.quick else options.work or fallback
        if not options.table:
            run(work, options)
        figures = table(work)
    report("extend_structures", {k: round(v, 4) for k, v in figures.items()}, options)


def run(work: Path, options: argparse.Namespace) -> None:
    """Everything that was not done yet."""
    from tests.benchmarks import _extended_material as material

    if options.quick:
        learnt, judged = material.tiny(work)
    elif not BODIES.is_dir():
        raise SystemExit(f"no bodies: {BODIES} is not there")
    else:
        learnt, judged = material.painted(work)
    app = work / "app"
    app.mkdir(exist_ok=True)
    shutil.copy(APP / "main.py", app)
    use(SET)
    done = Done(work / "done.json")
    training = {**TRAINING, **({"patch": [16, 16, 16]} if options.quick else {})}
    conf = {
        "structures": SET.name,
        "gate": "false",
        "score_new_s": "0",  # when it is asked for
        "training": json.dumps(training, separators=(",", ":")),
    }
    settings = [word for key, value in conf.items() for word in ("--conf", key, value)]
    with running(app, work / "studies", work, *settings) as server:
        circle(server, done, learnt, judged, options)
    if not done.has("exported"):
        done.enter("exported", export(work))


def circle(
    server: Server,
    done: Done,
    learnt: Sequence[Ct],
    judged: Sequence[Ct],
    options: argparse.Namespace,
) -> None:
    """Score, sample, submit, train, judge; what was done before is not done again."""
    client = server.client("anna")
    assert client.info()["labels"] == list(SET.names)
    done.once("judged_0", lambda: judge(server, judged))
    each = 1 if options.quick else EACH_ROUND
    for number, steps in enumerate(map(int, options.steps.split(",")), start=1):
        done.once(f"scored_{number}", lambda: server.score(WAIT_S)["status"])
        for place in range(each):
            done.once(f"submitted_{number}_{place}", lambda: submit(server, learnt))
        epochs = max(1, steps // 20)
        request = {
            "networks": NETWORK,
            "max_epochs": epochs,
            "steps_per_epoch": steps // epochs,
        }

        def train(request: dict[str, Any] = request) -> Any:
            begun = time.monotonic()
            client.train_start("atlas8k", request)
            task = server.finish("train", WAIT_S)
            assert task["status"] == "DONE", server.text()[-4000:]
            return {
                "minutes": round((time.monotonic() - begun) / 60, 1),
                "version": client.info()["atlas8k"]["model_version"],
            }

        done.once(f"trained_{number}", train)
        done.once(f"judged_{number}", lambda: judge(server, judged))


def submit(server: Server, learnt: Sequence[Ct]) -> str:
    """Take the next sample and submit its true label; nothing of what no map has."""
    client = server.client("anna")
    sample = client.next_sample("attention", {})
    truth = read_label(next(ct.truth for ct in learnt if ct.name == sample["id"]))
    there = {SET.names[value - 1] for value in np.unique(truth.array) if value}
    known = [name for name in SET.names if name not in UNKNOWN]
    table = np.zeros(256, np.uint8)  # as 3D Slicer: values are places in the list of names
    table[[SET.ids[name] for name in known]] = np.arange(1, len(known) + 1)
    params = {
        "label_info": [{"name": name, "idx": i} for i, name in enumerate(known, start=1)],
        "looked_at": known,
        "absent": [name for name in known if name not in there],
        "volume_is_right": known,
    }
    with tempfile.TemporaryDirectory() as folder:
        sent = write_nifti(Path(folder) / "sent.nii.gz", table[truth.array], truth.grid)
        client.save_label(sample["id"], str(sent), params=params)
    return str(sample["id"])


def judge(server: Server, judged: Sequence[Ct]) -> list[dict[str, Any]]:
    """DSC and true ml by structure of each held-out CT, and what no map has as predicted."""
    out = []
    for ct in judged:
        client = server.client("judge")
        session = client.create_session(str(ct.path))["session_id"]
        file, _ = client.infer("ensemble", "", {"form": "label"}, session_id=session)
        client.remove_session(session)
        label, truth = read_label(file), read_label(ct.truth)
        ml = np.bincount(truth.array.ravel(), minlength=256)[1:] * truth.grid.voxel_ml
        values = dsc(label.array, truth.array)
        out.append(
            {
                "ct": ct.name,
                "dsc": {n: round(float(v), 4) for n, v in zip(SET.names, values, strict=True)},
                "ml": {n: round(float(v), 1) for n, v in zip(SET.names, ml, strict=False)},
                "unknown_voxels": int(np.isin(label.array, [SET.ids[n] for n in UNKNOWN]).sum()),
            }
        )
    return out


def export(work: Path) -> dict[str, Any]:
    """The labels as a dataset: how many are revised, and how many of what no map has."""
    out = work / "export"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "atlas8k", "export", str(out), "--studies"]
    more = ["--layout", "abdomenatlas", "--require", "any"]
    subprocess.run([*command, str(work / "studies"), *more], check=True, stdout=subprocess.DEVNULL)
    lines = (out / "manifest.csv").read_text(encoding="utf-8").splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=False)) for line in lines[1:]]
    return {
        "revised": sum(row["source"] == "revised" for row in rows),
        "of_unknown": sum(
            row["organ"] in UNKNOWN and row["source"] in ("revised", "public", "pseudo")
            for row in rows
        ),
    }


class Done:
    """What was done, in a file that is whole at every instant."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Any] = read_json(path) if path.exists() else {}

    def has(self, name: str) -> bool:
        """Whether it was done."""
        return name in self.entries

    def enter(self, name: str, result: Any) -> None:
        """Write down that it was done."""
        self.entries[name] = result
        write_json(self.path, self.entries)

    def once(self, name: str, work: Any) -> None:
        """Do it where it was not done; print how long it took."""
        if self.has(name):
            return
        begun = time.monotonic()
        self.enter(name, work())
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)


def table(work: Path) -> dict[str, float]:
    """Print DSC by structure before and after each round; the figures."""
    done = Done(work / "done.json")
    rounds = [n for n in range(100) if done.has(f"judged_{n}")]
    if not rounds:
        return {}
    means = {n: _means(done.entries[f"judged_{n}"]) for n in rounds}
    first, last = means[rounds[0]], means[rounds[-1]]
    rows = []
    for name in SET.names:
        if name in last:
            rows.append({"structure": name, "ml": f"{last[name][1]:.0f}"})
            rows[-1] |= {f"round {n}": f"{means[n][name][0]:.3f}" for n in rounds}
    print_markdown(rows)
    large = [n for n in last if n not in NINE and last[n][1] > LARGE_ML]
    nine = [n for n in NINE if n in last]
    change = {n: last[n][0] - first[n][0] for n in nine}
    figures = {
        "rounds": float(rounds[-1]),
        "large": float(len(large)),
        "large_above_half": float(sum(last[n][0] > 0.5 for n in large)),
        "least_large": min((last[n][0] for n in large), default=float("nan")),
        "mean_large": float(np.mean([last[n][0] for n in large])) if large else float("nan"),
        "nine_before": float(np.mean([first[n][0] for n in nine])),
        "nine_after": float(np.mean([last[n][0] for n in nine])),
        "nine_least_change": min(change.values()),
        "unknown_voxels": float(
            sum(one["unknown_voxels"] for n in rounds for one in done.entries[f"judged_{n}"])
        ),
        "minutes_trained": sum(
            done.entries.get(f"trained_{n}", {}).get("minutes", 0.0) for n in rounds
        ),
    }
    if done.has("exported"):
        figures |= {f"exported_{k}": float(v) for k, v in done.entries["exported"].items()}
    return figures


def _means(cases: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """DSC and ml by structure, means over the CTs that have a voxel of it."""
    out = {}
    for name in SET.names:
        here = [case for case in cases if case["ml"][name] > 0]
        if here:
            values = [case["dsc"][name] for case in here]
            out[name] = float(np.mean(values)), float(np.mean([c["ml"][name] for c in here]))
    return out


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
