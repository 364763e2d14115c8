"""Write comma-separated text that spreadsheets take for text and numbers, never for formulas.

Spreadsheets run a cell that begins with one of a few characters, quoted or not. Names of cases,
notes and reasons come from files and people. Such a cell gets an apostrophe in front, by which a
spreadsheet shows the rest as it is (OWASP, CSV Injection); :func:`plain` takes it off again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_MARK = "'"
_FIGURE = re.compile(r"[+-]?(\d[\d,]*\.?\d*|\.\d+)([eE][+-]?\d+)?%?( [\d.,%±()\[\] –-]*)?")
"""A number, also with an interval or a deviation behind it: ``-0.12 ± 0.03``, ``+1.5 [-2, 4]``."""


def safe(cell: Any) -> Any:
    """Return a cell as it is written; no number is changed, nor one that is written as text."""
    formula = isinstance(cell, str) and len(cell) > 1 and cell.startswith(STARTS)
    return _MARK + cell if formula and not _FIGURE.fullmatch(cell) else cell


def plain(cell: str) -> str:
    """Return a cell as it was before :func:`safe`."""
    return cell[1:] if cell.startswith(_MARK) and cell[1:].startswith(STARTS) else cell


def csv_text(rows: Iterable[Sequence[Any]], end: str = "\r\n") -> str:
    """Return rows of cells as text."""
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator=end).writerows([[safe(c) for c in row] for row in rows])
    return stream.getvalue()


def frame_text(
    frame: pd.DataFrame, *, index: bool = False, digits: str | None = None, end: str = "\n"
) -> str:
    """Return a table as text.

    Parameters
    ----------
    index
        With the rows' names.
    digits
        Format of numbers, such as ``"%.4f"``; else every digit is written.
    """
    made = frame.map(safe).rename(columns=safe)
    if index:
        made = made.rename(index=safe)
    return str(made.to_csv(index=index, float_format=digits, lineterminator=end))
