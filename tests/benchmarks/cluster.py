"""Scoring on a cluster beside scoring in one process, and what the one writer can take.

    python tests/benchmarks/cluster.py [--count 12] [--entries 200]

Phantoms, the embedded networks, a machine of two cores. Seconds a volume between the first
and the last that is entered: of one process with two threads (``process_s``), of a cluster of
one node with two workers of one thread each (``cluster_s``); ``overhead`` is the second over
the first, less one: below 0 two small workers are faster than two threads.

``writes_an_hour``: results of CTs of 512 x 512 x 300 voxels, as workers send them, unpacked and
entered by the driver's threads as fast as they can, label files and store: no more volumes an
hour come in, however many workers there are. ``workers_until_writer``: so many workers of
`process_s` keep it busy.

``hours_1``, ``hours_8``, ``hours_64``: 8,448 CTs of 512 x 512 voxels and 379 slices on average on
so many workers of one thread, as `atlas8k plan` says from twenty such CTs that a cluster of two
workers has scored; workers die, one in fifty hours, and the one writer takes what was
measured. ``planned_s`` and ``run_s``: what the plan says of twenty other CTs on two workers, and
what they took.
"""

from __future__ import annotations

import argparse
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._cluster_schedule import schedule
from tests.benchmarks._quick import parse, report
from tests.server.tiny import write_ct, write_networks

from atlas8k.core.settings import Settings
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.services.cluster.scoring import WRITERS
from atlas8k.services.opening import open_context
from atlas8k.services.prediction.answers import Answers
from atlas8k.services.scored import Scored
from atlas8k.store import Ledger, locate

ROOT = Path(__file__).parents[2]
EMBEDDED = ROOT / "apps/atlas8k/model"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of atlas8k to its end."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'lib'}",
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": "2",
    }
    return subprocess.run(
        [sys.executable, "-m", "atlas8k", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )


def seconds_a_volume(studies: Path, workers: int) -> float:
    """Seconds a volume between the first and the last entry.

    The first volume of each worker is left out: they end together, and so do the last ones.
    """
    ledger = Ledger(locate(str(studies)))
    try:
        with ledger.read() as tx:
            times = [at for (at,) in tx.run("SELECT at FROM result ORDER BY at")]
    finally:
        ledger.close()
    return float((times[-1] - times[0]) / (len(times) - workers))


def entries_an_hour(folder: Path, models: Path, count: int, slices: int) -> float:
    """How many results of large CTs are entered in an hour."""
    studies = folder / "large"
    studies.mkdir()
    shape = (512, 512, slices) if slices > 20 else (64, 64, slices)
    grid = Grid(shape, np.diag([-0.8, 0.8, 1.0, 1.0]))
    one = write_nifti(folder / "ct.nii.gz", np.zeros(shape, np.int16), grid)
    for number in range(count):
        os.link(one, studies / f"ct_{number:04d}.nii.gz")
    small = write_ct(folder / "small.nii.gz", 1)
    context = open_context(Settings(check_content=False), str(studies), models)
    try:
        _, answers, model_version = context.engine.answers(small)
        scored = result_on(answers, grid)
        context.sync(thorough=True)
        names = context.ledger.stale(context.model_version())
        sent = pickle.dumps(scored)

        def enter(name: str) -> None:
            pickle.loads(sent).keep(context, name, model_version, 1.0)

        started = time.monotonic()
        with ThreadPoolExecutor(WRITERS) as writers:
            for done in [writers.submit(enter, name) for name in names]:
                done.result()
        return 3600 * len(names) / (time.monotonic() - started)
    finally:
        context.close()


def result_on(answers: Answers, grid: Grid) -> Scored:
    """What a worker sends of a CT: the sizes of a small one, organs as boxes on a large grid."""
    small = Scored.of(answers, answers.grid, "large")
    label = np.zeros(grid.shape, np.uint8)
    x, y, z = grid.shape
    for organ in range(1, 10):
        label[organ * x // 12 : (organ + 1) * x // 12, y // 3 : 2 * y // 3, z // 4 : 3 * z // 4] = (
            organ
        )
    return Scored(
        grid, label, small.attention_ml, small.organs, small.explanation, small.traits,
        small.findings,
    )  # fmt: skip


def main() -> None:
    """Measure, print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=12, help="phantoms")
    parser.add_argument("--entries", type=int, default=200, help="results entered")
    parser.add_argument("--slices", type=int, default=300, help="of the CTs entered")
    options = parse(parser, {"count": 3, "entries": 4, "slices": 16})
    with tempfile.TemporaryDirectory(prefix="atlas8k-cluster-") as name:
        folder = Path(name)
        process, cluster = folder / "process", folder / "cluster"
        if options.quick:
            models = write_networks(folder / "model")
            for number in range(options.count):
                write_ct(process / f"ct_{number}.nii.gz", number)
        else:
            models = EMBEDDED
            count = ("--count", str(options.count), "--seed", "900", "--setting", "wide")
            run("phantoms", str(process), *count, "--labels", str(folder / "truth"))
            (process / "phantoms.json").unlink(missing_ok=True)
        shutil.copytree(process, cluster)
        run("score", str(process), "--models", str(models))
        run("score", str(cluster), "--models", str(models), "--cluster", "local", "--workers", "2")
        process_s, cluster_s = seconds_a_volume(process, 1), seconds_a_volume(cluster, 2)
        writes = entries_an_hour(folder, models, options.entries, options.slices)
        phantoms = [] if options.quick else sorted(process.glob("*.nii.gz"))
        planned = schedule(folder, models, phantoms, run, 3600 / writes)
    print("| | seconds a volume |\n| --- | --- |")
    print(f"| one process of two threads | {process_s:.2f} |")
    print(f"| a cluster of two workers of one thread | {cluster_s:.2f} |")
    print(f"\n{writes:,.0f} results of {options.slices} slices are entered in an hour")
    print("\n| workers of one thread | hours for 8,448 CTs | writer busy |\n| --- | --- | --- |")
    for number in (1, 8, 64):
        hours, busy = (planned[f"{name}_{number}"] for name in ("hours", "writer_busy"))
        print(f"| {number} | {hours:.1f} | {busy:.1%} |")
    report(
        "cluster",
        {
            "process_s": round(process_s, 3),
            "cluster_s": round(cluster_s, 3),
            "overhead": round(cluster_s / process_s - 1, 3),
            "writes_an_hour": round(writes),
            "workers_until_writer": round(writes * process_s / 3600, 1),
            **planned,
        },
        options,
    )


if __name__ == "__main__":
    main()
