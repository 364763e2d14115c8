"""``atlas8k plan``: hours, disk and network of a collection, from what its volumes cost so far."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.open_studies import ledger_of
from atlas8k.cli.options import AsJson, LedgerFile, Studies
from atlas8k.cli.rank import newest
from atlas8k.cli.terminal_tables import print_table
from atlas8k.core.errors import LedgerError

if TYPE_CHECKING:
    from atlas8k.services.cluster.plan import Plan

NUMBERS = "1,8,64"


def plan(
    studies: Studies = ".",
    ledger: LedgerFile = None,
    volumes: Annotated[
        int | None,
        typer.Option(min=1, help="of the collection; default: what is there, or in --sizes FILE"),
    ] = None,
    workers: Annotated[
        str, typer.Option(help="numbers of workers without a GPU to compare; default: 1,8,64")
    ] = "",
    gpus: Annotated[str, typer.Option(help="numbers of GPUs to compare, a worker on each")] = "",
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="how large the CTs are: abdomenatlas, or a file with a line for each: its voxels, "
            "or its dimensions; default: like those scored",
        ),
    ] = None,
    seconds_per_million_voxels: Annotated[
        float | None, typer.Option(min=1e-6, help="in place of what was measured")
    ] = None,
    write_seconds: Annotated[
        float, typer.Option(min=0.0, help="that the one writer takes for a result")
    ] = 0.0,
    deaths_an_hour: Annotated[
        float, typer.Option(min=0.0, max=60.0, help="of a worker, on average")
    ] = 0.0,
    storage_mb_s: Annotated[
        float, typer.Option(min=0.001, help="that the storage moves; default: without limit")
    ] = float("inf"),
    network_mb_s: Annotated[
        float, typer.Option(min=0.001, help="that the network moves; default: without limit")
    ] = float("inf"),
    as_json: AsJson = False,
) -> None:
    """Say what predicting a collection takes, from the volumes that are scored already.

    Score some twenty that are like the rest, on a worker as it will be; small and large ones,
    and the cost is fitted by size. What is simulated hands out the largest first, loses volumes
    where workers die, and has one writer (its seconds: tests/benchmarks/cluster.py).
    """
    if workers and gpus:
        raise typer.BadParameter("--workers and --gpus: give one of them")
    numbers = _numbers("--gpus" if gpus else "--workers", gpus or workers or NUMBERS)
    from atlas8k.services.cluster import plan as planning

    with ledger_of(studies, ledger) as book:
        try:
            version = newest(book)
        except LedgerError:
            if seconds_per_million_voxels is None:
                raise
            version = ""
        costs, peak = book.costs(version), book.peak_memory(version)
        present = len(book.statuses())
    if volumes is None:
        listed = sizes is not None and sizes != planning.NAMED
        volumes = len(planning.read_sizes(Path(str(sizes)))) if listed else max(present, 1)
    found = planning.plan(
        planning.Wanted(
            volumes,
            numbers,
            bool(gpus),
            sizes,
            seconds_per_million_voxels,
            write_seconds,
            deaths_an_hour,
            storage_mb_s,
            network_mb_s,
        ),
        costs,
        peak,
        _label_megabytes(Path(studies), [one.volume for one in costs]),
    )
    if as_json:
        typer.echo(json.dumps(_record(found), indent=1))
    else:
        _print(found)


def _record(found: Plan) -> dict[str, object]:
    """Return a plan JSON-ready."""
    return {
        "volumes": found.wanted.volumes,
        "measured": found.measured,
        "million_voxels_a_volume": _rounded(found.million_voxels),
        "seconds_a_volume": _rounded(float(found.seconds.mean())),
        "fit": {
            "seconds": _rounded(found.fit.seconds),
            "seconds_per_million_voxels": _rounded(found.fit.seconds_per_million),
            "median_error": _rounded(found.fit.error),
        },
        "basis": found.basis,
        "label_disk_gb": _rounded(found.label_gb),
        "read_gb": _rounded(found.read_gb),
        "peak_mb_a_worker": dict(found.peak_mb),
        "schedules": [one._asdict() for one in found.schedules],
        "bottleneck": found.bottleneck,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _print(found: Plan) -> None:
    import numpy as np

    wanted, read = found.wanted, found.read_gb
    what = "GPU" if wanted.gpus else "worker"
    print_table(
        [
            {
                f"{what}s": one.workers,
                "hours": f"{one.hours:.2f}",
                f"{what}s busy": f"{one.workers_busy:.0%}",
                "writer busy": f"{one.writer_busy:.0%}" if wanted.write_s else "not known",
                "read MB/s": ("not known" if read is None else f"{read / one.hours / 3.6:.1f}"),
                "predicted twice": one.repeated,
                "memory GB": (
                    f"{found.peak_mb['memory'] * one.workers / 1000:.0f}"
                    if "memory" in found.peak_mb
                    else "not known"
                ),
                "limited by": one.limit,
            }
            for one in found.schedules
        ],
        f"{wanted.volumes:,} volumes, {found.seconds.mean():.1f} s each on one {what} "
        f"({np.percentile(found.seconds, 5):.1f} to {np.percentile(found.seconds, 95):.1f} s)",
        left=["limited by"],
    )
    typer.echo(found.basis)
    size = [
        f"{words}: {'not known' if gb is None else f'{gb:.1f} GB'}"
        for words, gb in (("label files", found.label_gb), ("CTs read", read))
    ]
    typer.echo("; ".join(size))
    typer.echo(found.bottleneck)


def _numbers(option: str, text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as err:
        raise typer.BadParameter(f"{option} {text}: numbers with commas between them") from err
    if min(found) < 1 or max(found) > 100_000:
        raise typer.BadParameter(f"{option} {text}: 1 to 100,000")
    return found


def _label_megabytes(studies: Path, volumes: Iterable[str]) -> float | None:
    """Return what labels take that scoring makes, MB; ``None`` where there is no folder.

    That is the pseudo label, the draft label made of it, and the version of each that is kept,
    which takes nothing where it is the same file.
    """
    folder = studies / "labels"
    if not folder.is_dir():
        return None
    total = 0
    for volume in volumes:
        for tag in ("pseudo", "original"):
            with contextlib.suppress(FileNotFoundError):
                found = (folder / tag / f"{volume}.nii.gz").stat()
                total += found.st_size * (1 if found.st_nlink > 1 else 2)
    return total / 1e6
