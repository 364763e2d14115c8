"""What predicting a collection takes: hours, disk, memory, network, and what limits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atlas8k.core.errors import LedgerError, SettingsError
from atlas8k.services.cluster.schedule import (
    Fit,
    Floats,
    Schedule,
    abdomenatlas_slices,
    fit,
    simulate,
)
from atlas8k.store import Cost

FEWEST = 20
"""Scored volumes that a plan rests on."""
NAMED = "abdomenatlas"
"""Sizes by name: those of the paper's 8,448 CTs."""


@dataclass(frozen=True)
class Wanted:
    """What is planned.

    Attributes
    ----------
    workers
        Numbers of them to compare; with `gpus` each has a GPU.
    sizes
        :data:`NAMED`, or a file with a line for each CT: its voxels, or its three dimensions.
    seconds_per_million
        Voxels, as stated in place of what was measured.
    storage_mb_s, network_mb_s
        What they move, where that is known.
    """

    volumes: int
    workers: Sequence[int]
    gpus: bool = False
    sizes: str | None = None
    seconds_per_million: float | None = None
    write_s: float = 0.0
    deaths_an_hour: float = 0.0
    storage_mb_s: float = np.inf
    network_mb_s: float = np.inf


@dataclass(frozen=True)
class Plan:
    """What it takes.

    Attributes
    ----------
    measured
        Volumes that it rests on.
    million_voxels
        Of a volume on average; ``None``: not known.
    beyond
        Share of the volumes that are larger than all measured.
    seconds
        Of each volume.
    read_gb, label_gb
        ``None``: not known.
    """

    wanted: Wanted
    measured: int
    million_voxels: float | None
    beyond: float
    fit: Fit
    seconds: Floats
    read_gb: float | None
    label_gb: float | None
    peak_mb: Mapping[str, float]
    schedules: tuple[Schedule, ...]

    @property
    def basis(self) -> str:
        """What the seconds rest on, in words."""
        line = self.fit
        if self.wanted.seconds_per_million is not None:
            return f"as stated: {line.seconds_per_million:.3g} s for each million voxels"
        if self.million_voxels is None:
            return (
                f"{self.measured} volumes, whose sizes are not known: each taken to cost the same"
            )
        constant = f"{line.seconds:.1f} s and " if line.seconds else ""
        text = (
            f"fitted to {self.measured} volumes: {constant}{line.seconds_per_million:.3g} s for "
            f"each million voxels; half of them are within {line.error:.0%} of it"
        )
        if not line.by_size:
            text += "; these are of one size, others are taken in proportion"
        if self.beyond:
            text += f"; {self.beyond:.0%} of the collection is larger than any of them"
        return text

    @property
    def bottleneck(self) -> str:
        """What limits the run with the most workers, and what it needs, in words."""
        wanted, run = self.wanted, max(self.schedules, key=lambda one: one.workers)
        name = "GPU" if wanted.gpus else "worker"
        many = f"{run.workers} {name}{'s' if run.workers > 1 else ''}"
        full = np.mean(self.seconds) / wanted.write_s if wanted.write_s else None
        until = (
            f"until {full:.0f} of them keep the one writer busy"
            if full
            else "as far as the one writer goes (--write-seconds)"
        )
        limits = {
            "workers": f"the {name}s: more of them are quicker, {until}",
            "volumes": f"the largest volumes: more {name}s would wait for them, too",
            "writer": f"the one writer: more {name}s are no quicker",
            "storage": f"the storage, which moves {wanted.storage_mb_s:g} MB/s",
            "network": f"the network, which moves {wanted.network_mb_s:g} MB/s",
        }
        needs = [] if self.label_gb is None else [f"{self.label_gb:.1f} GB of disk for labels"]
        if (memory := self.peak_mb.get("memory")) is not None:
            each = memory / 1000
            needs.append(f"{each * run.workers:.1f} GB of memory ({each:.1f} for each {name})")
        if wanted.gpus and (gpu := self.peak_mb.get("gpu")) is not None:
            needs.append(f"{gpu / 1000:.1f} GB of each GPU's own")
        if self.read_gb is not None:
            moved = (self.read_gb + (self.label_gb or 0)) * 1000 / (run.hours * 3600)
            needs.append(f"{moved:.1f} MB/s of storage, and of network where workers are elsewhere")
        return (
            f"with {many} it takes {run.hours:.2f} hours, limited by {limits[run.limit]}; "
            f"it needs {', '.join(needs) or 'what nobody has measured'}"
        )


