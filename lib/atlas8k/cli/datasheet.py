"""``atlas8k datasheet``: a page that describes an exported dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    checks find; of a campaign effort, errors left, agreement. Each table says how it was made.
    """
    from atlas8k.cli.campaign import campaign_status
    from atlas8k.cli.open_studies import ledger_of
    from atlas8k.core.files import publishing
    from atlas8k.reports.report import write_table_page
    from atlas8k.services.exporting.datasheet import campaign_tables, read_manifest, tables_of

    rows = read_manifest(dataset)
    tables = tables_of(rows, metadata)
    if studies:
        with ledger_of(studies, ledger) as book:
            status = campaign_status(book, studies, MODELS)
            tables += campaign_tables(status, book.agreements())
    notes = [
        f"{rows['volume'].nunique()} volumes, {len(rows)} labels of organs. An organ that is "
        "unknown has no label: it is not background."
    ]
    if not studies:
        notes.append("Nothing of the campaign: give --studies for effort, audits and label noise.")
    folder = out or dataset
    footer = (
        "All but the campaign's figures follow from manifest.csv, which lies beside the labels."
    )
    write_table_page(folder / "datasheet.html", tables, title=title, notes=notes, footer=footer)
    with publishing(folder / "datasheet.md") as temporary:
        parts = [f"# {title}", *notes, *(table.markdown() for table in tables)]
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    typer.echo(f"page: {folder / 'datasheet.html'}; Markdown: {folder / 'datasheet.md'}")
