"""The ``atlas8k`` command: one module a group of commands, heavy imports inside them."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from atlas8k import __version__
from atlas8k.cli.audit import audit
from atlas8k.cli.backup import backup, restore
from atlas8k.cli.campaign import campaign
from atlas8k.cli.compare import compare
from atlas8k.cli.cross import cross
from atlas8k.cli.cts import cts
from atlas8k.cli.datasheet import datasheet
from atlas8k.cli.doctor import doctor
from atlas8k.cli.evaluate import evaluate
from atlas8k.cli.explain import explain
from atlas8k.cli.export import export
from atlas8k.cli.labels import labels
from atlas8k.cli.ledger import ledger
from atlas8k.cli.options import Commands
from atlas8k.cli.phantoms import phantoms
from atlas8k.cli.plan import plan
from atlas8k.cli.predict import predict
from atlas8k.cli.quality import quality
from atlas8k.cli.rank import rank
from atlas8k.cli.review import review
from atlas8k.cli.structures import structures
from atlas8k.cli.tasks import fine_tune, score
from atlas8k.cli.train import train
from atlas8k.cli.viewer import viewer
from atlas8k.cli.weights import weights
from atlas8k.core.acting import act_as_program
from atlas8k.core.errors import Atlas8kError

app = Commands(
    name="atlas8k",
    help="The AbdomenAtlas-8K annotation procedure: predict, score, rank, train, evaluate.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (
    phantoms, predict, score, rank, explain, train, evaluate, compare, cross, fine_tune,
    export, datasheet, backup, restore, doctor, structures, plan,
):  # fmt: skip
    app.command()(command)
for name, group in (
    ("campaign", campaign), ("quality", quality), ("ledger", ledger), ("review", review),
    ("labels", labels), ("cts", cts), ("weights", weights), ("audit", audit),
    ("viewer", viewer),
):  # fmt: skip
    app.add_typer(group, name=name)


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
    structures: Annotated[
        str,
        typer.Option(
            "--structures",
            metavar="SET",
            help="structures to work with where no campaign says it: a name that `atlas8k "
            "structures` lists, or a file",
        ),
    ] = "",
) -> None:
    """Run the AbdomenAtlas-8K annotation procedure: predict, score, rank, train, evaluate."""
    if structures:
        from atlas8k.core.structure_sets import find_set
        from atlas8k.core.structures import use

        use(find_set(structures))


def main() -> None:
    """Run the command; print an error of ours as one line, with exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    # The user of a command knows where folder and ledger are, and asks for no threads of a library.
    for quiet in ("atlas8k.services.studies", "atlas8k.store.filesystem", "numexpr"):
        logging.getLogger(quiet).setLevel(logging.WARNING)
    act_as_program("atlas8k command")
    try:
        app()
    except Atlas8kError as err:
        typer.echo(f"atlas8k: {err}", err=True)
        sys.exit(2)
