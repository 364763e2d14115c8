"""A table as people print it: Markdown, LaTeX and CSV from one description."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atlas8k.evaluation.results import csv_text, write_text

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$", "<": r"$<$", ">": r"$>$", "×": r"$\times$",
}  # fmt: skip


@dataclass(frozen=True)
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
        Header and full-precision rows for CSV; without them CSV has the shown cells.
    shade
        ``(row, column)`` to a strength 0..1 with which the report tints the cell.
    """

    name: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[tuple[int, int]] = frozenset()
    records: tuple[tuple[str, ...], ...] = ()
    shade: tuple[tuple[tuple[int, int], float], ...] = ()

    @property
    def tint(self) -> dict[tuple[int, int], float]:
        """:attr:`shade` as a mapping."""
        return dict(self.shade)

    def csv(self) -> str:
        """Comma-separated: the full-precision records where there are any."""
        header, *rows = self.records or (self.columns, *self.rows)
        return csv_text(list(header), [list(row) for row in rows])

    def markdown(self) -> str:
        """A pipe table under its title, the caption below."""

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

        rows = [
            line([f"**{c}**" if (r, n) in self.strong and c else c for n, c in enumerate(row)])
            for r, row in enumerate(self.rows)
        ]
        rule = "|" + "|".join([" --- ", *[" ---: "] * (len(self.columns) - 1)]) + "|"
        return "\n".join([f"### {self.title}", "", line(self.columns), rule, *rows, "",
                          self.caption, ""])  # fmt: skip

    def latex(self) -> str:
        """A ``table`` with ``booktabs`` rules."""
        rows = [
            " & ".join(
                rf"\textbf{{{escape(c)}}}" if (r, n) in self.strong and c else escape(c)
                for n, c in enumerate(row)
            )
            + r" \\"
            for r, row in enumerate(self.rows)
        ]
        return "\n".join([
            r"\begin{table}", r"\centering",
            rf"\caption{{{escape(self.title)}. {escape(self.caption)}}}",
            rf"\label{{tab:{self.name}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}", r"\toprule",
            " & ".join(escape(c) for c in self.columns) + r" \\", r"\midrule", *rows,
            r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
        ])  # fmt: skip


def escape(text: str) -> str:
    """Text with LaTeX's special characters made harmless."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def slug(text: str) -> str:
    """A file name of letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "table"


def number(value: float, digits: int = 1, scale: float = 100.0) -> str:
    """A figure scaled and rounded; a dash where there is none."""
    return "–" if math.isnan(value) else f"{scale * value:.{digits}f}"


def plus_minus(mean: float, sd: float, digits: int = 1, scale: float = 100.0) -> str:
    """``mean±SD``, scaled and rounded; a dash where there is none."""
    if math.isnan(mean):
        return "–"
    return f"{number(mean, digits, scale)}±{number(sd, digits, scale)}"


def p_text(p: float) -> str:
    """A p-value with two significant digits; ``< 0.0001`` below that."""
    if math.isnan(p):
        return "–"
    if p < 1e-4:
        return "< 0.0001"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.4f}"


def stars(p: float) -> str:
    """``ns * ** *** ****`` for p above 0.05, up to 0.05, 0.01, 0.001 and 0.0001."""
    if math.isnan(p):
        return "–"
    return "ns" if p > 0.05 else "*" * (1 + sum(p <= level for level in (1e-2, 1e-3, 1e-4)))


def exact(value: float) -> str:
    """A figure with every digit; empty where there is none."""
    return "" if math.isnan(value) else repr(float(value))


def write_tables(tables: Sequence[Table], folder: str | Path) -> list[Path]:
    """Write every table as ``<name>.csv``, ``.md`` and ``.tex``."""
    folder = Path(folder)
    written = []
    for table in tables:
        for suffix, text in (
            ("csv", table.csv()), ("md", table.markdown()), ("tex", table.latex()),
        ):  # fmt: skip
            written.append(write_text(folder / f"{table.name}.{suffix}", text))
    return written
