"""``atlas8k quality``: label and annotator quality, the tables of the papers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.options import Commands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atlas8k.evaluation.tables import Table

quality = Commands(
    help="Label quality over rounds, training sets against each other, agreement of raters."
)

Out = Annotated[Path, typer.Option(help="Folder for the page and the tables.")]
NOTES_EACH = 5
"""Notes of one kind that are said each."""
Metric = Annotated[str, typer.Option(help="dsc or nsd.")]


def _check(metric: str) -> str:
    from atlas8k.evaluation.results import METRICS

    if metric not in METRICS:
        raise typer.BadParameter(f"{metric!r} is not dsc or nsd", param_hint="--metric")
    return metric


def write_quality(
    tables: Sequence[Table],
    out: Path,
    title: str,
    notes: Sequence[str] = (),
    shown: Sequence[Table] = (),
) -> None:
    """Write page and tables and say them; ``shown`` are printed, the first one by default."""
    from atlas8k.cli.tables import print_result
    from atlas8k.evaluation.report import write_table_page
    from atlas8k.evaluation.tables import write_tables

    notes = gathered(notes)
    write_tables(tables, out / "tables")
    page = write_table_page(out / "quality.html", tables, title=title, notes=notes)
    for table in shown or tables[:1]:
        print_result(table)
    for note in notes:
        typer.echo(f"note: {note}")
    typer.echo(f"page: {page}; tables in {out / 'tables'}")


def gathered(notes: Sequence[str]) -> list[str]:
    """Notes that say the same of many (``"who: what"``) as one that names the first.

    Hundreds of lines before the tables are read by nobody.
    """
    by_what: dict[str, list[str]] = {}
    for note in notes:
        by_what.setdefault(note.partition(": ")[2], []).append(note)
    made = []
    for what, same in by_what.items():
        if not what or len(same) <= NOTES_EACH:
            made += same
            continue
        first = "; ".join(note.partition(": ")[0] for note in same[:NOTES_EACH])
        made.append(f"{len(same)} times: {what} ({first}; and {len(same) - NOTES_EACH} more)")
    return made


@quality.command()
def rounds(
    results: Annotated[
        list[Path], typer.Argument(help="Results of the labels: before, after round 1, 2, …")
    ],
    metric: Metric = "dsc",
    out: Out = Path("quality"),
) -> None:
    """Label quality before and after rounds of revision (AbdomenAtlas-8K, Table 5)."""
    from atlas8k.evaluation.quality import rounds_table
    from atlas8k.evaluation.results import read_results

    found = [read_results(path, _check(metric)) for path in results]
    notes = [f"{result.network}: {note}" for result in found for note in result.notes]
    write_quality([rounds_table(found)], out, "Label quality over rounds", notes)


@quality.command("training-sets")
def training_sets(
    first: Annotated[Path, typer.Argument(help="Results of the network trained on one set.")],
    second: Annotated[Path, typer.Argument(help="And on the other, same test set.")],
    metric: Metric = "dsc",
    out: Out = Path("quality"),
) -> None:
    """Two training sets on one test set, with paired stars (AbdomenAtlas-8K, Tables 6 and 7)."""
    from atlas8k.evaluation.quality import training_sets_table
    from atlas8k.evaluation.results import read_results

    found = [read_results(path, _check(metric)) for path in (first, second)]
    notes = [f"{result.network}: {note}" for result in found for note in result.notes]
    write_quality([training_sets_table(*found)], out, "Two training sets", notes)


@quality.command()
def agreement(
    raters: Annotated[
        list[Path], typer.Argument(help="Folders of label maps, one a network or annotator.")
    ],
    out: Out = Path("quality"),
) -> None:
    """DSC of every pair among networks and annotators (AbdomenAtlas-8K, Figure 8)."""
    from tqdm import tqdm

    from atlas8k.evaluation.agreement import agreement as run
    from atlas8k.evaluation.agreement import agreement_tables
    from atlas8k.evaluation.errors import EvaluationError

    folders = {path.resolve().name: path for path in raters}
    if len(folders) < len(raters):
        raise EvaluationError("raters", "two folders have the same name; rename one")
    with tqdm(desc="agreement", unit="case") as bar:
        found = run(folders, progress=lambda _: (bar.update(), None)[1])
    write_quality(agreement_tables(found), out, "Agreement of every pair", found.notes)