def plan(
    wanted: Wanted, costs: Sequence[Cost], peak_mb: Mapping[str, float], label_mb: float | None
) -> Plan:
    """Plan a collection from what volumes took so far.

    Parameters
    ----------
    costs
        Of volumes scored by the networks in use.
    peak_mb
        Memory of a worker.
    label_mb
        Of the label files of these volumes.

    Raises
    ------
    LedgerError
        Too few were scored, or none by such a worker, or how large they are is not known.
    SettingsError
        A file of sizes cannot be used.
    """
    stated, rng = wanted.seconds_per_million, np.random.default_rng(0)
    used = [one for one in costs if one.on_gpu == wanted.gpus]
    if stated is None and len(used) < FEWEST:
        raise LedgerError(_too_few(wanted, len(used), len(costs)))
    rest_on = used if stated is None else list(costs)
    known = [one for one in rest_on if one.voxels]
    by_size = len(known) >= (FEWEST if stated is None else 1)
    if by_size:
        rest_on = known
    elif stated is not None and wanted.sizes is None:
        raise LedgerError(f"how large the volumes are is not known: say it by --sizes {NAMED}|FILE")
    elif stated is None and wanted.sizes is not None:
        raise LedgerError(
            f"how large {len(rest_on)} volumes are that are scored is not known, so that other "
            "sizes say nothing of time: score some again (`atlas8k score`, under new networks)"
        )
    own = np.array([(one.voxels or 0) / 1e6 for one in rest_on])
    millions = _sizes(wanted, own, rng)
    line = (
        Fit(0.0, stated, np.ones(1))
        if stated is not None
        else fit([one.seconds for one in rest_on], list(own) if by_size else None)
    )
    seconds = line.draw(millions, rng)
    # Files and labels grow with the CT.
    growth = millions.sum() / own.sum() if by_size else wanted.volumes / max(len(rest_on), 1)
    sized = [one.file_mb for one in rest_on if one.file_mb is not None]
    read_gb = float(np.mean(sized)) * len(rest_on) * growth / 1000 if sized else None
    each = label_mb / len(costs) if label_mb is not None and costs else None
    label_gb = each * len(rest_on) * growth / 1000 if each is not None and rest_on else None
    return Plan(
        wanted,
        0 if stated is not None else len(rest_on),
        float(millions.mean()) if by_size or wanted.sizes else None,
        float(np.mean(millions > own.max())) if by_size and stated is None else 0.0,
        line,
        seconds,
        read_gb,
        label_gb,
        peak_mb,
        tuple(
            simulate(
                seconds,
                number,
                write_s=wanted.write_s,
                deaths_an_hour=wanted.deaths_an_hour,
                moved_mb=((read_gb or 0) + (label_gb or 0)) * 1000,
                storage_mb_s=wanted.storage_mb_s,
                network_mb_s=wanted.network_mb_s,
                rng=rng,
            )
            for number in wanted.workers
        ),
    )


def _too_few(wanted: Wanted, used: int, scored: int) -> str:
    if wanted.gpus:
        return (
            f"{used} volumes were scored on a GPU by the present networks, and a plan for GPUs "
            f"rests on {FEWEST} or more: score some there, or state --seconds-per-million-voxels"
        )
    if scored - used >= FEWEST:
        return (
            f"{scored - used} of the {scored} volumes that are scored by the present networks were "
            "scored on a GPU: ask for a plan with --gpus"
        )
    return (
        f"{used} volumes are scored by the present networks, and a plan rests on {FEWEST} or more: "
        "score some that are like the rest, then ask again"
    )


def _sizes(wanted: Wanted, own: Floats, rng: np.random.Generator) -> Floats:
    """Return million voxels of each volume: as wanted, or like those measured."""
    if wanted.sizes == NAMED:
        return np.asarray(abdomenatlas_slices(wanted.volumes, rng) * 512 * 512 / 1e6)
    listed = own if wanted.sizes is None else read_sizes(Path(wanted.sizes))
    # A collection that is listed whole is taken as it is.
    if wanted.sizes is not None and len(listed) == wanted.volumes:
        return listed
    return rng.choice(listed, wanted.volumes)


def read_sizes(path: Path) -> Floats:
    """Return million voxels of each CT of a file of sizes.

    Raises
    ------
    SettingsError
        It cannot be read, or a line is neither one whole number above 0 nor three.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise SettingsError(f"--sizes {path}: {NAMED}, or a file that can be read ({err})") from err
    found = []
    for number, line in enumerate(lines, start=1):
        parts = line.replace(",", " ").replace("x", " ").split()
        if not parts:
            continue
        if len(parts) not in (1, 3) or not all(part.isdecimal() and int(part) for part in parts):
            raise SettingsError(
                f"--sizes {path}, line {number}: {line[:60]!r} is neither a number of voxels nor "
                "three dimensions, such as 512 512 379"
            )
        found.append(float(np.prod([float(part) for part in parts])) / 1e6)
    if not found:
        raise SettingsError(f"--sizes {path}: it lists no CT")
    return np.array(found)
