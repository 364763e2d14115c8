"""``atlas8k train``: train networks, from random weights or from checkpoints.

::

    OUTPUT/<network>.safetensors       when the network is done, and not before
    OUTPUT/training-state/             state of the training; removed when all are done
    OUTPUT/trained-on.json             patients that were trained on: never held out later
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atlas8k.cli.open_studies import context_of, existing_studies
from atlas8k.cli.options import (
    MODELS,
    Device,
    LedgerFile,
    Orientation,
    Patients,
    names_in,
    organs_in,
)
from atlas8k.core.errors import TrainingError

if TYPE_CHECKING:
    from atlas8k.models.checkpoint import Checkpoint
    from atlas8k.training.config import TrainingConfig
    from atlas8k.training.data import Case, TrainingCase
    from atlas8k.training.loop import Progress

PAINTED_MB = 700
"""Memory for some 300 painted CTs at once; further ones are painted meanwhile."""


def train(
    output: Annotated[Path, typer.Argument(help="folder for the checkpoints; made if missing")],
    phantoms: Annotated[int, typer.Option(help="train on so many phantoms", min=0)] = 0,
    bodies: Annotated[
        Path | None,
        typer.Option(help="train on CTs painted on the TotalSegmentator maps of a folder"),
    ] = None,
    subjects: Annotated[
        str, typer.Option(help="with --bodies: of these, separated by commas; all by default")
    ] = "",
    painted: Annotated[int, typer.Option(help="with --bodies: so many CTs", min=1)] = 2000,
    images: Annotated[Path | None, typer.Option(help="folder of CTs (.nii, .nii.gz)")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="folder of label maps, named as their CTs")
    ] = None,
    studies: Annotated[
        str | None,
        typer.Option(help="studies folder with labels, as `labels import` makes, or DICOMweb URL"),
    ] = None,
    ledger: LedgerFile = None,
    organs: Annotated[
        str, typer.Option(help="organs that the labels hold, separated by commas; all by default")
    ] = "",
    orientation: Orientation = None,
    patients: Patients = None,
    checkpoints: Annotated[
        Path | None, typer.Option(help="folder of .safetensors to train on from")
    ] = None,
    network: Annotated[str, typer.Option(help="swin_unetr, unet, nnunet or all")] = "all",
    size: Annotated[
        str, typer.Option(help="of new networks: small (4 mm) or paper (1.5 mm, for a GPU)")
    ] = "small",
    minutes: Annotated[
        float | None,
        typer.Option(help="for each network, from its volumes to its file, in place of --epochs"),
    ] = None,
    epochs: Annotated[int, typer.Option(help="epochs of each network")] = 20,
    steps: Annotated[int, typer.Option(help="steps of an epoch")] = 50,
    batch: Annotated[int, typer.Option(help="patches of a step")] = 2,
    learning_rate: Annotated[
        float | None, typer.Option(help="peak; each network's own by default")
    ] = None,
    training: Annotated[
        str, typer.Option(help='further settings as JSON, such as \'{"optimisers": "paper"}\'')
    ] = "",
    seed: Annotated[int, typer.Option(help="of weights and patches")] = 0,
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(help="processor threads; 0 for all", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="threads that prepare patches", min=0)] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="folder for synthetic CTs; OUTPUT/phantoms")
    ] = None,
) -> None:
    """Train networks, and write OUTPUT/<network>.safetensors when they are done.

    New networks with random weights, or those of --checkpoints, learn from the labels in
    --studies, where `atlas8k labels import` put public labels and annotators submitted
    theirs (organs that nobody labeled are in no loss); from --images with --labels; or from
    --phantoms, or --bodies, alone or together: networks that learn from bodies see whole
    volumes at once, whatever they saw before. Small networks learn at rates for minutes,
    those of the paper's size at the paper's. --minutes bounds preparing, training and
    measuring of a network; synthetic CTs that it begins with are made before.

    A training that was interrupted goes on when the command is repeated, also with labels
    that were added; until it is done, OUTPUT/training-state has its state. On several GPUs:
    torchrun --nproc_per_node 4 -m atlas8k train OUTPUT ... --device cuda
    """
    synthetic = phantoms > 0 or bodies is not None
    if [synthetic, images is not None, studies is not None].count(True) != 1:
        raise TrainingError(
            "give one of --studies, --images with --labels, or --phantoms and --bodies"
        )
    if studies is not None:
        existing_studies(studies)
    if images is not None and labels is None:
        raise TrainingError("--images needs --labels beside it")
    if orientation is not None and images is None:
        raise typer.BadParameter("--orientation is for files of --images and --labels")

    import torch

    from atlas8k.cli.train_synthetic import SyntheticSet, synthetic_set
    from atlas8k.models.resources import keep_freed_memory
    from atlas8k.training import ranks
    from atlas8k.training.scratch import EMBEDDED, seeing_whole

    keep_freed_memory()
    torch.set_num_threads(threads or torch.get_num_threads())
    names = list(EMBEDDED) if network == "all" else [network]
    defaults: dict[str, Any] = {
        "epochs": epochs,
        "minutes": minutes,
        "steps_per_epoch": steps,
        "batch_size": batch,
        "seed": seed,
        "device": device,
        "workers": workers,
        "memory_mb": 8192 if bodies is None else PAINTED_MB,
        "validate_every": 10,
        # Painting keeps up with this, and each CT is used in several epochs.
        "turnover": 0 if bodies is None else max(1, steps * batch // 3),
    }
    with _into(output), ranks.together(device) as own:
        settings = {**defaults, "device": own, **_json(training)}
        config = _config(settings, new=synthetic or (checkpoints is None and size == "small"))
        config = _with_rate(config, names, learning_rate)
        held_out: Sequence[Case] | None = None
        cases: Sequence[Case]
        synthetic_cases: SyntheticSet | None = None
        if synthetic:
            synthetic_cases = synthetic_set(
                cache or output / "phantoms", phantoms, bodies, names_in(subjects), painted, seed
            )
            cases, held_out = synthetic_cases.cases, synthetic_cases.held_out
        elif studies is not None:
            cases = labeled_studies(studies, ledger, patients, settings)
        else:
            assert images is not None  # checked above
            assert labels is not None
            cases = labeled_files(images, labels, organs, patients, orientation)
        if minutes is not None and ranks.first():
            typer.echo(f"{len(names)} networks, {minutes:g} minutes each at the most")
        starts = {name: _start(name, checkpoints, seed, size) for name in names}
        if bodies is not None:
            starts = {name: seeing_whole(start) for name, start in starts.items()}
        with nullcontext() if synthetic_cases is None else synthetic_cases.make_in_background():
            _run(
                output,
                starts,
                cases,
                held_out,
                config,
                {} if synthetic_cases is None else synthetic_cases.record,
            )


@contextmanager
def _into(output: Path) -> Iterator[None]:
    """Make the output folder; report a full disk and the like in one line."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise TrainingError(
            f"{output}: the training cannot go on ({error}); see that there is space and that "
            "files may be read and written, and repeat the command"
        ) from error


