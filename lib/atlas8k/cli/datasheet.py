"""``atlas8k datasheet``: a page that describes an exported dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from atlas8k.cli.options import MODELS, LedgerFile


def datasheet(
    dataset: Annotated[Path, typer.Argument(help="folder that atlas8k export has made")],
    studies: Annotated[
        str, typer.Option(help="the campaign's studies, for effort, audits and label noise")
    ] = "",
    ledger: LedgerFile = None,
    metadata: Annotated[
        Path | None, typer.Option(help="CSV of cases with age, sex, ...: counted in the page")
    ] = None,
    title: Annotated[str, typer.Option(help="of the page")] = "Datasheet",
    out: Annotated[
        Path | None, typer.Option(help="folder to write to", show_default="the dataset's")
    ] = None,
) -> None:
    """Write datasheet.html, which needs nothing beside it, and datasheet.md.

    Sources and licences, phases, sets, organs and who says so, organ volumes by source, what the
    checks find; of a campaign effort, errors left, agreement. Each table and figure says how it
    was made.
    """
    from atlas8k.cli.campaign import campaign_status
    from atlas8k.cli.open_studies import ledger_of
    from atlas8k.services.exporting.datasheet_page import write_datasheet

    given: dict[str, Any] = {"metadata": metadata, "title": title, "out": out}
    if studies:
        with ledger_of(studies, ledger) as book:
            given |= {
                "status": campaign_status(book, studies, MODELS),
                "readings": book.agreements(),
            }
    page, text = write_datasheet(dataset, **given)
    typer.echo(f"page: {page}; Markdown: {text}")
