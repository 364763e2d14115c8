"""The priority list as a picture, as ``atlas8k rank --plot`` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atlas8k.errors import LedgerError

if TYPE_CHECKING:
    from atlas8k.ledger import Budget, Ranked

REVIEWED = ("submitted", "conflict")
WORDS = {
    "eq4": ("attention size", "attention", "ml"),
    "salient": ("salient volume", "salient volume", "ml"),
    "per_slice": ("attention size a slice", "attention a slice", "ml"),
}
"""By ranking: what a volume is ranked by, what a part of all is of, and the unit."""


def draw(
    file: Path, ranked: Sequence[Ranked], budget: Budget | None, *, of: Sequence[str] | None
) -> None:
    """Write the picture of the paper's Figure 4: few volumes have most of the attention.

    Parameters
    ----------
    file
        ``.svg`` or ``.png``; complete or not at all.
    ranked
        The whole priority list in its order, by whichever ranking.
    budget
        Volumes to review; a line, with the part of all that is ranked by before it.
    of
        Organs that are ranked by; all nine by default.

    Raises
    ------
    LedgerError
        Nothing is scored, or the file cannot be written.
    """
    if not ranked:
        raise LedgerError("nothing is scored that could be drawn")
    ranking = ranked[0].ranking
    what, share, unit = WORDS[ranking]
    sizes = [line.score for line in ranked]
    _draw(
        file,
        sizes,
        None if budget is None else budget.total,
        reviewed=[n for n, line in enumerate(ranked, 1) if line.status in REVIEWED],
        words=(what, share, f"{what} of {' and '.join(of) if of else 'nine organs'} ({unit})"),
    )


def _draw(
    file: Path,
    sizes: Sequence[float],
    budget: int | None,
    *,
    reviewed: Sequence[int],
    words: tuple[str, str, str],
) -> None:
    """Draw sizes, largest first; see :func:`draw`."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from atlas8k.volume import publish

    what, share, axis = words
    total = sum(sizes)
    figure = Figure(figsize=(8, 4.2), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    edges = np.arange(len(sizes) + 1) + 0.5
    axes.stairs(sizes, edges, fill=True, color="#4477aa", alpha=0.25)
    axes.stairs(sizes, edges, color="#4477aa", linewidth=1.4, label=what)
    if budget:
        axes.axvspan(0.5, budget + 0.5, color="#cc3311", alpha=0.08, linewidth=0)
        axes.axvline(budget + 0.5, color="#cc3311", linewidth=1.2)
        right = budget > 0.5 * len(sizes)
        part = f", {sum(sizes[:budget]) / total:.0%} of all {share}" if total else ""
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
    axes.set_ylabel(axis)
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