def _json(text: str) -> dict[str, Any]:
    """Parse settings given as a JSON object."""
    try:
        settings = json.loads(text or "{}")
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise TrainingError(f"--training {text}: give a JSON object")
    return settings


def _config(settings: dict[str, Any], *, new: bool) -> TrainingConfig:
    """Return the settings of a training, at rates for `new` small networks or at the paper's."""
    from pydantic import ValidationError

    from atlas8k.training.config import TrainingConfig

    try:
        return TrainingConfig.from_scratch(**settings) if new else TrainingConfig(**settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join(TrainingConfig.model_fields)
        raise TrainingError(f"{where}: {first['msg']}; there are {known}") from error


def _start(name: str, checkpoints: Path | None, seed: int, size: str) -> Checkpoint:
    """Load the network to train from, or make a new one."""
    from atlas8k.models.checkpoint import load_checkpoint
    from atlas8k.training.scratch import new_checkpoint

    if checkpoints is None:
        return new_checkpoint(name, seed, size)
    return load_checkpoint(checkpoints / f"{name}.safetensors")


def _with_rate(
    config: TrainingConfig, names: list[str], learning_rate: float | None
) -> TrainingConfig:
    """Return the settings with another peak learning rate for the named networks."""
    if learning_rate is None:
        return config
    from atlas8k.training.config import TrainingConfig

    changed = config.model_dump()
    for name in names:
        rate = {**config.optimiser_for(name).model_dump(), "lr": learning_rate}
        changed["optimisers"] = {**changed["optimisers"], name: rate}
    return TrainingConfig.model_validate(changed)


def labeled_studies(
    folder: str, ledger: Path | None, patients: Path | None, settings: dict[str, Any]
) -> Sequence[TrainingCase]:
    """Find the labeled cases of a studies folder, organ by organ; of several processes, in one.

    Unlike a server, it changes nothing there.
    """
    from atlas8k.core.settings import Settings
    from atlas8k.services.training.cases import cases
    from atlas8k.services.training.reading import existing_ledger
    from atlas8k.training import ranks

    labeled: Sequence[TrainingCase] = ()
    if ranks.first():
        opened_with = Settings(
            device="cpu", ledger=existing_ledger(folder, ledger), patients=patients
        )
        with context_of(opened_with, folder, MODELS) as context:
            labeled = cases(context, pseudo=settings.get("pseudo_weight", 0) > 0, read_only=True)
    return ranks.broadcast(labeled)


def labeled_files(
    images: Path, labels: Path, organs: str, patients: Path | None, orientation: str | None
) -> list[TrainingCase]:
    """Find pairs of a CT and a label map of the same file name."""
    from atlas8k.core.structures import ORGAN_NAMES
    from atlas8k.core.volume import NIFTI_SUFFIXES
    from atlas8k.training.data import TrainingCase
    from atlas8k.training.split import read_patients

    try:
        known = tuple(organs_in(organs) or ORGAN_NAMES)
    except typer.BadParameter as error:
        raise TrainingError(f"--organs: {error.message}") from error
    patient_of = {} if patients is None else read_patients(patients)
    for folder in (images, labels):
        if not folder.is_dir():
            raise TrainingError(f"{folder}: no such folder")
    cases = []
    for ct in sorted(images.iterdir()):
        if ct.name.endswith(NIFTI_SUFFIXES) and (labels / ct.name).is_file():
            name = ct.name.split(".nii")[0]
            patient = patient_of.get(name, "")
            cases.append(
                TrainingCase(
                    name, ct, labels / ct.name, known, patient=patient, orientation=orientation
                )
            )
    if not cases:
        raise TrainingError(f"{images}: no CT with a label map of the same name in {labels}")
    return cases


def _run(
    output: Path,
    starts: Mapping[str, Checkpoint],
    cases: Sequence[Case],
    apart: Sequence[Case] | None,
    config: TrainingConfig,
    record: Mapping[str, Any],
) -> None:
    """Train networks one after another; an existing file stays until its network is done.

    Parameters
    ----------
    starts
        By network name.
    apart
        Cases to measure on; ``None``: a share of `cases`.
    record
        Record of the data for each checkpoint; the commit of this code is added where it
        runs from a repository.
    """
    from rich.console import Console

    from atlas8k.models.checkpoint import save_checkpoint
    from atlas8k.services.training.cases import Seen
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

    folder = output / "training-state"
    if ranks.first():
        folder = state_folder(folder, starts, list(starts), cases, config)
        if apart is None:  # before anything is stored that has seen them
            learned, _ = split(cases, config.validation)
            Seen(output).add(patient_of(case) for case in learned)
    folder = ranks.broadcast(folder)  # the others wait until it is emptied
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
    """Return the commit of the code that trains, where it is known."""
    try:
        result = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": result.stdout.strip()}


def line(progress: Progress) -> str:
    """Return a line such as ``unet  epoch 12  60 %  3:20 left  loss 0.412  DSC 0.81 (...)``."""
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
