"""Count what is predicted in CTs that lack it: a tumour where there is none.

As the paper of the procedure counts (Qu et al., NeurIPS 2023, section 5): CTs with any false
positive, their share of the CTs that lack the structure, and pieces in all; and by group, such as
contrast phase.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.reports.evaluate import Evaluation
from atlas8k.reports.groups import Grouping
from atlas8k.reports.tables import Table


def false_positive_table(evaluation: Evaluation, grouping: Grouping | None = None) -> Table | None:
    """Return the false positives of every structure that some truth labels and lacks.

    Parameters
    ----------
    grouping
        Of the evaluation's cases, for a row a group beside that of all.

    Returns
    -------
    Table or None
        ``None``: every truth has what it labels.
    """
    lacks = evaluation.labeled & np.isnan(evaluation.dsc.values)
    groups = [("all", np.ones(len(lacks), dtype=bool))]
    if grouping is not None:
        own = np.array(grouping.labels, dtype=object)
        groups += [(name, own == name) for name in grouping.groups]
    records: list[dict[str, Any]] = []
    for column, organ in enumerate(ORGAN_NAMES):
        if not lacks[:, column].any():
            continue
        for group, members in groups:
            without = lacks[:, column] & members
            wrong = without & (evaluation.spurious_ml[:, column] > 0)
            ml = evaluation.spurious_ml[wrong, column]
            records.append(
                {
                    "organ": organ,
                    "group": group,
                    "without": int(without.sum()),
                    "cases": int(wrong.sum()),
                    "share": float(wrong.sum() / without.sum()) if without.any() else np.nan,
                    "pieces": int(evaluation.spurious_pieces[without, column].sum()),
                    "median_ml": float(np.median(ml)) if len(ml) else np.nan,
                }
            )
    if not records:
        return None
    rows = tuple(
        (
            one["organ"],
            one["group"],
            str(one["without"]),
            str(one["cases"]),
            "–" if np.isnan(one["share"]) else f"{100 * one['share']:.1f}",
            str(one["pieces"]),
            "–" if np.isnan(one["median_ml"]) else f"{one['median_ml']:.2f}",
        )
        for one in records
    )
    by = "" if grouping is None else f", by {grouping.column}"
    return Table(
        "false_positives",
        f"{evaluation.dsc.network}: false positives in CTs without the structure{by}",
        "CTs whose truth labels the structure and lacks it, those of them in which it was "
        "predicted, in % too, connected pieces predicted in them, and the median volume of a CT "
        "that has any.",
        ("organ", "group", "CTs without", "with false positives", "%", "pieces", "median ml"),
        rows,
        records=pd.DataFrame(records),
    )
