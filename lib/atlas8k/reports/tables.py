"""Write a table as Markdown, LaTeX and CSV from one description."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from atlas8k.core.csv_text import frame_text
from atlas8k.reports.results import write_text

_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$", "<": r"$<$", ">": r"$>$", "×": r"$\times$",
})  # fmt: skip


@dataclass(frozen=True, eq=False)
class Table:
    """Cells with a caption.

    Attributes
    ----------
    name
        File name without suffix.
    title, caption
        The caption tells unit, n and the test used.
    columns
        Headers.
    rows
        Cells as shown, as many as headers.
    strong
        ``(row, column)`` of cells to be set in bold.
    records
        Full-precision rows for CSV; without them CSV has the shown cells.
    shade
        ``(row, column)`` to a strength 0..1 with which the report tints the cell.
    """

    name: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[tuple[int, int]] = frozenset()
    records: pd.DataFrame | None = None
    shade: Mapping[tuple[int, int], float] = field(default_factory=dict)

    def csv(self) -> str:
        """Return comma-separated text: the full-precision records where there are any."""
        frame = self.records
        if frame is None:
            frame = pd.DataFrame(self.rows, columns=list(self.columns))
        return frame_text(frame)

    def _marked(self, before: str, after: str, cells: Iterable[Sequence[str]]) -> list[list[str]]:
        """Return rows of cells in which the strong ones are between two marks."""
        return [
            [f"{before}{c}{after}" if (r, n) in self.strong and c else c for n, c in enumerate(row)]
            for r, row in enumerate(cells)
        ]

    def marked(self) -> list[list[str]]:
        """Return the rows with strong cells in Markdown's bold."""
        return self._marked("**", "**", self.rows)

    def markdown(self) -> str:
        """Return a pipe table under its title, the caption below."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        cells = [[c.replace("|", r"\|") for c in row] for row in (self.columns, *self.marked())]
        lines = [f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:])]
        return "\n".join([f"### {self.title}", "", *lines, "", self.caption, ""])

    def latex(self) -> str:
        """Return a ``table`` with ``booktabs`` rules."""
        cells = ([escape(c) for c in row] for row in self.rows)
        header, *rows = (
            " & ".join(row) + r" \\"
            for row in ([*map(escape, self.columns)], *self._marked(r"\textbf{", "}", cells))
        )
        return "\n".join([
            r"\begin{table}", r"\centering",
            rf"\caption{{{escape(self.title)}. {escape(self.caption)}}}",
            rf"\label{{tab:{self.name}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}", r"\toprule",
            header, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
        ])  # fmt: skip


def long_records(axes: Mapping[str, Sequence[str]], **figures: Any) -> pd.DataFrame:
    """Return a row for each combination of names, the last axis fastest.

    Parameters
    ----------
    axes
        Name of a column to its values.
    figures
        Arrays with one dimension an axis, or that broadcast to these.
    """
    index = pd.MultiIndex.from_product([*axes.values()], names=[*axes])
    shape = tuple(map(len, axes.values()))
    columns = {name: np.broadcast_to(array, shape).ravel() for name, array in figures.items()}
    return pd.DataFrame(columns, index=index).reset_index()


def escape(text: str) -> str:
    """Return text with LaTeX's special characters made harmless."""
    return text.translate(_LATEX)


def slug(text: str) -> str:
    """Return a file name of letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "table"


def number(value: float, digits: int = 1, scale: float = 100.0) -> str:
    """Return a figure scaled and rounded; a dash where there is none."""
    return "–" if math.isnan(value) else f"{scale * value:.{digits}f}"


def plus_minus(mean: float, sd: float, digits: int = 1) -> str:
    """Return ``mean±SD`` in percent, rounded; a dash where there is none."""
    return "–" if math.isnan(mean) else f"{number(mean, digits)}±{number(sd, digits)}"


def p_text(p: float) -> str:
    """Return a p-value with two significant digits; ``< 0.0001`` below that."""
    if math.isnan(p):
        return "–"
    if p < 1e-4:
        return "< 0.0001"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.4f}"


def stars(p: float) -> str:
    """Return ``ns * ** *** ****`` for p above 0.05, up to 0.05, 0.01, 0.001 and 0.0001."""
    if math.isnan(p):
        return "–"
    return "ns" if p > 0.05 else "*" * (1 + sum(p <= level for level in (1e-2, 1e-3, 1e-4)))


def count_range(counts: Iterable[int]) -> str:
    """Return ``4`` or ``1–7``: the fewest and the most; ``none`` without any."""
    known = [int(n) for n in counts]
    return "–".join(map(str, dict.fromkeys((min(known), max(known))))) if known else "none"


def write_tables(tables: Iterable[Table], folder: str | Path) -> None:
    """Write every table as ``<name>.csv``, ``.md`` and ``.tex``."""
    for table in tables:
        forms = {"csv": table.csv(), "md": table.markdown(), "tex": table.latex()}
        for suffix, text in forms.items():
            write_text(Path(folder) / f"{table.name}.{suffix}", text)
