"""``atlas8k score`` and ``fine-tune``: run the server's tasks without a server."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas8k.cli.open_studies import context_of, existing_studies, scoring_bar, workers_of
from atlas8k.cli.options import (
    MODELS,
    ClusterAddress,
    ClusterWorkers,
    Conf,
    Epochs,
    LedgerFile,
    Models,
    Networks,
    Patients,
    Steps,
    settings_of,
)


def score(
    studies: Annotated[
        str, typer.Argument(help="folder of CTs, or DICOMweb URL, as given to the server")
    ],
    models: Models = MODELS,
    conf: Conf = None,
    retry: Annotated[bool, typer.Option(help="also try volumes again that failed before")] = False,
    cluster: ClusterAddress = "",
    workers: ClusterWorkers = 0,
) -> None:
    """Score every volume that has no score under the networks served now."""
    existing_studies(studies)
    from rich.console import Console

    from atlas8k.services.scoring import Scoring

    console = Console(stderr=True)
    with context_of(settings_of(conf), studies, models) as context:
        context.sync(thorough=True)
        ledger = context.ledger
        if retry:
            ledger.retry_failures(context.model_version())
        with (
            scoring_bar("scoring") as (report, _),
            workers_of(context, cluster, models, workers) as spread,
        ):
            Scoring(context, report, spread).run()
        model_version = context.model_version()
        after, failures = ledger.progress(model_version), ledger.failures(model_version)
    console.print(f"scored {after.scored} of {after.total} under {model_version}")
    if after.scored:
        console.print(f"the list: atlas8k rank --studies {studies}", markup=False, soft_wrap=True)
    for name, reason in failures.items():
        console.print(f"failed: {name}: {reason}", highlight=False, soft_wrap=True)


def fine_tune(
    studies: Annotated[
        str, typer.Argument(help="studies folder with labels, or DICOMweb URL of the server")
    ],
    models: Models = MODELS,
    network: Networks = "all",
    epochs: Epochs = None,
    steps: Steps = None,
    gate: Annotated[
        bool, typer.Option(help="serve only what is no worse than what is served")
    ] = True,
    gate_margin: Annotated[float, typer.Option(help="DSC that an organ may lose")] = 0.02,
    pseudo_weight: Annotated[float, typer.Option(help="what a pseudo label counts, 0 to 1")] = 0.0,
    patients: Patients = None,
    training: Annotated[
        str, typer.Option(help='further settings, such as \'{"optimisers": "paper"}\'')
    ] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    ledger: LedgerFile = None,
) -> None:
    """Fine-tune the served networks on the labels of a studies folder.

    They learn organs that are public, revised, confirmed or absent. Trained networks are
    served if they are no worse on the held-out cases, and set aside with the reason if not. A
    training that was interrupted goes on when the command is repeated. On several GPUs:
    torchrun --nproc_per_node 4 -m atlas8k fine-tune STUDIES
    """
    existing_studies(studies)
    import torch

    from atlas8k.training import ranks
    from atlas8k.training.finetune import follow

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with ranks.together(device) as own:
        if not ranks.first():
            follow(own)
            return
        from atlas8k.services.training.fine_tuning import FineTuning

        settings = settings_of(
            None, device=own, gate=gate, gate_margin=gate_margin, ledger=ledger,
            max_epochs=epochs, steps_per_epoch=steps, pseudo_weight=pseudo_weight,
            patients=patients, training=training,
        )  # fmt: skip
        with context_of(settings, studies, models) as context:
            stats = FineTuning(context).run({"networks": network})
        ranks.broadcast(None)  # tells the following processes to end
    typer.echo(stats["message"])
    aside = stats["gate"].get("kept_aside")
    if aside:
        typer.echo(f"kept aside with the reason: {models / aside}")
