"""``atlas8k compare``: networks against each other, as tables and one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from atlas8k.evaluation.compare import Comparison
    from atlas8k.evaluation.metadata import Grouping, Metadata
    from atlas8k.evaluation.pictures import Shown


def _edges(bins: Sequence[str]) -> dict[str, list[float]]:
    """``age=20,40,60`` as column to edges."""
    from atlas8k.organs import normalise

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
    table: Metadata, by: Sequence[str], bins: Sequence[str], cases: Sequence[str]
) -> list[Grouping]:
    from atlas8k.evaluation.metadata import USUAL_COLUMNS, group_by
    from atlas8k.organs import normalise

    edges = _edges(bins)
    wanted = [normalise(column) for column in by]
    if not wanted:
        usual = [c for c in USUAL_COLUMNS if c in table.columns and table.told(c, cases)]
        wanted = list(dict.fromkeys([*usual, *edges]))
        rest = [column for column in table.columns if column not in wanted]
        typer.echo(
            f"groups by {', '.join(wanted) or 'nothing'}; other columns: {', '.join(rest)} "
            "(name them with --by)"
        )
    return [group_by(table, column, cases, edges.get(column)) for column in dict.fromkeys(wanted)]


def _beside(found: Comparison, folders: Mapping[str, str]) -> dict[str, Shown]:
    """For each of the worst cases, the worst network whose labels are at hand."""
    import numpy as np

    from atlas8k.evaluation.pictures import Shown

    panel = found.panel
    unknown = sorted(set(folders) - set(panel.networks))
    if unknown:
        raise typer.BadParameter(
            f"{', '.join(unknown)}: networks are {', '.join(panel.networks)}",
            param_hint="--predictions",
        )
    beside: dict[str, Shown] = {}
    means = panel.case_means
    at = [n for n, name in enumerate(panel.networks) if name in folders]
    for case in found.worst:
        known = [n for n in at if not np.isnan(means[n, case])]
        if known:
            worst = min(known, key=lambda n: float(means[n, case]))
            said = f"mean {panel.metric.upper()} {100 * means[worst, case]:.1f} %"
            name = panel.networks[worst]
            beside[panel.cases[case]] = Shown(name, folders[name], said)
    return beside


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
        float | None, typer.Option(help="Tolerance of the NSD results, mm, to be told.")
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Networks compared",
) -> None:
    """Compare networks by their per-case results: figures, tests, ranks, groups, one page.

    Writes OUT/report.html and, in OUT/tables, every table as CSV, Markdown and LaTeX.
    """
    from tqdm import tqdm

    from atlas8k.cli.options import named
    from atlas8k.cli.tables import print_result
    from atlas8k.evaluation.compare import compare as run
    from atlas8k.evaluation.compare_tables import all_tables, summary_table
    from atlas8k.evaluation.metadata import read_metadata
    from atlas8k.evaluation.panel import align
    from atlas8k.evaluation.pictures import draw_cases
    from atlas8k.evaluation.report import write_report
    from atlas8k.evaluation.results import METRICS, find_networks, read_results
    from atlas8k.evaluation.tables import write_tables

    if metric not in (*METRICS, "both"):
        raise typer.BadParameter(f"{metric!r} is not dsc, nsd or both", param_hint="--metric")
    given, results = results, [one for path in results for one in find_networks(path)]
    if results != given:
        typer.echo(f"networks: {', '.join(str(path) for path in results)}")
    metrics = [metric]
    if metric == "both":
        whole = all(path.is_dir() and (path / "nsd.csv").is_file() for path in results)
        metrics = ["dsc", "nsd"] if whole else ["dsc"]
        if not whole:
            typer.echo("no NSD: not every network is a folder with an nsd.csv")
    folders = named(predictions or [], "--predictions")
    if images is None and (folders or labels is not None):
        raise typer.BadParameter("--labels and --predictions are drawn on the CTs of --images")
    table = read_metadata(metadata) if metadata is not None else None
    comparisons, pictures = [], {}
    for name in metrics:
        panel = align([read_results(path, name) for path in results])
        groups = _groupings(table, by or [], bins or [], panel.cases) if table else []
        with tqdm(desc=name, unit="part") as bar:

            def done(part: str, bar: Any = bar) -> None:
                bar.set_postfix_str(part)
                bar.update()

            found = run(panel, groups, samples=samples, seed=seed, smallest=smallest, progress=done)
        comparisons.append(found)
        write_tables(all_tables(found), out / "tables")
        if images is not None:
            beside = _beside(found, folders)
            pictures[name], _ = draw_cases(
                [panel.cases[n] for n in found.worst], images, labels, beside
            )
    tolerance = f"NSD tolerance {nsd_tolerance:g} mm." if nsd_tolerance is not None else (
        "NSD at the tolerance of the results given." if "nsd" in metrics else ""
    )  # fmt: skip
    page = write_report(
        out / "report.html", comparisons, pictures, title=title, tolerance=tolerance
    )
    for found in comparisons:
        print_result(summary_table(found))
    typer.echo(f"report: {page}; tables in {out / 'tables'}")
