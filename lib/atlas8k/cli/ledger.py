"""``atlas8k ledger``: back it up while the server runs, and rebuild it when it is lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from atlas8k.cli.open_studies import folder_only, ledger_of
from atlas8k.cli.options import Commands, FolderOfStudies, LedgerFile, Studies
from atlas8k.core.errors import LedgerError

ledger = Commands(help="Back up or rebuild the ledger.")


@ledger.command()
def backup(
    target: Annotated[Path, typer.Argument(help="file to write, or folder to write one into")],
    studies: Studies = ".",
    path: LedgerFile = None,
) -> None:
    """Copy the ledger as it is at one moment; the server may go on meanwhile."""
    if target.is_dir():
        target /= f"ledger-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.sqlite"
    with ledger_of(studies, path) as book:
        book.note("export", kind="backup")
        typer.echo(book.backup(target))


@ledger.command()
def rebuild(
    studies: FolderOfStudies = Path(),
    path: LedgerFile = None,
    replace: Annotated[
        bool, typer.Option(help="move a ledger that is there aside; stop the server first")
    ] = False,
    gold: Annotated[
        Path | None,
        typer.Option(help="folder of known labels: readings of these gold cases cross nothing"),
    ] = None,
) -> None:
    """Make a new ledger from the label files of a studies folder.

    Who submitted what and when, what changed in each organ, which organs are human made and
    which CTs people called unusable come back. Scores, leases, minutes, rounds and reviewers'
    decisions do not: restore a backup where there is one.
    """
    from tqdm import tqdm

    from atlas8k.services.gold import names_in
    from atlas8k.services.rebuild import NOT_REBUILT, rebuild_ledger
    from atlas8k.store import locate

    folder_only(studies, "its ledger is not rebuilt from files: restore a backup of it")
    if not studies.is_dir():
        raise LedgerError(f"{studies}: there is no such folder; labels are looked for in it")
    target = path or locate(str(studies))
    if target.exists() and not replace:
        raise LedgerError(
            f"{target}: exists, and a rebuilt one knows less; stop the server and give --replace "
            "to move it aside, or move it away yourself"
        )
    report, moved = rebuild_ledger(
        studies,
        target,
        lambda files: tqdm(files, desc="labels", unit="file"),
        gold=() if gold is None else names_in(gold),
    )
    for file, reason in report.unreadable.items():
        typer.echo(f"{file}: {reason}", err=True)
    typer.echo(
        f"{target}: {report.volumes} volumes, {report.labels} label files, "
        f"{report.submissions} submissions, {report.decisions} decisions about usable CTs, "
        f"{report.drawings} drawings"
        + (f", {len(report.unreadable)} of them unreadable" if report.unreadable else "")
    )
    for volume in report.gold:
        typer.echo(
            f"{volume}: a later submission was taken for a reading of a gold case; had it crossed "
            "another, a reviewer would be asked: look at its submissions",
            err=True,
        )
    if report.unchecked:
        typer.echo(
            f"{len(report.unchecked)} labels in labels/final came by no server, such as "
            f"{report.unchecked[0]}: the next start of the server checks them"
        )
    typer.echo(f"Not in label files and not rebuilt: {NOT_REBUILT}.")
    typer.echo("Volumes are scored again by the next scoring run.")
    for aside in moved:
        typer.echo(f"The ledger that was there: {aside}")
