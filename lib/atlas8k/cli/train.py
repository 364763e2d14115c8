"""``atlas8k train``: networks from random weights, or on from checkpoints, with labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atlas8k.cli.options import LedgerFile, existing_studies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atlas8k.models.checkpoint import Checkpoint
    from atlas8k.training.config import TrainingConfig
    from atlas8k.training.data import Case

PAINTED_MB = 700
"""Of some 300 painted CTs at once: those that follow are painted meanwhile."""


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
    patients: Annotated[
        Path | None, typer.Option(help="CSV: volume,patient; those of one stay together")
    ] = None,
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
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1")] = "cpu",
    threads: Annotated[int, typer.Option(help="processor threads; 0 for all", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="threads that prepare patches", min=0)] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="folder for synthetic CTs; OUTPUT/phantoms")
    ] = None,
) -> None:
    """Train networks, and write OUTPUT/<network>.safetensors when they are through.

    New networks with random weights, or those of --checkpoints, learn from what is labeled
    in --studies, where `atlas8k labels import` put public labels and annotators submitted
    theirs (organs that nobody labeled are in no loss); from --images with --labels; or from
    --phantoms, or --bodies, alone or together: networks that learn from bodies see whole
    volumes at once, whatever they saw before. Small networks learn at rates for minutes,
    those of the paper's size at the paper's. --minutes bounds preparing, training and
    measuring of a network; synthetic CTs that it begins with are made before.

    A training that was interrupted goes on when the command is repeated, also with labels
    that were added; until it is through, OUTPUT/training-state has how far it came. On several
    GPUs: torchrun --nproc_per_node 4 -m atlas8k train OUTPUT ... --device cuda
    """
    from atlas8k.errors import TrainingError

    synthetic = phantoms > 0 or bodies is not None
    if [synthetic, images is not None, studies is not None].count(True) != 1:
        raise TrainingError(
            "give one of --studies, --images with --labels, or --phantoms and --bodies"
        )
    if studies is not None:
        existing_studies(studies)
    if images is not None and labels is None:
        raise TrainingError("--images needs --labels beside it")

    import torch

    from atlas8k.cli.train_from import labeled_files, labeled_studies
    from atlas8k.cli.train_run import run
    from atlas8k.cli.train_synthetic import SyntheticSet, synthetic_set
    from atlas8k.models.resources import keep_freed_memory
    from atlas8k.training import ranks
    from atlas8k.training.scratch import EMBEDDED, seeing_whole

    keep_freed_memory()
    torch.set_num_threads(threads or torch.get_num_threads())
    names = list(EMBEDDED) if network == "all" else [network]
    given: dict[str, Any] = {
        "epochs": epochs,
        "minutes": minutes,
        "steps_per_epoch": steps,
        "batch_size": batch,
        "seed": seed,
        "device": device,
        "workers": workers,
        "memory_mb": 8192 if bodies is None else PAINTED_MB,
        "validate_every": 10,
        # Painting keeps up with it, and each CT is met in several epochs.
        "turnover": 0 if bodies is None else max(1, steps * batch // 3),
    }
    with _into(output), ranks.together(device) as own:
        settings = {**given, "device": own, **_json(training)}
        config = _config(settings, new=synthetic or (checkpoints is None and size == "small"))
        config = _with_rate(config, names, learning_rate)
        apart: Sequence[Case] | None = None
        cases: Sequence[Case]
        made: SyntheticSet | None = None
        if synthetic:
            made = synthetic_set(
                cache or output / "phantoms", phantoms, bodies, _names(subjects), painted, seed
            )
            cases, apart = made.cases, made.apart
        elif studies is not None:
            cases = labeled_studies(studies, ledger, patients, settings)
        else:
            assert labels is not None  # looked at above
            cases = labeled_files(images, labels, organs, patients)
        if minutes is not None and ranks.first():
            typer.echo(f"{len(names)} networks, {minutes:g} minutes each at the most")
        starts = {name: _start(name, checkpoints, seed, size) for name in names}
        if bodies is not None:
            starts = {name: seeing_whole(start) for name, start in starts.items()}
        with nullcontext() if made is None else made.beside():
            run(output, starts, cases, apart, config, {} if made is None else made.record)


@contextmanager
def _into(output: Path) -> Iterator[None]:
    """A folder that is written to; a full disk and the like in one line."""
    from atlas8k.errors import TrainingError

    try:
        output.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise TrainingError(
            f"{output}: the training cannot go on ({error}); see that there is space and that "
            "files may be read and written, and repeat the command"
        ) from error


def _json(text: str) -> dict[str, Any]:
    """Settings given as a JSON object."""
    import json

    from atlas8k.errors import TrainingError

    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise TrainingError(f"--training {text}: give a JSON object")
    return found


def _config(settings: dict[str, Any], *, new: bool) -> TrainingConfig:
    """Settings of a training, at rates for `new` small networks or at the paper's."""
    from pydantic import ValidationError

    from atlas8k.errors import TrainingError
    from atlas8k.training.config import TrainingConfig

    try:
        return TrainingConfig.from_scratch(**settings) if new else TrainingConfig(**settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join(TrainingConfig.model_fields)
        raise TrainingError(f"{where}: {first['msg']}; there are {known}") from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _start(name: str, checkpoints: Path | None, seed: int, size: str) -> Checkpoint:
    """The network to train on from."""
    from atlas8k.models.checkpoint import load_checkpoint
    from atlas8k.training.scratch import new_checkpoint

    if checkpoints is None:
        return new_checkpoint(name, seed, size)
    return load_checkpoint(checkpoints / f"{name}.safetensors")


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
