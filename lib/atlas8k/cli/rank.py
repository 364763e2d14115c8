"""``atlas8k rank``: the priority list, and the distribution of attention sizes."""

from __future__ import annotations

import csv
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atlas8k.cli.ledger import LedgerFile, Studies, ledger_path
from atlas8k.errors import LedgerError

if TYPE_CHECKING:
    from atlas8k.ledger import Ledger, Progress, Ranked


class By(StrEnum):
    """The published rankings."""

    EQ4 = "eq4"
    SALIENT = "salient"
    PER_SLICE = "per_slice"


class Format(StrEnum):
    """How the list is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def rank(
    studies: Studies = Path(),
    path: LedgerFile = None,
    signature: Annotated[
        str | None,
        typer.Option(help="model signature to rank by; default: the last one that is complete"),
    ] = None,
    by: Annotated[
        By | None, typer.Option(help="ranking; default: the one the server orders by")
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
        typer.Option(help="picture of all attention sizes with the budget (.svg or .png)"),
    ] = None,
) -> None:
    """List volumes, the likeliest to be wrong first."""
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise LedgerError(f"{plot}: a picture ends in .svg or .png")
    book = open_ledger(studies, path)
    used = signature or newest(book)
    ranking = by.value if by else book.ranked_by()
    ranked = book.ranking(
        used, organs=organ, source=source, open_only=open_only, limit=limit, by=ranking
    )
    progress = book.progress(used)
    if form is Format.TABLE:
        _table(ranked, used, progress, ranking)
    elif form is Format.CSV:
        _csv(ranked)
    else:
        typer.echo(json.dumps(_document(ranked, used, progress, book, ranking), indent=1))
    if plot is not None:
        draw(plot, book, used, organs=organ, source=source)
        typer.echo(f"{plot} written", err=True)


def open_ledger(studies: Path, given: Path | None) -> Ledger:
    """The ledger of a studies folder, which must have one.

    Raises
    ------
    LedgerError
        There is no folder, or no ledger yet.
    """
    from atlas8k.ledger import Ledger

    path = ledger_path(studies, given)
    if not path.exists():
        raise LedgerError(f"{path}: there is no ledger yet; start the server or score the folder")
    return Ledger(path)


def newest(book: Ledger) -> str:
    """The signature the server would rank by.

    Raises
    ------
    LedgerError
        Nothing has been scored.
    """
    rounds = book.rounds()
    used = book.ranking_signature((rounds[-1].signature or "") if rounds else "")
    if used is None:
        raise LedgerError(f"{book.path}: no volume has been scored; start a scoring first")
    return used


def _table(ranked: list[Ranked], signature: str, progress: Progress, ranking: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"Priority list by {ranking} under {signature}: "
        f"scored {progress.scored} of {progress.total}"
        + (f", {progress.failed} failed" if progress.failed else "")
    )
    table.add_column("rank", justify="right")
    table.add_column("volume")
    if ranking != "eq4":
        table.add_column(ranking.replace("_", " "), justify="right")
    table.add_column("attention ml", justify="right")
    table.add_column("state")
    table.add_column("organs, most attention first", overflow="fold")
    for line in ranked:
        organs = ", ".join(f"{o.organ} {o.attention_ml:.1f}" for o in line.organs[:3])
        score = [f"{line.score:.3g}"] if ranking != "eq4" else []
        size = f"{line.attention_ml:.1f}"
        table.add_row(str(line.rank), line.volume, *score, size, line.status, organs)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _csv(ranked: list[Ranked]) -> None:
    from atlas8k.organs import ORGAN_NAMES

    writer = csv.writer(sys.stdout, lineterminator="\n")
    header = ["rank", "volume", "attention_ml", "status", "source"]
    writer.writerow([*header, *ORGAN_NAMES, "ranking", "score"])
    for line in ranked:
        organs = dict(line.organs)
        row = [line.rank, line.volume, f"{line.attention_ml:.6g}", line.status, line.source]
        # Empty: public or revised, so not ranked by.
        by_organ = (f"{organs[o]:.6g}" if o in organs else "" for o in ORGAN_NAMES)
        writer.writerow([*row, *by_organ, line.ranking, f"{line.score:.6g}"])


def _document(
    ranked: list[Ranked], signature: str, progress: Progress, book: Ledger, ranking: str
) -> dict[str, Any]:
    budget = book.budget()
    return {
        "signature": signature,
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
            }
            for line in ranked
        ],
    }


def draw(
    file: Path, book: Ledger, signature: str, *, organs: list[str] | None, source: str | None
) -> None:
    """Draw the sorted attention sizes of a ledger with the round's budget; see `draw_sizes`."""
    ranked = book.ranking(signature, organs=organs, source=source, by="eq4")
    if not ranked:
        raise LedgerError(f"{book.path}: nothing is scored that could be drawn")
    budget = book.budget()
    draw_sizes(
        file,
        [line.attention_ml for line in ranked],
        budget.total if budget is not None and source is None else None,
        reviewed=[line.rank for line in ranked if line.status in ("submitted", "conflict")],
        of=" and ".join(organs) if organs else "nine organs",
    )


def draw_sizes(
    file: Path, sizes: list[float], budget: int | None, *, reviewed: list[int], of: str
) -> None:
    """Write the picture of the paper's Figure 4: few volumes have most of the attention.

    Parameters
    ----------
    file
        ``.svg`` or ``.png``; complete or not at all.
    sizes
        Attention sizes, millilitres, largest first.
    budget
        Volumes to review; a line, with the part of all attention that lies before it.
    reviewed
        Ranks, from 1, of volumes that have been submitted.
    of
        What the sizes are of, for the axis.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from atlas8k.volume import publish

    total = sum(sizes)
    figure = Figure(figsize=(8, 4.2), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    edges = np.arange(len(sizes) + 1) + 0.5
    axes.stairs(sizes, edges, fill=True, color="#4477aa", alpha=0.25)
    axes.stairs(sizes, edges, color="#4477aa", linewidth=1.4, label="attention size")
    if budget:
        axes.axvspan(0.5, budget + 0.5, color="#cc3311", alpha=0.08, linewidth=0)
        axes.axvline(budget + 0.5, color="#cc3311", linewidth=1.2)
        right = budget > 0.5 * len(sizes)
        part = f", {sum(sizes[:budget]) / total:.0%} of all attention" if total else ""
        axes.annotate(
            f"budget: {budget:,} of {len(sizes):,} volumes{part}",
            xy=(budget + 0.5, 0.98),
            xycoords=("data", "axes fraction"),
            xytext=(-6 if right else 6, 0),
            ha="right" if right else "left",
            textcoords="offset points",
            color="#cc3311",
            va="top",
        )
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
    axes.set_ylabel(f"attention size of {of} (ml)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(
        loc="upper right" if not budget or budget <= 0.5 * len(sizes) else "lower left",
        frameon=False,
    )
    temporary = file.with_name(f".{file.stem}.unfinished{file.suffix}")
    try:
        figure.savefig(temporary, metadata={"Date": None} if file.suffix == ".svg" else None)
        publish(temporary, file)
    except OSError as error:
        raise LedgerError(f"{file}: cannot be written ({error})") from error
    finally:
        temporary.unlink(missing_ok=True)
