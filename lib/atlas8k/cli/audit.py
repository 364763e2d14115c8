"""``atlas8k audit``: who did what when, as lines of JSON, and whether it is as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.open_studies import ledger_of
from atlas8k.cli.options import Commands, LedgerFile, Studies
from atlas8k.core.errors import LedgerError

if TYPE_CHECKING:
    from atlas8k.store.audit_trail import Head, Verified

audit = Commands(help="Export and verify the record of who did what when.")


@audit.command()
def export(
    target: Annotated[Path, typer.Argument(help="file to write, one record a line")],
    studies: Studies = ".",
    ledger: LedgerFile = None,
) -> None:
    """Write the audit trail as lines of JSON; the server may go on meanwhile.

    Volumes have the store's numbers in it, reasons that were typed their hash: nothing in it is
    of a patient. Note number and hash of the last record elsewhere: that its end was cut off
    is not to be seen otherwise.
    """
    from atlas8k.core.files import publishing
    from atlas8k.store import audit_trail

    with ledger_of(studies, ledger) as book:
        book.note("export", kind="audit trail")  # in it, too
        try:
            with publishing(target) as temporary, open(temporary, "wb") as out, book.read() as tx:
                out.writelines(audit_trail.lines(tx))
                head = audit_trail.head(tx)
        except OSError as error:
            raise LedgerError(f"{target}: cannot be written ({error})") from error
    typer.echo(f"{target}: {head.number} records")
    _print_head(head)


@audit.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="an exported file; else the ledger's own", metavar="FILE")
    ] = None,
    studies: Studies = ".",
    ledger: LedgerFile = None,
    noted: Annotated[
        str, typer.Option(help="COUNT:HASH of a record, as noted earlier: is it still there?")
    ] = "",
) -> None:
    """Check that no record was changed, removed, put in or moved; exit code 1 where one was."""
    from atlas8k.store import audit_trail

    head = audit_trail.read_head(noted) if noted else None
    if file is not None:
        try:
            with open(file, "rb") as lines:
                found = audit_trail.verify(lines, head)
        except OSError as error:
            raise LedgerError(f"{file}: cannot be read ({error})") from error
        _print(str(file), found, head)
        return
    with ledger_of(studies, ledger) as book, book.read() as tx:
        found = audit_trail.verify(audit_trail.lines(tx), head)
        changed, gone = audit_trail.lost_reasons(tx)
    if changed or gone:
        typer.echo(f"of the reasons that were typed, {changed} were changed, {gone} are gone")
    _print(str(book.path), found, head, fault=bool(changed or gone))


def _print(where: str, found: Verified, head: Head | None, *, fault: bool = False) -> None:
    if found.fault:
        typer.echo(f"{where}: {found.number} records are as they were written, then {found.fault}")
    else:
        typer.echo(f"{where}: {found.number} records, all as they were written")
    if head is not None and not found.noted:
        typer.echo(f"record {head.number} is not the one that was noted, or is gone")
    _print_head(found)
    if found.fault or fault or (head is not None and not found.noted):
        raise typer.Exit(1)


def _print_head(last: Head | Verified) -> None:
    typer.echo(f"the last one, to be noted elsewhere: {last.number}:{last.sha256}")
