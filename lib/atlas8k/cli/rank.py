"""``atlas8k rank``: print the priority list, and draw the distribution of attention sizes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atlas8k.cli.open_studies import ledger_of
from atlas8k.cli.options import LedgerFile, Studies
from atlas8k.cli.terminal_tables import print_table
from atlas8k.core.csv_text import csv_text
from atlas8k.core.errors import LedgerError
from atlas8k.core.rankings import RANKINGS

if TYPE_CHECKING:
    from atlas8k.store import Budget, Ledger, Progress, Ranked


REVIEWED = ("submitted", "conflict")
ORGANS = "organs, most attention first"


class Format(StrEnum):
    """Formats of the list."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def _ranking(text: str) -> str:
    if text not in RANKINGS:
        raise typer.BadParameter(f"{text}: there are {', '.join(RANKINGS)}")
    return text


def rank(
    studies: Studies = ".",
    path: LedgerFile = None,
    model_version: Annotated[
        str | None,
        typer.Option(
            "--model-version",
            "--signature",  # its name in releases before 0.2
            help="model version to rank by; default: the last one that is complete",
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            parser=_ranking,
            metavar=f"[{'|'.join(RANKINGS)}]",
            help="ranking; default: the one the server orders by",
        ),
    ] = None,
    organ: Annotated[list[str] | None, typer.Option(help="only this organ; repeatable")] = None,
    source: Annotated[str | None, typer.Option(help="only this source dataset")] = None,
    open_only: Annotated[
        bool, typer.Option("--open", help="only what can be given out now")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="this many lines")] = None,
    form: Annotated[Format, typer.Option("--format", help="table, csv or json")] = Format.TABLE,
    plot: Annotated[
        Path | None,
        typer.Option(help="picture of the whole list in its order, with the budget (.svg or .png)"),
    ] = None,
) -> None:
    """List volumes, the likeliest to be wrong first."""
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise LedgerError(f"{plot}: a picture ends in .svg or .png")
    with ledger_of(studies, path) as book:
        model_version = model_version or newest(book)
        ranking = by or book.ranked_by()
        ranked = book.ranking(
            model_version, organs=organ, source=source, open_only=open_only, limit=limit, by=ranking
        )
        # The budget is of the whole list, so the whole list is drawn.
        whole_list = (
            book.ranking(model_version, organs=organ, source=source, by=ranking) if plot else []
        )
        progress, budget = book.progress(model_version), book.budget()
        familiar = book.familiar(model_version)
    if form is Format.TABLE:
        _table(ranked, model_version, progress, ranking, familiar)
    elif form is Format.CSV:
        _csv(ranked)
    else:
        document = _document(ranked, model_version, progress, budget, ranking, familiar)
        typer.echo(json.dumps(document, indent=1))
    if plot is not None:
        _draw(plot, whole_list, budget if source is None else None, organ)
        typer.echo(f"{plot} written", err=True)


def newest(book: Ledger) -> str:
    """Return the model version that the server would rank by.

    Raises
    ------
    LedgerError
        Nothing has been scored.
    """
    rounds = book.rounds()
    model_version = book.ranking_model_version((rounds[-1].model_version or "") if rounds else "")
    if model_version is None:
        raise LedgerError(f"{book.path}: no volume has been scored; start a scoring first")
    return model_version


def _table(
    ranked: list[Ranked],
    model_version: str,
    progress: Progress,
    ranking: str,
    familiar: Mapping[str, Mapping[str, Any]],
) -> None:
    score = f"{ranking.replace('_', ' ')} {RANKINGS[ranking].unit}".rstrip()
    unlike = "unlike the training CTs"
    print_table(
        [
            {
                "rank": line.rank,
                "volume": line.volume,
                score: "" if ranking == "eq4" else f"{line.score:.4g}",
                "attention ml": f"{line.attention_ml:.1f}",
                "state": line.status,
                ORGANS: ", ".join(f"{o.organ} {o.attention_ml:.1f}" for o in line.organs[:3]),
                unlike: "; ".join(familiar.get(line.volume, {}).get("unlike", ())),
            }
            for line in ranked
        ],
        f"Priority list by {ranking} under {model_version}: "
        f"scored {progress.scored} of {progress.total}"
        + (f", {progress.failed} failed" if progress.failed else ""),
        left=["volume", "state"],
        fold=[ORGANS, unlike],
        key="volume",
    )


