"""The ``atlas8k`` command: one module a group of commands, heavy imports inside them."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from atlas8k import __version__
from atlas8k.cli import (  # noqa: F401  (commands)
    campaign_usability,
    labels_history,
    labels_rejected,
    quality_studies,
    weights_range,
    weights_rollback,
)
from atlas8k.cli.campaign_simulate import campaign
from atlas8k.cli.compare import compare
from atlas8k.cli.cross import cross
from atlas8k.cli.evaluate import evaluate
from atlas8k.cli.explain import explain
from atlas8k.cli.fine_tune import fine_tune
from atlas8k.cli.labels import labels
from atlas8k.cli.ledger import ledger
from atlas8k.cli.options import Commands
from atlas8k.cli.phantoms import phantoms
from atlas8k.cli.predict import predict
from atlas8k.cli.quality import quality
from atlas8k.cli.rank import rank
from atlas8k.cli.review import review
from atlas8k.cli.score import score
from atlas8k.cli.train import train
from atlas8k.cli.weights import weights
from atlas8k.errors import Atlas8kError

app = Commands(
    name="atlas8k",
    help="The AbdomenAtlas-8K annotation procedure: predict, score, rank, train, evaluate.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (phantoms, predict, score, rank, explain, train, evaluate, compare, cross):
    app.command()(command)
app.command()(fine_tune)
app.add_typer(campaign, name="campaign")
app.add_typer(quality, name="quality")
app.add_typer(ledger, name="ledger")
app.add_typer(review, name="review")
app.add_typer(labels, name="labels")
app.add_typer(weights, name="weights")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """The AbdomenAtlas-8K annotation procedure: predict, score, rank, train, evaluate."""


def main() -> None:
    """Run the command; an error of ours is one line and exit code 2, not a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    # Where folder and ledger lie is known to who types it; a server's log says it once.
    for quiet in ("atlas8k.server.studies", "atlas8k.ledger.filesystem"):
        logging.getLogger(quiet).setLevel(logging.WARNING)
    try:
        app()
    except Atlas8kError as err:
        typer.echo(f"atlas8k: {err}", err=True)
        sys.exit(2)
