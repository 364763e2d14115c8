"""Print tables with ids, numbers and commands uncut, at any width of the terminal.

Text that is cut cannot be copied, and text wider than the terminal cannot be read. A table
that does not fit is printed row by row: the row's name on a line of its own, and its cells
below.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from atlas8k.reports.tables import Table

PIPED = 120
"""Width where the output is no terminal and `COLUMNS` is not set."""
GAP = 2
NARROWEST = 16
"""Least width of folded text; narrower, it would be a column of single words."""
INDENT = "    "


def terminal(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, as `COLUMNS`, or as :data:`PIPED`."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    known = stream.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(stderr=stderr, width=None if known else PIPED, highlight=False)


class _Column(NamedTuple):
    name: str
    right: bool
    fold: bool


def print_table(
    rows: Iterable[Mapping[str, object]],
    title: str = "",
    *,
    left: Collection[str] = (),
    fold: Collection[str] = (),
    key: str = "",
    styles: Sequence[str] = (),
    console: Console | None = None,
) -> None:
    """Print a table that fits the terminal, with nothing cut.

    Parameters
    ----------
    rows
        Heading to cell, the same headings in each; a column that is empty in every row is
        left out.
    title
        Printed above.
    left
        Columns that are put to the left; the others to the right, as numbers are.
    fold
        Columns of text that may go over several lines; all others stay on one.
    key
        The column that names a row, the first by default; it and those before it head the
        row where the table does not fit.
    styles
        Styles of the rows, as rich names them; none by default.
    console
        Console to print to; standard output by default.
    """
    texts = [{name: str("" if c is None else c) for name, c in row.items()} for row in rows]
    names = [*texts[0]] if texts else []
    key = key or next(iter(names), "")
    names = [name for name in names if name == key or any(row[name] for row in texts)]
    columns = [_Column(name.strip(), name not in {*left, *fold}, name in fold) for name in names]
    cells = [[row[name] for name in names] for row in texts]
    out = console or terminal()
    if title:
        out.print(title, style="bold", markup=False)
    if not cells:
        return
    widths = _least(columns, cells)
    if sum(widths) + GAP * (len(widths) - 1) <= out.width:
        _print_grid(out, columns, cells, widths, styles)
    else:
        _print_rows(out, columns, cells, names.index(key))


def decimals(value: float | None, digits: int = 3) -> str:
    """Return a number with so many decimals; nothing where it is unknown."""
    return "" if value is None else f"{value:.{digits}f}"


def print_result(table: Table) -> None:
    """Print a table of results with its caption; bold cells are marked as in Markdown."""
    out = terminal()
    # A heading may occur twice.
    names = [name + " " * n for n, name in enumerate(table.columns)]
    rows = [dict(zip(names, row, strict=True)) for row in table.marked()]
    print_table(rows, table.title, left=names[:1], console=out)
    out.print(table.caption, markup=False, style="dim")
    out.print()


def write_page(
    tables: Sequence[Table],
    folder: Path,
    name: str,
    title: str,
    notes: Sequence[str],
    printed: Sequence[Table],
) -> None:
    """Write tables and a page of them into a folder; print those `printed`, and the notes."""
    from atlas8k.reports.report import write_table_page
    from atlas8k.reports.tables import write_tables

    write_tables(tables, folder / "tables")
    page = write_table_page(folder / f"{name}.html", tables, title=title, notes=notes)
    for table in printed:
        print_result(table)
    for note in notes:
        typer.echo(f"note: {note}")
    typer.echo(f"page: {page}; tables in {folder / 'tables'}")


def _least(columns: Sequence[_Column], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the width that each column needs at least."""
    widths = []
    for n, column in enumerate(columns):
        widest = max((len(row[n]) for row in rows), default=0)
        if column.fold:
            longest = max((len(word) for row in rows for word in row[n].split()), default=0)
            widest = min(widest, max(NARROWEST, longest))
        widths.append(max(widest, *map(len, column.name.split()), 0))
    return widths


def _print_grid(
    out: Console,
    columns: Sequence[_Column],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    styles: Sequence[str],
) -> None:
    from rich.table import Table as Grid
    from rich.text import Text

    cells = [max((len(row[n]) for row in rows), default=0) for n in range(len(columns))]
    whole = [max(size, len(column.name)) for size, column in zip(cells, columns, strict=True)]
    narrow = sum(whole) + GAP * (len(whole) - 1) > out.width
    table = Grid(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        name = "\n".join(textwrap.wrap(column.name, width)) if narrow else column.name
        table.add_column(
            Text(name),
            justify="right" if column.right else "left",
            no_wrap=not column.fold,
            min_width=width if column.fold else None,
            overflow="fold",
        )
    for n, row in enumerate(rows):
        table.add_row(*map(Text, row), style=styles[n] if styles else None)
    out.print(table)


def _print_rows(
    out: Console, columns: Sequence[_Column], rows: Sequence[Sequence[str]], key: int
) -> None:
    for row in rows:
        head = [
            f"{column.name} {cell}".strip() if column.right else cell
            for column, cell in zip(columns[: key + 1], row, strict=False)
            if cell
        ]
        out.print("  ".join(head), style="bold", markup=False, soft_wrap=True)
        parts = [
            f"{column.name} {cell}".strip()
            for column, cell in zip(columns[key + 1 :], row[key + 1 :], strict=True)
            if cell
        ]
        for line in textwrap.wrap(
            "; ".join(parts),
            max(20, out.width),
            initial_indent=INDENT,
            subsequent_indent=INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        ):
            out.print(line, markup=False, soft_wrap=True)
