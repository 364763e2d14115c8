"""``atlas8k rank``: the priority list, and the distribution of attention sizes."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atlas8k.cli.options import LedgerFile, Studies, existing_ledger
from atlas8k.errors import LedgerError

if TYPE_CHECKING:
    from atlas8k.ledger import Ledger, Progress, Ranked


class By(StrEnum):
    """The published rankings."""

    EQ4 = "eq4"
    SALIENT = "salient"
    PER_SLICE = "per_slice"


UNITS = {By.EQ4: "ml", By.SALIENT: "ml", By.PER_SLICE: "ml a slice"}


class Format(StrEnum):
    """How the list is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def rank(
    studies: Studies = ".",
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
        typer.Option(help="picture of the whole list in its order, with the budget (.svg or .png)"),
    ] = None,
) -> None:
    """List volumes, the likeliest to be wrong first."""
    from atlas8k.cli.rank_picture import draw

    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise LedgerError(f"{plot}: a picture ends in .svg or .png")
    book = open_ledger(studies, path)
    used = signature or newest(book)
    ranking = by.value if by else book.ranked_by()
    ranked = book.ranking(
        used, organs=organ, source=source, open_only=open_only, limit=limit, by=ranking
    )
    progress, looked = book.progress(used), book.familiar(used)
    if form is Format.TABLE:
        _table(ranked, used, progress, ranking, looked)
    elif form is Format.CSV:
        _csv(ranked)
    else:
        typer.echo(json.dumps(_document(ranked, used, progress, book, ranking, looked), indent=1))
    if plot is not None:
        draw(
            plot,
            # Whole, as the budget is of the whole list.
            book.ranking(used, organs=organ, source=source, by=ranking),
            budget=book.budget() if source is None else None,
            of=organ,
        )
        typer.echo(f"{plot} written", err=True)


def open_ledger(studies: str, given: Path | None) -> Ledger:
    """The ledger of a studies folder or an archive, which must have one.

    Raises
    ------
    LedgerError
        There is no folder, or no ledger yet.
    """
    from atlas8k.ledger import Ledger

    return Ledger(existing_ledger(studies, given))


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


def _table(
    ranked: list[Ranked],
    signature: str,
    progress: Progress,
    ranking: str,
    looked: Mapping[str, Mapping[str, Any]],
) -> None:
    from atlas8k.cli.tables import Column, number, print_table, text

    score = (
        [] if ranking == "eq4" else [number(f"{ranking.replace('_', ' ')} {UNITS[By(ranking)]}")]
    )
    organs = text("organs, most attention first")
    unlike = {name: "; ".join(one["unlike"]) for name, one in looked.items() if one["unlike"]}
    note = [text("unlike the training CTs")] if unlike else []
    print_table(
        [
            number("rank"),
            Column("volume"),
            *score,
            number("attention ml"),
            Column("state"),
            organs,
            *note,
        ],
        [
            (
                str(line.rank),
                line.volume,
                *([f"{line.score:.1f}"] if score else []),
                f"{line.attention_ml:.1f}",
                line.status,
                ", ".join(f"{o.organ} {o.attention_ml:.1f}" for o in line.organs[:3]),
                *([unlike.get(line.volume, "")] if note else []),
            )
            for line in ranked
        ],
        f"Priority list by {ranking} under {signature}: "
        f"scored {progress.scored} of {progress.total}"
        + (f", {progress.failed} failed" if progress.failed else ""),
        key=1,
    )


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
    ranked: list[Ranked],
    signature: str,
    progress: Progress,
    book: Ledger,
    ranking: str,
    looked: Mapping[str, Mapping[str, Any]],
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
                "familiar": looked.get(line.volume),
            }
            for line in ranked
        ],
    }
