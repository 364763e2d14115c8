"""The places that people are shown, and the predicted quality, against the truth of a case.

Error regions and hits are those of :mod:`_quality_detection`; a place is one attention region of
its organ. What an error region has to have, ml, is given: smaller ones count as neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from _quality_cases import codes_of, ct_of, labels_of
from _quality_regions import AROUND_MM, DRAWS, errors_of

LEAST_ML = (0.5, 2.0, 4.0, 8.0)
"""Error regions are looked at from these sizes on."""
MAIN_ML = 4.0


def judge_places(folder: Path, number: int, model: Any) -> dict[str, Any]:
    """Places and predicted quality of a case, JSON-ready.

    Returns
    -------
    dict
        ``dice``, ``predicted`` by organ (Dice, low, high, wrong ml); ``by_ml``: by least ml of
        an error region, how many errors, hit, places, hitting, and the same of two controls;
        ``by_organ`` the first four at 4 ml; ``places``, ``ml``, ``wrong_ml``, ``wrong_inside``,
        ``error_ml``, ``error_inside``.
    """
    from _quality_detection import detect, moved, outline

    from atlas8k.attention.organ_features import organ_features
    from atlas8k.attention.packed import unpack, unpack_codes
    from atlas8k.attention.places import find_places, upsampled
    from atlas8k.attention.regions import bounding_box
    from atlas8k.attention.thinned import thinned
    from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
    from atlas8k.core.volume import Grid

    name = f"case {number}"
    probs, _ = unpack_codes(codes_of(folder, number).read_bytes(), name)
    (pseudo, truth), meta = unpack(labels_of(folder, number).read_bytes(), name)
    grid = Grid(pseudo.shape, np.array(meta["affine"]))
    hu = np.load(ct_of(folder, number)).astype(np.float32)
    volume = thinned(probs, pseudo, grid, hu)
    found = find_places(volume, model, ("swin_unetr", "unet", "nnunet"))
    shown = upsampled(found, grid, volume.steps)
    predicted = model.predict(organ_features(volume))
    rng = np.random.default_rng(number)
    margin = np.rint(AROUND_MM / np.array(grid.spacing)).astype(int)
    counts = {least: np.zeros((3, 4), dtype=int) for least in LEAST_ML}
    by_organ: dict[str, list[int]] = {}
    dice: dict[str, float | None] = {}
    totals = {"wrong_ml": 0.0, "wrong_inside": 0.0, "error_ml": 0.0, "error_inside": 0.0}
    for organ in ORGAN_NAMES:
        own, true = pseudo == ORGAN_IDS[organ], truth == ORGAN_IDS[organ]
        both = int(own.sum()) + int(true.sum())
        dice[organ] = 2 * float((own & true).sum()) / both if both else None
        error = errors_of(own, true, grid)
        places = [
            whole(at, volume.steps, grid.shape)
            for region, at in zip(found.regions, found.voxels, strict=True)
            if organ in region.organs
        ]
        totals["wrong_ml"] += float(error.wrong.sum()) * grid.voxel_ml
        totals["wrong_inside"] += float((error.wrong & (shown > 0)).sum()) * grid.voxel_ml
        box = bounding_box(own) or tuple(slice(0, n) for n in grid.shape)
        corner = np.array([span.start for span in box])
        edge = (outline(own[box]) if own.any() else np.argwhere(np.ones(grid.shape))) + corner
        low, high = edge.min(axis=0) - margin, edge.max(axis=0) + margin
        around = rng.integers(low, high + 1, (DRAWS * max(1, len(places)), 3))
        control = [moved(places, around, rng) for _ in range(DRAWS)]
        harder = [moved(places, edge, rng) for _ in range(DRAWS)]
        for least in LEAST_ML:
            large = [one for one in error.regions if len(one) * grid.voxel_ml >= least - 1e-9]
            for row, draws in enumerate(([places], control, harder)):
                for regions in draws:
                    one = detect(large, regions, grid.shape, grid.voxel_ml)
                    counts[least][row] += _counts(one)
            if least == MAIN_ML:
                by_organ[organ] = _counts(detect(large, places, grid.shape, grid.voxel_ml))
                for one in large:
                    totals["error_ml"] += len(one) * grid.voxel_ml
                    inside = np.count_nonzero(shown[tuple(one.T)])
                    totals["error_inside"] += inside * grid.voxel_ml
    return {
        "dice": dice,
        "predicted": {organ: list(one) for organ, one in predicted.items()},
        "expected_error": float(sum(one.wrong_ml for one in predicted.values())),
        "by_ml": {str(least): table.tolist() for least, table in counts.items()},
        "by_organ": by_organ,
        "places": len(found.regions),
        "ml": float(np.count_nonzero(shown)) * grid.voxel_ml,
        **totals,
    }


def whole(at: np.ndarray, steps: tuple[int, int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Voxels of the whole grid, ``(n, 3)``, in the cells of voxels of the thinned one."""
    cell = np.stack(np.meshgrid(*(np.arange(step) for step in steps), indexing="ij"), axis=-1)
    every = (at * steps)[:, None] + cell.reshape(-1, 3)
    every = every.reshape(-1, 3)
    return every[(every < shape).all(axis=1)]


