"""``atlas8k campaign exclude`` and ``include``: CTs that are not usable."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.campaign import campaign, ledger_of
from atlas8k.cli.options import LedgerFile, Studies
from atlas8k.errors import LedgerError

if TYPE_CHECKING:
    from atlas8k.ledger import Ledger

Volumes = Annotated[list[str], typer.Argument(help="ids of volumes, as in the list")]


@campaign.command()
def exclude(
    volumes: Volumes,
    reason: Annotated[str, typer.Option(help="why, for the records")],
    studies: Studies = ".",
    ledger: LedgerFile = None,
) -> None:
    """Say that CTs are not usable: out of list, budget, audits and training.

    Their labels stay, and `include` takes it back.
    """
    from atlas8k.ledger import Holder

    with ledger_of(studies, ledger) as book:
        _check(book, volumes)
        for volume in volumes:
            book.exclude(volume, reason, Holder.identify(client_id=getpass.getuser()))
            typer.echo(f"{volume}: not usable: {reason}")


@campaign.command()
def include(
    volumes: Volumes,
    reason: Annotated[str, typer.Option(help="why, for the records")] = "",
    studies: Studies = ".",
    ledger: LedgerFile = None,
) -> None:
    """Let CTs count again, whatever their content looks like."""
    from atlas8k.ledger import Holder

    with ledger_of(studies, ledger) as book:
        _check(book, volumes)
        for volume in volumes:
            done = book.include(volume, reason, Holder.identify(client_id=getpass.getuser()))
            said = "counts again; score it with `atlas8k score`" if done else "counts already"
            typer.echo(f"{volume}: {said}")


def _check(book: Ledger, volumes: list[str]) -> None:
    """Raise :class:`LedgerError` for volumes that were never seen, before anything is done."""
    unknown = [volume for volume in volumes if volume not in book.statuses()]
    if unknown:
        raise LedgerError(f"{', '.join(unknown)}: no such volume in {book.path}")
