"""The report: one HTML page with everything in it, light or dark as the reader's screen is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from atlas8k import __version__
from atlas8k.evaluation import compare_tables as tables
from atlas8k.evaluation.compare import Comparison
from atlas8k.evaluation.figures import class_boxes, group_boxes
from atlas8k.evaluation.pictures import Picture
from atlas8k.evaluation.results import write_text
from atlas8k.evaluation.tables import Table


@dataclass(frozen=True)
class _GroupPart:
    column: str
    table: Table
    pairs: Table | None
    figure: Markup | None
    note: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """What the page shows of one metric."""

    metric: str
    networks: int
    cases: int
    summary: Table
    worst: Table
    boxes: Markup
    ranks: Table
    frequencies: list[Table]
    significances: list[Table]
    groups: list[_GroupPart]
    worst_cases: Table
    pictures: Sequence[Picture]
    notes: Sequence[str]


def _part(comparison: Comparison, pictures: Sequence[Picture]) -> _Part:
    columns = ["average", *comparison.panel.organs]
    several = len(comparison.panel.networks) > 1
    groups = []
    for grouping in comparison.groupings:
        # Two columns together make many small boxes: they stay tables.
        figure, note = (None, "") if grouping.combined else group_boxes(comparison, grouping)
        groups.append(
            _GroupPart(
                grouping.column,
                tables.group_table(comparison, grouping.column),
                tables.pair_table(comparison, grouping.column),
                None if figure is None else Markup(figure),
                note,
                tuple(
                    dict.fromkeys(w for t in comparison.groups[grouping.column] for w in t.warnings)
                ),
            )
        )
    return _Part(
        comparison.panel.metric.upper(),
        len(comparison.panel.networks),
        len(comparison.panel.cases),
        tables.summary_table(comparison),
        tables.worst_table(comparison),
        Markup(class_boxes(comparison)),
        tables.rank_table(comparison),
        [tables.frequency_table(comparison, c) for c in columns] if several else [],
        [tables.significance_table(comparison, c) for c in columns] if several else [],
        groups,
        tables.worst_cases_table(comparison),
        pictures,
        comparison.notes,
    )


def _fill(template: str, **content: object) -> str:
    environment = Environment(
        loader=PackageLoader("atlas8k.evaluation"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template(template).render(made=made, version=__version__, **content)


def render(
    comparisons: Sequence[Comparison],
    pictures: Mapping[str, Sequence[Picture]] | None = None,
    *,
    title: str = "Networks compared",
    tolerance: str = "",
) -> str:
    """The page as HTML.

    Parameters
    ----------
    comparisons
        One a metric.
    pictures
        Metric to pictures of its worst cases.
    tolerance
        Words on NSD's tolerance; results files do not tell it.
    """
    parts = [_part(c, (pictures or {}).get(c.panel.metric, ())) for c in comparisons]
    return _fill("report.html.j2", title=title, parts=parts, tolerance=tolerance)


def write_report(
    path: str | Path,
    comparisons: Sequence[Comparison],
    pictures: Mapping[str, Sequence[Picture]] | None = None,
    *,
    title: str = "Networks compared",
    tolerance: str = "",
) -> Path:
    """Write :func:`render`'s page."""
    return write_text(path, render(comparisons, pictures, title=title, tolerance=tolerance))


def write_table_page(
    path: str | Path, shown: Sequence[Table], *, title: str, notes: Sequence[str] = ()
) -> Path:
    """Write a page of tables only."""
    return write_text(path, _fill("tables.html.j2", title=title, tables=shown, notes=notes))
