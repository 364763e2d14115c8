"""``atlas8k train``: networks from phantoms, or on from checkpoints with own labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atlas8k.models.checkpoint import Checkpoint
    from atlas8k.training.config import TrainingConfig
    from atlas8k.training.data import Case, TrainingCase
    from atlas8k.training.loop import Progress

PHANTOM_SEEDS = 20_000
"""First seed of training phantoms. Those below are samples and tests, 10,000 to 10,999
are kept for the benchmark."""
MEASURED_ON = 6
"""Phantoms that show the progress; their seeds are before :data:`PHANTOM_SEEDS`."""


def train(
    output: Annotated[Path, typer.Argument(help="folder for the checkpoints; made if missing")],
    phantoms: Annotated[int, typer.Option(help="train on so many phantoms", min=0)] = 0,
    images: Annotated[Path | None, typer.Option(help="folder of CTs (.nii, .nii.gz)")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="folder of label maps, named as their CTs")
    ] = None,
    organs: Annotated[
        str, typer.Option(help="organs that the labels hold, separated by commas; all by default")
    ] = "",
    checkpoints: Annotated[
        Path | None, typer.Option(help="folder of .safetensors to train on from")
    ] = None,
    network: Annotated[str, typer.Option(help="swin_unetr, unet, nnunet or all")] = "all",
    minutes: Annotated[
        float | None, typer.Option(help="time for each network, in place of --epochs")
    ] = None,
    epochs: Annotated[int, typer.Option(help="epochs of each network")] = 20,
    steps: Annotated[int, typer.Option(help="steps of an epoch")] = 50,
    batch: Annotated[int, typer.Option(help="patches of a step")] = 2,
    learning_rate: Annotated[
        float | None, typer.Option(help="peak; each network's own by default")
    ] = None,
    seed: Annotated[int, typer.Option(help="of weights and patches")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1")] = "cpu",
    threads: Annotated[int, typer.Option(help="processor threads; 0 for all", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="threads that prepare patches", min=0)] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="folder for training phantoms; OUTPUT/phantoms")
    ] = None,
) -> None:
    """Train networks, and write OUTPUT/<network>.safetensors as they get better.

    With --phantoms, small networks learn from synthetic CTs: new ones, or those of
    --checkpoints. With --images, --labels and --checkpoints, networks are trained on with
    labels of your own. A training that was interrupted goes on when the command is
    repeated.
    """
    import torch

    from atlas8k.errors import TrainingError
    from atlas8k.training.scratch import EMBEDDED

    if (phantoms > 0) == (images is not None):
        raise TrainingError("give either --phantoms, or --images with --labels and --checkpoints")
    torch.set_num_threads(threads or torch.get_num_threads())
    output.mkdir(parents=True, exist_ok=True)
    names = list(EMBEDDED) if network == "all" else [network]
    settings: dict[str, Any] = {
        "epochs": epochs,
        "minutes": minutes,
        "steps_per_epoch": steps,
        "batch_size": batch,
        "seed": seed,
        "device": device,
        "workers": workers,
        "memory_mb": 8192,
        "validate_every": 10,
    }
    if phantoms:
        kept = cache or output / "phantoms"
        _from_phantoms(output, names, phantoms, kept, checkpoints, settings, learning_rate)
    else:
        if images is None or labels is None or checkpoints is None:
            raise TrainingError("--images needs --labels and --checkpoints beside it")
        cases = _labeled(images, labels, organs)
        _onward(output, names, cases, checkpoints, settings, learning_rate)


def _from_phantoms(
    output: Path,
    names: list[str],
    count: int,
    cache: Path,
    checkpoints: Path | None,
    settings: dict[str, Any],
    learning_rate: float | None,
) -> None:
    """New networks, or those of a folder, each on the same phantoms."""
    import os

    from rich.progress import Progress as Bar

    from atlas8k.models.checkpoint import load_checkpoint
    from atlas8k.training.config import TrainingConfig
    from atlas8k.training.scratch import new_checkpoint, phantom_cases

    with Bar() as bar:
        task = bar.add_task("phantoms", total=count + MEASURED_ON)
        cases = phantom_cases(
            count + MEASURED_ON,
            PHANTOM_SEEDS - MEASURED_ON,
            cache,
            os.cpu_count() or 1,
            lambda _: bar.advance(task),
        )
    config = _with_rate(TrainingConfig.from_scratch(**settings), names, learning_rate)
    for name in names:
        if checkpoints is None:
            start = new_checkpoint(name, settings["seed"])
        else:
            start = load_checkpoint(checkpoints / f"{name}.safetensors")
        _run(output, start, cases[MEASURED_ON:], cases[:MEASURED_ON], config)


def _onward(
    output: Path,
    names: list[str],
    cases: Sequence[TrainingCase],
    checkpoints: Path,
    settings: dict[str, Any],
    learning_rate: float | None,
) -> None:
    """Networks of a folder, trained on with labeled CTs."""
    from atlas8k.models.checkpoint import load_checkpoint
    from atlas8k.training.config import TrainingConfig
    from atlas8k.training.finetune import split

    config = _with_rate(TrainingConfig(**settings), names, learning_rate)
    training, validation = split(cases, config.validation)
    for name in names:
        start = load_checkpoint(checkpoints / f"{name}.safetensors")
        _run(output, start, training, validation, config)


def _run(
    output: Path,
    start: Checkpoint,
    training: Sequence[Case],
    validation: Sequence[Case],
    config: TrainingConfig,
) -> None:
    """One network: trained, shown and written."""
    from rich.console import Console

    from atlas8k.models.checkpoint import save_checkpoint
    from atlas8k.training.loop import train_network

    console = Console(soft_wrap=True)
    target = output / f"{start.name}.safetensors"

    def show(progress: Progress) -> None:
        console.print(_line(progress), highlight=False)
        if progress.dsc:
            save_checkpoint(target, progress.checkpoint())

    trained = train_network(
        start,
        training,
        config,
        validation=validation,
        on_epoch=show,
        state_path=output / f"{start.name}.state.pt",
    )
    save_checkpoint(target, trained)
    size = target.stat().st_size / 1e6
    console.print(f"{start.name}: {target}, {size:.1f} MB", highlight=False)


def _line(progress: Progress) -> str:
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


def _with_rate(
    config: TrainingConfig, names: list[str], learning_rate: float | None
) -> TrainingConfig:
    """The settings with another peak learning rate for the named networks."""
    if learning_rate is None:
        return config
    from atlas8k.training.config import TrainingConfig

    changed = {
        name: {**config.optimiser_for(name).model_dump(), "lr": learning_rate} for name in names
    }
    return TrainingConfig.model_validate(
        {**config.model_dump(), "optimisers": {**config.model_dump()["optimisers"], **changed}}
    )


def _labeled(images: Path, labels: Path, organs: str) -> list[TrainingCase]:
    """Pairs of a CT and a label map of the same file name."""
    from atlas8k.errors import TrainingError
    from atlas8k.organs import ORGAN_NAMES, find_organ
    from atlas8k.training.data import TrainingCase
    from atlas8k.volume import NIFTI_SUFFIXES

    known = []
    for text in filter(None, (part.strip() for part in organs.split(","))):
        organ = find_organ(text)
        if organ is None:
            raise TrainingError(f"--organs: {text!r} is none of {', '.join(ORGAN_NAMES)}")
        known.append(organ.name)
    for folder in (images, labels):
        if not folder.is_dir():
            raise TrainingError(f"{folder}: no such folder")
    cases = [
        TrainingCase(ct.name.split(".nii")[0], ct, labels / ct.name, tuple(known) or ORGAN_NAMES)
        for ct in sorted(images.iterdir())
        if ct.name.endswith(NIFTI_SUFFIXES) and (labels / ct.name).is_file()
    ]
    if not cases:
        raise TrainingError(f"{images}: no CT with a label map of the same name in {labels}")
    return cases
