"""A training from the command line: goes on where it was, is shown, and stored when through.

::

    OUTPUT/<network>.safetensors       when the network is through, and not before
    OUTPUT/training-state/             how far a training came; gone when all are through
    OUTPUT/trained-on.json             whom it has learned from: never held out later
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlas8k.models.checkpoint import Checkpoint
    from atlas8k.training.config import TrainingConfig
    from atlas8k.training.data import Case
    from atlas8k.training.loop import Progress

STATE = "training-state"


def run(
    output: Path,
    starts: Mapping[str, Checkpoint],
    cases: Sequence[Case],
    apart: Sequence[Case] | None,
    config: TrainingConfig,
    record: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Train networks one after another; those that are there stay until theirs is through.

    Parameters
    ----------
    starts
        By network name.
    apart
        Cases to measure on; ``None``: a share of `cases`.
    record
        Of what they learn from, into each checkpoint; with the commit of this code where
        it runs from a repository.
    """
    from rich.console import Console

    from atlas8k.models.checkpoint import save_checkpoint
    from atlas8k.server.training.cases import Seen
    from atlas8k.training import ranks
    from atlas8k.training.finetune import fine_tune
    from atlas8k.training.resume import state_folder
    from atlas8k.training.split import patient_of, split

    console = Console(soft_wrap=True)

    def show(progress: Progress) -> None:
        console.print(line(progress), highlight=False)

    def store(trained: Checkpoint) -> None:
        origin = {**trained.origin, **({"data": dict(record)} if record else {}), **_commit()}
        trained = replace(trained, origin=origin)
        target = save_checkpoint(output / f"{trained.name}.safetensors", trained)
        size = target.stat().st_size / 1e6
        console.print(f"{trained.name}: {target}, {size:.1f} MB", highlight=False)

    folder = output / STATE
    if ranks.first():
        folder = state_folder(folder, starts, list(starts), cases, config)
        if apart is None:  # before anything is stored that has seen them
            learned, _ = split(cases, config.validation)
            Seen(output).add(patient_of(one) for one in learned)
    folder = ranks.broadcast(folder)  # the others wait until it is cleared
    fine_tune(
        starts,
        cases,
        config,
        apart=apart,
        on_epoch=show,
        on_trained=store,
        state_folder=folder,
    )
    if ranks.first():
        shutil.rmtree(folder, ignore_errors=True)


def _commit() -> dict[str, str]:
    """Of the code that trains, where it is known."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": found.stdout.strip()}


def line(progress: Progress) -> str:
    """``unet  epoch 12  60 %  3:20 left  loss 0.412  DSC 0.81 (aorta 0.90, ...)``."""
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    parts = [
        f"{progress.network}  epoch {progress.epoch}",
        f"{100 * progress.fraction:3.0f} %  {minutes}:{seconds:02d} left",
        f"loss {progress.loss:.3f}",
    ]
    if progress.mean_dsc is not None:
        organs = ", ".join(f"{name} {dsc:.2f}" for name, dsc in progress.dsc.items())
        parts.append(f"DSC {progress.mean_dsc:.3f} ({organs})")
    return "  ".join(parts)
