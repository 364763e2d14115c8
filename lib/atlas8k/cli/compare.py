"""``atlas8k compare``: compare networks by their results, as tables and one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atlas8k.cli.options import named
from atlas8k.cli.terminal_tables import print_result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from atlas8k.reports.compare import Comparison
    from atlas8k.reports.groups import Grouping
    from atlas8k.reports.report import CaseLabel
    from atlas8k.reports.sheets import Sheet


def _edges(bins: Sequence[str]) -> dict[str, list[float]]:
    """Parse texts such as ``age=20,40,60`` into edges by column."""
    from atlas8k.core.structure_sets import normalise

    edges = {}
    for text in bins:
        column, _, numbers = text.partition("=")
        try:
            edges[normalise(column)] = [float(n) for n in numbers.split(",")]
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is not COLUMN=NUMBER,NUMBER,…", param_hint="--bins"
            ) from None
    return edges


def _groupings(
    table: Sheet, by: Sequence[str], bins: Sequence[str], cases: Sequence[str]
) -> list[Grouping]:
    from atlas8k.core.structure_sets import normalise
    from atlas8k.reports.groups import USUAL_COLUMNS, group_by

    edges = _edges(bins)
    columns = [normalise(column) for column in by]
    if not columns:
        usual = [c for c in USUAL_COLUMNS if c in table.texts and table.known(c, cases)]
        columns = list(dict.fromkeys([*usual, *edges]))
        others = [column for column in table.texts if column not in columns]
        typer.echo(
            f"groups by {', '.join(columns) or 'nothing'}; other columns: {', '.join(others)} "
            "(name them with --by)"
        )
    return [group_by(table, column, cases, edges.get(column)) for column in dict.fromkeys(columns)]


def _worst_labels(comparison: Comparison, folders: Mapping[str, str]) -> dict[str, CaseLabel]:
    """Return, by worst case, the labels of the worst network that a folder is given for."""
    import numpy as np

    from atlas8k.reports.report import CaseLabel

    panel = comparison.panel
    unknown = sorted(set(folders) - set(panel.networks))
    if unknown:
        raise typer.BadParameter(
            f"{', '.join(unknown)}: networks are {', '.join(panel.networks)}",
            param_hint="--predictions",
        )
    labels: dict[str, CaseLabel] = {}
    means = dict(zip(panel.networks, panel.case_means, strict=True))
    for case in comparison.worst:
        known = {n: float(means[n][case]) for n in folders if not np.isnan(means[n][case])}
        if known:
            worst = min(known, key=lambda name: known[name])
            result = f"mean {panel.metric.upper()} {100 * known[worst]:.1f} %"
            labels[panel.cases[case]] = CaseLabel(worst, folders[worst], result)
    return labels


def compare(
    results: Annotated[
        list[Path],
        typer.Argument(
            help="Folders with dsc.csv and nsd.csv, or CSVs, one a network; or a folder of such."
        ),
    ],
    metadata: Annotated[Path | None, typer.Option(help="CSV with one row a case.")] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Metadata column to group by; repeat for more.")
    ] = None,
    bins: Annotated[
        list[str] | None, typer.Option(help="Where numbers are cut: age=20,40,60,80.")
    ] = None,
    metric: Annotated[
        str, typer.Option(help="dsc, nsd, or both (nsd only where every folder has it).")
    ] = "both",
    out: Annotated[Path, typer.Option(help="Folder for the page and the tables.")] = Path(
        "comparison"
    ),
    images: Annotated[
        Path | None, typer.Option(help="Folder of CTs, for pictures of the worst cases.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Folder of the truth, drawn on those pictures.")
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(help="NETWORK=FOLDER of its labels: the worst one's is drawn beside."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Bootstrap samples.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    smallest: Annotated[int, typer.Option(min=2, help="Cases a group needs to be tested.")] = 10,
    nsd_tolerance: Annotated[
        float | None, typer.Option(help="Tolerance of the NSD results, mm, for the report.")
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Networks compared",
) -> None:
    """Compare networks by their per-case results: figures, tests, ranks, groups, one page.

    Writes OUT/report.html and, in OUT/tables, every table as CSV, Markdown and LaTeX.
    """
    from tqdm import tqdm

    from atlas8k.reports.compare import all_tables, summary_table
    from atlas8k.reports.compare import compare as run
    from atlas8k.reports.report import draw_cases, render
    from atlas8k.reports.results import METRICS, align, find_networks, read_results, write_text
    from atlas8k.reports.sheets import read_sheet
    from atlas8k.reports.tables import write_tables

    if metric not in (*METRICS, "both"):
        raise typer.BadParameter(f"{metric!r} is not dsc, nsd or both", param_hint="--metric")
    networks_found = [network for path in results for network in find_networks(path)]
    if results != networks_found:
        results = networks_found
        typer.echo(f"networks: {', '.join(map(str, results))}")
    metrics = [metric]
    if metric == "both":
        whole = all(path.is_dir() and (path / "nsd.csv").is_file() for path in results)
        metrics = ["dsc", "nsd"] if whole else ["dsc"]
        if not whole:
            typer.echo("no NSD: not every network is a folder with an nsd.csv")
    folders = named(predictions, "--predictions")
    if images is None and (folders or labels is not None):
        raise typer.BadParameter("--labels and --predictions are drawn on the CTs of --images")
    table = read_sheet(metadata) if metadata is not None else None
    comparisons, pictures = [], {}
    for name in metrics:
        panel = align([read_results(path, name) for path in results])
        groups = _groupings(table, by or [], bins or [], panel.cases) if table else []
        with tqdm(desc=name, unit="part") as bar:

            def done(part: str, bar: Any = bar) -> None:
                bar.set_postfix_str(part)
                bar.update()

            comparison = run(
                panel, groups, samples=samples, seed=seed, smallest=smallest, progress=done
            )
        comparisons.append(comparison)
        write_tables(all_tables(comparison), out / "tables")
        if images is not None:
            beside = _worst_labels(comparison, folders)
            pictures[name], _ = draw_cases(
                [panel.cases[n] for n in comparison.worst], images, labels, beside
            )
    tolerance = f"NSD tolerance {nsd_tolerance:g} mm." if nsd_tolerance is not None else (
        "NSD at the tolerance of the results given." if "nsd" in metrics else ""
    )  # fmt: skip
    page = render(comparisons, pictures, title=title, tolerance=tolerance)
    file = write_text(out / "report.html", page)
    for comparison in comparisons:
        print_result(summary_table(comparison))
    typer.echo(f"report: {file}; tables in {out / 'tables'}")
