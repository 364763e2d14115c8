"""``atlas8k plan``: hours, disk and network of a collection, from what its volumes cost so far."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.open_studies import ledger_of
from atlas8k.cli.options import AsJson, LedgerFile, Studies
from atlas8k.cli.rank import newest
from atlas8k.cli.terminal_tables import print_table
from atlas8k.core.errors import LedgerError

if TYPE_CHECKING:
    from atlas8k.store import Ledger

_MEMORY = {"memory": "memory", "gpu": "a GPU's memory"}
FEWEST = 20
"""Scored volumes that a plan rests on."""


def plan(
    studies: Studies = ".",
    ledger: LedgerFile = None,
    volumes: Annotated[
        int | None, typer.Option(min=1, help="of the collection; default: what is there")
    ] = None,
    workers: Annotated[str, typer.Option(help="numbers of workers to compare")] = "1,8,64",
    write_seconds: Annotated[
        float, typer.Option(min=0.0, help="that the one writer takes for a result")
    ] = 0.0,
    deaths_an_hour: Annotated[
        float, typer.Option(min=0.0, max=60.0, help="of a worker, on average")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Say what predicting a collection takes, from the volumes that are scored already.

    Score some twenty that are like the rest, on a worker as it will be. What is simulated
    hands out the largest first, loses volumes where workers die, and has one writer
    (its seconds: tests/benchmarks/cluster.py).
    """
    import numpy as np

    from atlas8k.services.cluster.schedule import drawn, simulate

    numbers = _numbers(workers)
    with ledger_of(studies, ledger) as book:
        seconds, megabytes = _measured(book)
        total = volumes or len(book.statuses())
        peak = book.peak_memory(newest(book))
    rng = np.random.default_rng(0)
    durations = drawn(seconds, total, rng)
    found = [
        simulate(durations, number, write_s=write_seconds, deaths_an_hour=deaths_an_hour, rng=rng)
        for number in numbers
    ]
    label_mb = _label_megabytes(Path(studies), len(seconds))
    disk_gb = None if label_mb is None else label_mb * total / 1000
    read_gb = float(np.mean(megabytes)) * total / 1000
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "volumes": total,
                    "measured": len(seconds),
                    "seconds_a_volume": round(float(np.mean(seconds)), 3),
                    "label_disk_gb": disk_gb,
                    "read_gb": round(read_gb, 3),
                    "peak_mb_a_worker": peak,
                    "schedules": [{**one._asdict(), "limit": one.limit} for one in found],
                },
                indent=1,
            )
        )
        return
    print_table(
        [
            {
                "workers": one.workers,
                "hours": f"{one.hours:.2f}",
                "workers busy": f"{one.workers_busy:.0%}",
                "writer busy": f"{one.writer_busy:.0%}" if write_seconds else "not known",
                "read MB/s": f"{read_gb * 1000 / max(one.hours * 3600, 1e-9):.1f}",
                "predicted twice": one.repeated,
                "memory GB": f"{peak['memory'] * one.workers / 1000:.0f}" if peak else "not known",
                "limited by": one.limit,
            }
            for one in found
        ],
        f"{total:,} volumes, {np.mean(seconds):.1f} s each on one worker "
        f"({len(seconds)} measured, {np.percentile(seconds, 5):.1f} to "
        f"{np.percentile(seconds, 95):.1f} s)",
        left=["limited by"],
    )
    disk = "not known" if disk_gb is None else f"{disk_gb:.1f} GB"
    typer.echo(f"label files: {disk}; CTs read: {read_gb:.1f} GB")
    most = [f"{mb / 1000:.1f} GB of {_MEMORY[what]}" for what, mb in peak.items()]
    typer.echo(f"a worker has taken up to {' and '.join(most) or 'an unknown amount of memory'}")


def _numbers(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as err:
        raise typer.BadParameter(f"--workers {text}: numbers with commas between them") from err
    if min(found) < 1 or max(found) > 100_000:
        raise typer.BadParameter(f"--workers {text}: 1 to 100,000")
    return found


def _measured(book: Ledger) -> tuple[list[float], list[float]]:
    """Return of each volume scored by the present networks its seconds, and its file's MB."""
    with book.read() as tx:
        rows = tx.run(
            "SELECT r.seconds, v.fingerprint FROM result r JOIN volume v ON v.id = r.volume"
            " JOIN model_version m ON m.id = r.model_version"
            " WHERE m.name = ? AND r.seconds IS NOT NULL AND r.reason IS NULL",
            newest(book),
        ).fetchall()
    if len(rows) < FEWEST:
        raise LedgerError(
            f"{len(rows)} volumes are scored by the present networks, and a plan rests on "
            f"{FEWEST} or more: score some that are like the rest, then ask again"
        )
    sizes = [str(mark).split("-")[0] for _, mark in rows]
    return (
        [float(seconds) for seconds, _ in rows],
        [int(size) / 1e6 for size in sizes if size.isdigit()] or [0.0],
    )


def _label_megabytes(studies: Path, scored: int) -> float | None:
    """Return what a scored volume's label files take, MB; ``None`` where there is no folder."""
    folder = studies / "labels"
    if not folder.is_dir():
        return None
    seen, total = set(), 0
    for path in folder.rglob("*.nii.gz"):
        stat = path.stat()
        if stat.st_ino not in seen:
            seen.add(stat.st_ino)
            total += stat.st_size
    return total / 1e6 / scored
