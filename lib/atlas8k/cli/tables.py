"""Tables of a terminal in which ids, numbers and commands are whole at any width.

What is cut cannot be copied, and what is wider than the terminal cannot be read. A table
that does not fit is printed row by row: the row's name on a line of its own, and what the
columns say of it below.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console

    from atlas8k.evaluation.tables import Table

PIPED = 120
"""Columns where the output is no terminal and `COLUMNS` does not say otherwise."""
GAP = 2
NARROWEST = 16
"""Text is not folded into less, or it is a column of single words."""
INDENT = "    "


class Column(NamedTuple):
    """One column.

    Attributes
    ----------
    name
        Its heading.
    right
        Put to the right, as numbers are.
    fold
        Text that may go over several lines; everything else is whole.
    """

    name: str
    right: bool = False
    fold: bool = False


def number(name: str) -> Column:
    """Return a column of numbers."""
    return Column(name, right=True)


def text(name: str) -> Column:
    """Return a column of text that may go over several lines."""
    return Column(name, fold=True)


def terminal(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, as `COLUMNS`, or as :data:`PIPED`."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    known = stream.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(stderr=stderr, width=None if known else PIPED, highlight=False)


def print_table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    title: str = "",
    *,
    key: int = 0,
    styles: Sequence[str] = (),
    console: Console | None = None,
) -> None:
    """Print a table that fits the terminal, with nothing cut.

    Parameters
    ----------
    columns
        Its columns; one that is empty in every row is left out.
    rows
        A cell a column.
    title
        Printed above.
    key
        The column that names a row; it and those before it head the row where the table
        does not fit.
    styles
        Of the rows, as rich names them; none by default.
    console
        Where to; standard output by default.
    """
    cells = [list(row) for row in rows]
    filled = [n for n in range(len(columns)) if n == key or any(row[n] for row in cells)]
    shown = [columns[n] for n in filled]
    cells = [[row[n] for n in filled] for row in cells]
    out = console or terminal()
    if title:
        out.print(title, style="bold", markup=False)
    widths = _least(shown, cells)
    if sum(widths) + GAP * (len(widths) - 1) <= out.width:
        _print_grid(out, shown, cells, widths, styles)
    else:
        _print_rows(out, shown, cells, filled.index(key))


def print_result(table: Table) -> None:
    """Print a table of results with its caption; bold cells are marked as in Markdown."""
    out = terminal()
    first, *others = table.columns
    rows = [
        [f"**{cell}**" if (i, j) in table.strong else cell for j, cell in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]
    print_table([Column(first), *map(number, others)], rows, table.title, console=out)
    out.print(table.caption, markup=False, style="dim")
    out.print()


def _least(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    """Width that each column needs at least."""
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
    columns: Sequence[Column],
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
    out: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]], key: int
) -> None:
    for row in rows:
        head = [
            f"{column.name} {cell}".strip() if column.right else cell
            for column, cell in zip(columns[: key + 1], row, strict=False)
            if cell
        ]
        out.print("  ".join(head), style="bold", markup=False, soft_wrap=True)
        said = [
            f"{column.name} {cell}".strip()
            for column, cell in zip(columns[key + 1 :], row[key + 1 :], strict=True)
            if cell
        ]
        for line in textwrap.wrap(
            "; ".join(said),
            max(20, out.width),
            initial_indent=INDENT,
            subsequent_indent=INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        ):
            out.print(line, markup=False, soft_wrap=True)