def _counts(found: Any) -> list[int]:
    """How many errors, hit, places, hitting."""
    return [
        len(found.covered),
        int((found.covered >= 0.1 - 1e-9).sum()),
        len(found.best),
        int((found.best >= 0.1 - 1e-9).sum()),
    ]


def place_figures(rows: list[dict[str, Any]], what: str) -> dict[str, float]:
    """Print what the places find; the figures: means over the cases that have any."""
    figures: dict[str, float] = {
        "regions_a_case": float(np.mean([row["places"] for row in rows])),
        "ml_a_case": float(np.mean([row["ml"] for row in rows])),
        "wrong_ml_inside": _share(rows, "wrong_inside", "wrong_ml"),
        "missed_share": 1 - _share(rows, "error_inside", "error_ml"),
    }
    print(f"\nPlaces shown, {len(rows)} {what}: {figures['regions_a_case']:.1f} and "
          f"{figures['ml_a_case']:.0f} ml a case")  # fmt: skip
    print(
        "| error regions of | a case | sensitivity | precision | control, near | on its outline |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for least in LEAST_ML:
        tables = [np.array(row["by_ml"][str(least)]) for row in rows]
        pairs = [
            (_mean_ratio(tables, kind, 1, 0), _mean_ratio(tables, kind, 3, 2)) for kind in range(3)
        ]
        mean = np.mean([table[0, 0] for table in tables])
        cells = " | ".join(f"{s:.2f} / {p:.2f}" for s, p in pairs[1:])
        print(f"| {least:g} ml | {mean:.1f} | {pairs[0][0]:.2f} | {pairs[0][1]:.2f} | {cells} |")
        end = {0.5: "_05", MAIN_ML: ""}.get(least)
        if end is not None:
            figures[f"sensitivity{end}"], figures[f"precision{end}"] = pairs[0]
        if least == MAIN_ML:
            figures["control_sensitivity"], figures["control_precision"] = pairs[1]
            figures["outline_sensitivity"], figures["outline_precision"] = pairs[2]
    print("\n| organ | error regions, 4 ml | places | sensitivity | precision |")
    print("| --- | --- | --- | --- | --- |")
    for organ in rows[0]["by_organ"]:
        errors, hit, places, hitting = np.sum([row["by_organ"][organ] for row in rows], axis=0)
        print(
            f"| {organ} | {errors} | {places} | {_ratio(hit, errors)} | {_ratio(hitting, places)} |"
        )
    return figures


def quality_figures(rows: list[dict[str, Any]], what: str) -> dict[str, float]:
    """Print how good the predicted Dice is, by organ and pooled; the figures."""
    from atlas8k.core.structures import ORGAN_NAMES

    table = {
        organ: np.array(
            [
                [row["dice"][organ], *row["predicted"][organ][:3]]
                for row in rows
                if organ in row["predicted"] and row["dice"][organ] is not None
            ],
            dtype=float,
        ).reshape(-1, 4)
        for organ in ORGAN_NAMES
    }
    table["all"] = np.concatenate(list(table.values()))
    print(f"\nPredicted DSC, {len(rows)} {what}")
    print(
        "| organ | n | mean DSC | mean absolute error | r | in the 90 % interval | median width |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    figures: dict[str, float] = {}
    for organ, values in table.items():
        dice, guess, low, high = values.T
        error = float(np.abs(dice - guess).mean()) if len(dice) else float("nan")
        r = float(np.corrcoef(dice, guess)[0, 1]) if len(dice) > 2 else float("nan")
        inside, width = float(((low <= dice) & (dice <= high)).mean()), float(np.median(high - low))
        print(
            f"| {organ} | {len(dice)} | {dice.mean():.3f} | {error:.3f} | {r:.3f} | {inside:.3f} "
            f"| {width:.3f} |"
        )
        end = "" if organ == "all" else f"_{organ}"
        figures |= {f"dice_error{end}": error, f"dice_inside{end}": inside}
        if organ == "all":
            figures |= {"dice_r": r, "dice_width": width, "dice_n": len(dice)}
    return figures


def _share(rows: list[dict[str, Any]], part: str, whole: str) -> float:
    total = sum(row[whole] for row in rows)
    return sum(row[part] for row in rows) / total if total else float("nan")


def _mean_ratio(tables: list[np.ndarray], kind: int, part: int, whole: int) -> float:
    """Mean of a ratio over the cases where there is one."""
    found = [table[kind, part] / table[kind, whole] for table in tables if table[kind, whole]]
    return float(np.mean(found)) if found else float("nan")


def _ratio(part: float, whole: float) -> str:
    return f"{part / whole:.2f}" if whole else ""