def _csv(ranked: list[Ranked]) -> None:
    from atlas8k.core.structures import ORGAN_NAMES

    header = ["rank", "volume", "attention_ml", "status", "source"]
    rows: list[list[object]] = [[*header, *ORGAN_NAMES, "ranking", "score"]]
    for line in ranked:
        organs = dict(line.organs)
        row = [line.rank, line.volume, f"{line.attention_ml:.6g}", line.status, line.source]
        # Empty: public or revised, so not ranked by.
        by_organ = (f"{organs[o]:.6g}" if o in organs else "" for o in ORGAN_NAMES)
        rows.append([*row, *by_organ, line.ranking, f"{line.score:.6g}"])
    sys.stdout.write(csv_text(rows, end="\n"))


def _document(
    ranked: list[Ranked],
    model_version: str,
    progress: Progress,
    budget: Budget | None,
    ranking: str,
    familiar: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    return {
        "model_version": model_version,
        "ranking": ranking,
        "scored": progress.scored,
        "failed": progress.failed,
        "total": progress.total,
        "budget": budget and {"round": budget.round, "total": budget.total, "left": budget.left},
        "volumes": [
            {
                "rank": line.rank,
                "volume": line.volume,
                "attention_ml": line.attention_ml,
                "score": line.score,
                "status": line.status,
                "source": line.source,
                "organs": [organ._asdict() for organ in line.organs],
                "familiar": familiar.get(line.volume),
            }
            for line in ranked
        ],
    }


def _draw(
    file: Path,
    ranked: Sequence[Ranked],
    budgeted: Budget | None,
    organs: Sequence[str] | None,
) -> None:
    """Draw the paper's Figure 4: few volumes have most of the attention.

    Parameters
    ----------
    file
        ``.svg`` or ``.png``; complete or not at all.
    ranked
        The whole priority list in its order, by whichever ranking.
    budgeted
        Volumes to review: a line, with the share of the total before it.
    organs
        Organs that count; all nine by default.

    Raises
    ------
    LedgerError
        Nothing is scored, or the file cannot be written.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from atlas8k.campaign.outliers import fence
    from atlas8k.reports.preview import save_figure

    if not ranked:
        raise LedgerError("nothing is scored that could be drawn")
    ranking = RANKINGS[ranked[0].ranking]
    what, share = ranking.figure, ranking.share
    sizes = [line.score for line in ranked]
    budget = None if budgeted is None else budgeted.total
    reviewed = [n for n, line in enumerate(ranked, 1) if line.status in REVIEWED]
    total = sum(sizes)
    figure = Figure(figsize=(8, 4.2), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    edges = np.arange(len(sizes) + 1) + 0.5
    axes.stairs(sizes, edges, fill=True, color="#4477aa", alpha=0.25)
    axes.stairs(sizes, edges, color="#4477aa", linewidth=1.4, label=what)
    late = budget is not None and budget > 0.5 * len(sizes)
    if budget:
        axes.axvspan(0.5, budget + 0.5, color="#cc3311", alpha=0.08, linewidth=0)
        axes.axvline(budget + 0.5, color="#cc3311", linewidth=1.2)
        part = f", {sum(sizes[:budget]) / total:.0%} of all {share}" if total else ""
        axes.annotate(
            f"budget: {budget:,} of {len(sizes):,} volumes{part}",
            xy=(budget + 0.5, 0.98),
            xycoords=("data", "axes fraction"),
            xytext=(-6 if late else 6, 0),
            ha="right" if late else "left",
            textcoords="offset points",
            color="#cc3311",
            va="top",
        )
    limit = fence(sizes)
    if limit is not None:
        above = sum(size > limit for size in sizes)
        axes.axhline(limit, color="#ee7733", linewidth=1.0, linestyle="--",
                     label=f"outliers above ({above:,})")  # fmt: skip
    if reviewed:
        axes.plot(
            reviewed,
            [sizes[number - 1] for number in reviewed],
            linestyle="none",
            marker="o",
            markersize=4,
            color="#228833",
            label=f"submitted ({len(reviewed):,})",
        )
    axes.set_xlim(0.5, len(sizes) + 0.5)
    # Room above the curve for the words: with few volumes it is flat.
    axes.set_ylim(0, 1.3 * max(sizes) or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("volumes, in order of priority")
    counted = " and ".join(organs) if organs else "nine organs"
    axes.set_ylabel(f"{what} of {counted}{ranking.in_unit}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="lower left" if late else "upper right", frameon=False)
    try:
        save_figure(figure, file, metadata={"Date": None} if file.suffix == ".svg" else None)
    except OSError as error:
        raise LedgerError(f"{file}: cannot be written ({error})") from error
