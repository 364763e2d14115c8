"""``atlas8k fine-tune``: what the server's train button does, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from atlas8k.cli.options import MODELS, LedgerFile, Models, existing_studies


def fine_tune(
    studies: Annotated[
        str, typer.Argument(help="studies folder with labels, or DICOMweb URL of the server")
    ],
    models: Models = MODELS,
    network: Annotated[str, typer.Option(help="all, or names with commas between")] = "all",
    epochs: Annotated[int | None, typer.Option(help="of each network")] = None,
    steps: Annotated[int | None, typer.Option(help="of an epoch")] = None,
    gate: Annotated[
        bool, typer.Option(help="serve only what is no worse than what is served")
    ] = True,
    gate_margin: Annotated[float, typer.Option(help="DSC that an organ may lose")] = 0.02,
    pseudo_weight: Annotated[float, typer.Option(help="what a pseudo label counts, 0 to 1")] = 0.0,
    patients: Annotated[
        Path | None, typer.Option(help="CSV: volume,patient; those of one stay together")
    ] = None,
    training: Annotated[
        str, typer.Option(help='further settings, such as \'{"optimisers": "paper"}\'')
    ] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    ledger: LedgerFile = None,
) -> None:
    """Train the served networks on with the labels of a studies folder.

    Learned are organs that are public, revised, confirmed or absent; what is trained is
    served if it is no worse on the held-out cases, and kept aside with the reason if not. A
    training that was interrupted goes on when the command is repeated. On several GPUs:
    torchrun --nproc_per_node 4 -m atlas8k fine-tune STUDIES
    """
    existing_studies(studies)
    from atlas8k.training import ranks
    from atlas8k.training.finetune import follow

    with ranks.together(_found(device)) as own:
        if not ranks.first():
            follow(own)
            return
        given = {
            "device": own,
            "gate": str(gate),
            "gate_margin": str(gate_margin),
            "ledger": "" if ledger is None else str(ledger),
            "max_epochs": "" if epochs is None else str(epochs),
            "steps_per_epoch": "" if steps is None else str(steps),
            "pseudo_weight": str(pseudo_weight),
            "patients": "" if patients is None else str(patients),
            "training": training,
        }
        stats = _run(studies, models, network, given)
        ranks.broadcast(None)  # to those that followed: there is no more
    typer.echo(stats["message"])
    aside = stats["gate"].get("kept_aside")
    if aside:
        typer.echo(f"kept aside with the reason: {models / aside}")


def _found(device: str) -> str:
    """The device that is meant by ``auto``."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def _run(studies: str, models: Path, network: str, given: dict[str, str]) -> dict[str, Any]:
    """One training; its statistics."""
    from atlas8k.server.opening import open_context
    from atlas8k.server.training.fine_tuning import FineTuning
    from atlas8k.settings import Settings

    context = open_context(Settings.from_conf(given), studies, models)
    try:
        return FineTuning(context).run({"networks": network})
    finally:
        context.datastore.close()
        context.ledger.close()
