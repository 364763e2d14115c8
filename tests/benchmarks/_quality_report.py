"""Figures, Table 1 and the picture of the attention quality benchmark, from its rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

HIT = 0.1
PAPER = {
    "spleen": (0.91, 0.68),
    "kidney_right": (0.93, 0.90),
    "kidney_left": (0.92, 0.85),
    "gall_bladder": (0.99, 0.67),
    "liver": (0.74, 0.88),
    "stomach": (0.98, 0.85),
    "aorta": (0.98, 0.82),
    "postcava": (0.98, 0.75),
    "pancreas": (0.90, 0.91),
}
"""Sensitivity and precision of Table 1 (Qu et al., NeurIPS 2023)."""

Rows = list[dict[str, Any]]


def column(rows: Rows, name: str) -> np.ndarray:
    """One quantity of every case, summed over organs where it is by organ."""
    return np.array(
        [sum(r[name].values()) if isinstance(r[name], dict) else r[name] for r in rows], dtype=float
    )


def scores(rows: Rows) -> dict[str, np.ndarray]:
    """Every ranking's score of every case, by its name: the app's, then others to compare with."""
    from atlas8k.core.rankings import RANKINGS

    ours = {
        name: np.array([ranking.score(row["figures"][name].values()) for row in rows])
        for name, ranking in RANKINGS.items()
    }
    return {
        **ours,
        **{name: drawn_first(rows, name) for name in ("random", "random_foreground", "stratified")},
        # MONAI Label's: the mean over the voxels of the CT, so that a large one is less.
        "epistemic": ours["epistemic_sum"] / column(rows, "field_of_view_ml"),
        "salient_chosen": column(rows, "salient_ml"),
        "body_volume": column(rows, "body_ml"),
        "organ_volume": column(rows, "organ_ml"),
    }


def drawn_first(rows: Rows, selection: str) -> np.ndarray:
    """The app's selection as a score: the first of its list is the largest.

    The budget is 5 % of the cases, the ranking in use is the default one, the round the first.
    """
    from atlas8k.core.rankings import DEFAULT_RANKING, RANKINGS
    from atlas8k.core.selection import Candidate, drawn

    pool = []
    for row in rows:
        figures = row["figures"][DEFAULT_RANKING]
        score = RANKINGS[DEFAULT_RANKING].score(figures.values())
        pool.append(Candidate.of(str(row["case"]), score, figures, row["traits"], ""))
    order = drawn(selection, pool, int(np.ceil(0.05 * len(rows))), "benchmark", 1)
    place = {name: number for number, name in enumerate(order)}
    return np.array([-place[str(row["case"])] for row in rows], dtype=float)


def rank_figures(rows: Rows, samples: int, what: str = "phantoms") -> dict[str, float]:
    """Print the rankings' table; its figures."""
    from _quality_ranking import (
        aurc,
        estimate,
        quantile_groups,
        ranking_quality,
        spearman,
        within,
    )

    wrong = column(rows, "wrong_ml")
    quarters = quantile_groups(column(rows, "field_of_view_ml"), 4)
    share = np.rint(100 * column(rows, "share")).astype(np.int64)
    found = ranking_quality(scores(rows), wrong, quarters, samples)
    print(
        f"\nRankings, {len(rows)} {what}; wrong voxels {wrong.mean():.0f} ml a case "
        f"({wrong.min():.0f} to {wrong.max():.0f}); 95 % bootstrap intervals"
    )
    print(
        "| ranking | rho | of the worst 5 % | of the worst 10 % | rho at equal field of view "
        "| rho at equal difficulty | rho less than the best | AURC, ml |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    figures: dict[str, float] = {"n": len(rows)}
    for name, score in scores(rows).items():
        one = found[name]
        alike = estimate(lambda i, s=score: within(s[i], wrong[i], share[i]), len(rows), samples)
        area = estimate(lambda i, s=score: aurc(s[i], wrong[i]), len(rows), samples)
        print(
            f"| {name} | {one.rho} | {one.recall5} | {one.recall10} | {one.rho_within} "
            f"| {alike} | {one.less_than_best} "
            f"| {area.value:.0f} ({area.low:.0f} to {area.high:.0f}) |"
        )
        figures |= {
            f"rho_{name}": one.rho.value,
            f"rho_{name}_low": one.rho.low,
            f"rho_{name}_high": one.rho.high,
            f"recall5_{name}": one.recall5.value,
            f"recall10_{name}": one.recall10.value,
            f"rho_fov_{name}": one.rho_within.value,
            f"rho_difficulty_{name}": alike.value,
            f"aurc_{name}": area.value,
        }
    print("\nrho of eq4 by quarter of the field of view, and by difficulty:")
    size = column(rows, "field_of_view_ml") / 1000
    eq4 = scores(rows)["eq4"]
    for label, groups, values in (("litres", quarters, size), ("share", share, share / 100)):
        for group in np.unique(groups):
            inside = groups == group
            low, high = values[inside].min(), values[inside].max()
            rho = spearman(eq4[inside], wrong[inside])
            print(f"  {low:.2f} to {high:.2f} {label}: {rho:.3f}, n {inside.sum()}")
    return figures


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _case(row: dict[str, Any], organs: Iterable[str]) -> dict[str, float]:
    """Sensitivity and precision of one case over some organs, true and by chance."""
    errors, hit, regions, hitting = 0, 0, 0, 0
    chance = {"control": np.zeros(4), "outline": np.zeros(4)}
    for organ in organs:
        found = row["regions"].get(organ)
        if found is None:
            continue
        errors += len(found["covered"])
        hit += sum(share >= HIT - 1e-9 for share in found["covered"])
        regions += len(found["best"])
        hitting += sum(share >= HIT - 1e-9 for share in found["best"])
        for kind in chance:
            chance[kind] += row[kind][organ]
    figures = {"sensitivity": _ratio(hit, errors), "precision": _ratio(hitting, regions)}
    for kind, (all_errors, hits, all_regions, hits_of) in chance.items():
        figures[f"{kind}_sensitivity"] = _ratio(hits, all_errors)
        figures[f"{kind}_precision"] = _ratio(hits_of, all_regions)
    return figures


def table_1(rows: Rows) -> tuple[str, dict[str, float]]:
    """Table 1 as Markdown, and its figures: mean and SD over the cases that have any."""
    from _quality_detection import mean_of

    from atlas8k.core.structures import ORGAN_NAMES

    lines = [
        "| organ | error regions | attention regions | sensitivity | precision "
        "| control, near the organ | control, on its outline | paper |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    figures: dict[str, float] = {}
    for organ in (*ORGAN_NAMES, "all"):
        organs = ORGAN_NAMES if organ == "all" else (organ,)
        cases = [_case(row, organs) for row in rows]
        mean = {name: mean_of([case[name] for case in cases]) for name in cases[0]}
        counts = [
            sum(len(row["regions"].get(o, {kind: []})[kind]) for row in rows for o in organs)
            for kind in ("covered", "best")
        ]
        paper = PAPER.get(organ, (0.93, 0.81))
        lines.append(
            f"| {organ} | {counts[0]} in {mean['sensitivity']['n']} cases "
            f"| {counts[1]} in {mean['precision']['n']} cases "
            + "".join(
                f"| {mean[f]['mean']:.2f} ± {mean[f]['sd']:.2f} "
                for f in ("sensitivity", "precision")
            )
            + "".join(
                f"| {mean[f'{k}_sensitivity']['mean']:.2f} / {mean[f'{k}_precision']['mean']:.2f} "
                for k in ("control", "outline")
            )
            + f"| {paper[0]:.2f} / {paper[1]:.2f} |"
        )
        end = "" if organ == "all" else f"_{organ}"
        figures |= {
            f"sensitivity{end}": mean["sensitivity"]["mean"],
            f"precision{end}": mean["precision"]["mean"],
        }
        if organ == "all":
            for name in ("control", "outline"):
                for figure in ("sensitivity", "precision"):
                    figures[f"{name}_{figure}"] = mean[f"{name}_{figure}"]["mean"]
            figures |= {"error_regions": counts[0], "attention_regions": counts[1]}
    return "\n".join(lines), figures


def voxel_figures(rows: Rows) -> dict[str, float]:
    """The voxel-wise pair, and what lies outside every attention region."""
    from _quality_regions import VOXELS

    names = {name: index for index, name in enumerate(VOXELS)}

    def total(row: dict[str, Any], name: str) -> float:
        ml = sum(counts[names[name]] for counts in row["voxels"].values()) * row["voxel_ml"]
        return float(ml)

    sums = {name: np.array([total(row, name) for row in rows]) for name in names}
    with np.errstate(invalid="ignore"):
        sensitivity = sums["wrong_salient"] / sums["wrong"]
        precision = sums["wrong_salient"] / sums["salient"]
    return {
        "voxel_sensitivity": float(np.nanmean(sensitivity)),
        "voxel_precision": float(np.nanmean(precision)),
        "missed_share": 1 - float(sums["error_shown"].sum() / sums["error"].sum()),
        "missed_share_wrong": 1 - float(sums["wrong_shown"].sum() / sums["wrong"].sum()),
        "attention_ml": float(sums["salient"].mean()),
        "error_ml": float(sums["error"].mean()),
        "wrong_ml": float(sums["wrong"].mean()),
    }


def by_size(rows: Rows) -> str:
    """What is found and what is right when only larger regions are looked at."""
    from _quality_detection import mean_of

    lines = [
        "| regions of at least | attention regions a case | precision | error regions a case "
        "| sensitivity |",
        "| --- | --- | --- | --- | --- |",
    ]
    for least in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0):
        values: dict[str, list[float]] = {"best": [], "covered": []}
        counts = {"best": 0, "covered": 0}
        for row in rows:
            for kind, volume in (("best", "attention_ml"), ("covered", "error_ml")):
                shares = [
                    share
                    for organ in row["regions"].values()
                    for share, ml in zip(organ[kind], organ[volume], strict=True)
                    if ml >= least - 1e-9
                ]
                counts[kind] += len(shares)
                hits = sum(share >= HIT - 1e-9 for share in shares)
                values[kind].append(_ratio(hits, len(shares)))
        precision, sensitivity = mean_of(values["best"]), mean_of(values["covered"])
        lines.append(
            f"| {least:g} ml | {counts['best'] / len(rows):.1f} | {precision['mean']:.2f} "
            f"| {counts['covered'] / len(rows):.1f} | {sensitivity['mean']:.2f} |"
        )
    return "\n".join(lines)


def picture(rows: Rows, path: Path, figures: dict[str, float]) -> None:
    """Two rankings against what is wrong, coloured by field of view: SVG and PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    wrong = column(rows, "wrong_ml")
    litres = column(rows, "field_of_view_ml") / 1000
    count = int(np.ceil(0.05 * len(rows)))
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained", sharey=True)
    for axes, name, label in zip(
        panels,
        ("eq4", "salient"),
        ("attention size (Eq. 4), ml", "salient volume, ml"),
        strict=True,
    ):
        score = scores(rows)[name]
        points = axes.scatter(score, wrong, c=litres, s=16, cmap="viridis", alpha=0.85, lw=0)
        axes.axvline(np.sort(score)[-count], color="0.5", lw=1, ls="--")
        axes.axhline(np.sort(wrong)[-count], color="0.5", lw=1, ls="--")
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel(label)
        axes.set_title(f"{name}: Spearman's rho {figures[f'rho_{name}']:.2f}", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("wrong voxels of the pseudo label, ml")
    figure.colorbar(points, ax=panels, label="field of view, litres")
    figure.suptitle(
        f"{len(rows)} phantoms no network has seen; right of and above the dashed lines: "
        "first and worst 5 %",
        fontsize=11,
    )
    for suffix in (".svg", ".png"):
        figure.savefig(path.with_suffix(suffix), dpi=110)
    plt.close(figure)
