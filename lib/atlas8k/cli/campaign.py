"""``atlas8k campaign``: where the rounds stand, the end of one, the next, and a simulation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.options import (
    MODELS,
    Commands,
    Conf,
    LedgerFile,
    Models,
    Studies,
    existing_ledger,
    existing_studies,
    settings_of,
)
from atlas8k.errors import CheckpointError

if TYPE_CHECKING:
    from atlas8k.campaign.reports import Status
    from atlas8k.ledger import Ledger

campaign = Commands(
    help="The eight steps as rounds: status, end of a round, the next one, a simulation."
)

AsJson = Annotated[bool, typer.Option("--json", help="as JSON; `campaign schema` describes it")]
Names = Annotated[bool, typer.Option("--names", help="name annotators in place of numbering them")]
Epochs = Annotated[int | None, typer.Option(help="of each network")]
Steps = Annotated[int | None, typer.Option(help="of an epoch")]


@contextmanager
def ledger_of(studies: str, given: Path | None) -> Iterator[Ledger]:
    """The ledger of studies that a server or a scoring has used.

    Raises
    ------
    LedgerError
        There is none yet.
    """
    from atlas8k.ledger import Ledger

    ledger = Ledger(existing_ledger(studies, given))
    try:
        yield ledger
    finally:
        ledger.close()


def look(
    ledger: Ledger,
    studies: str,
    models: Path,
    *,
    signature: str | None = None,
    names: bool = False,
) -> Status:
    """The campaign as it stands; what the trainer has noted is taken up.

    `signature` is of the networks served now; where it is not known, it is the one that a
    server or a scoring has used last, whatever its settings were.
    """
    from atlas8k.campaign import learning
    from atlas8k.campaign.status import status
    from atlas8k.models.store import ModelStore
    from atlas8k.server.files import read_json

    with suppress(OSError, ValueError):  # being written, or not the trainer's
        learning.note(ledger, read_json(models / learning.STATS))
    signature = signature or ledger.last_signature()
    if signature is None:
        try:
            signature = ModelStore(models).served().signature
        except CheckpointError:
            signature = None
    return status(
        ledger,
        signature=signature,
        names=names,
        running=running(ledger, models),
        studies=studies,
    )


def running(ledger: Ledger, models: Path) -> list[str]:
    """What another process does now on the same folder or networks."""
    locks = {"scoring": ledger.path.parent / "scoring.lock", "training": models / ".training.lock"}
    return [kind for kind, lock in locks.items() if _held(lock)]


def _held(lock: Path) -> bool:
    import fcntl

    try:
        with open(lock, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@campaign.command("status")
def status_(
    studies: Studies = ".",
    ledger: LedgerFile = None,
    models: Models = MODELS,
    as_json: AsJson = False,
    names: Names = False,
    plot: Annotated[
        Path | None, typer.Option(help="also draw the list and the rounds into this .png or .svg")
    ] = None,
) -> None:
    """Rounds, changes, minutes, stop rule, audits, and which of the eight steps are due."""
    with ledger_of(studies, ledger) as book:
        found = look(book, studies, models, names=names)
        listed = found.stop.round if found.stop else 0  # the last round that has a list
        plan, work = book.plan(listed), book.worked(listed)
    if plot is not None:
        from atlas8k.campaign.pictures import draw

        draw(plot, found, plan, work)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    from atlas8k.cli.campaign_tables import print_status

    print_status(found)
    if plot is not None:
        typer.echo(str(plot))


@campaign.command()
def schema() -> None:
    """Print the JSON schema of `campaign status --json` and of GET /atlas8k/campaign."""
    from atlas8k.campaign.reports import Status

    typer.echo(json.dumps(Status.model_json_schema(mode="serialization"), indent=1))


@campaign.command("close-round")
def close_round(
    studies: Studies = ".",
    ledger: LedgerFile = None,
    note: Annotated[str, typer.Option(help="why, for the records")] = "",
    force: Annotated[bool, typer.Option(help="even if nothing was submitted in it")] = False,
    as_json: AsJson = False,
) -> None:
    """End the open round without fine-tuning; the next sample or `next` opens another.

    Done again, it does nothing.
    """
    with ledger_of(studies, ledger) as book:
        number = book.close_round({"note": note or "closed by command"}, only_reviewed=not force)
        last = book.rounds()[-1:] if number is None else []
    if as_json:
        typer.echo(json.dumps({"closed": number, "open": None}))
    elif number is not None:
        typer.echo(f"round {number} is closed")
    elif last:
        typer.echo(f"no round is open; round {last[0].number} was the last")
    else:
        typer.echo("no round is open; the first begins with the first sample")


@campaign.command("next")
def next_(
    studies: Studies = ".",
    ledger: LedgerFile = None,
    models: Models = MODELS,
    train: Annotated[
        bool, typer.Option(help="fine-tune and end the round once its budget is used")
    ] = True,
    score: Annotated[bool, typer.Option(help="predict and rank what is stale")] = True,
    early: Annotated[bool, typer.Option(help="fine-tune before the budget is used")] = False,
    network: Annotated[str, typer.Option(help="all, or names with commas between")] = "all",
    epochs: Epochs = None,
    steps: Steps = None,
    budget: Annotated[
        float | None,
        typer.Option(help="of the next round, whoever begins it; the last one's by default"),
    ] = None,
    audit_percent: Annotated[
        float | None, typer.Option(help="% of the low-ranked volumes to audit from the next list")
    ] = None,
    stop_after: Annotated[
        int | None,
        typer.Option(help="so many in a row without a change can end it, from the next list on"),
    ] = None,
    conf: Conf = None,
    dry_run: Annotated[bool, typer.Option(help="only say which steps are due")] = False,
    as_json: AsJson = False,
) -> None:
    """Do what is due without people: fine-tune and judge, end the round, predict, rank.

    Then says which of the eight steps remain. Done again, it goes on where it was
    interrupted, or does nothing. A server may run on the folder meanwhile; give --conf what
    it was given.
    """
    if dry_run:
        with ledger_of(studies, ledger) as book:
            found = look(book, studies, models)
        _say_next(found, as_json)
        return
    existing_studies(studies)
    from atlas8k.campaign.work import advance
    from atlas8k.cli.campaign_work import bar, opened, told

    given = settings_of(conf)
    for key, value in {
        "ledger": ledger,
        "max_epochs": epochs,
        "steps_per_epoch": steps,
        "budget": budget,
    }.items():
        if value is not None:
            given[key] = str(value)
    with (
        bar("predicting") as (report, say),
        opened(studies, models, given, networks=network, report=report) as work,
    ):
        told(work, given, audit_percent, stop_after)
        done = advance(work, train=train, score=score, early=early, report=say)
        found = look(work.ledger, studies, work.models, signature=work.signature())
    if not as_json and done.ended is not None:
        typer.echo(
            f"round {done.ended} has ended: "
            + (done.trained.message if done.trained else "its training was noted by nobody")
        )
        if done.stop is not None:
            typer.echo(f"stop rule of round {done.ended}: {done.stop.text}")
    _say_next(found, as_json)


def _say_next(found: Status, as_json: bool) -> None:
    from atlas8k.cli.campaign_tables import print_steps

    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    where = "no round is open" if found.round is None else f"round {found.round} is open"
    typer.echo(f"{where}, networks {found.signature or 'none'}")
    print_steps(found)
