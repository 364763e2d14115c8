"""Which volumes should be reviewed first? Strategies side by side on one pool, without training.

Usage: ``python tests/benchmarks/campaign_strategies.py [--work FOLDER]``, where FOLDER is what
``attention_quality.py --keep`` has kept: predicted phantoms of the wide mix and CTs painted on the
held-out bodies. Every seed draws a part of the pool; five rounds of 5 % are reviewed by each
strategy. Three oracles: one corrects everything, one the places shown alone, one everything with
an annotator's noise along the boundary. Labels are compared on every second voxel (3 mm). What is
measured of a case is kept beside it: a run that was ended goes on. Networks are not fine-tuned:
what is compared is the quality of the labels.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _data import BODIES
from _quality_cases import (
    EMBEDDED,
    HELD_OUT,
    TEST,
    Sample,
    codes_of,
    ct_of,
    labels_of,
    make,
    predictor,
    publish,
    row_kept,
    row_of,
)
from _quick import parse, print_markdown, report

STEP = 2


def measured(folder: Path, number: int) -> dict[str, Any]:
    """What the strategies need of a case, made where it is not there.

    Returns
    -------
    dict
        ``before`` and by oracle ``after`` DSC by organ (null: in neither), by oracle ``touched``
        organs, ``wrong_ml``, ``figures`` of the rankings by organ, ``traits``.
    """
    from atlas8k.attention.quality_model import QUALITY_FILE, read_quality
    from atlas8k.campaign.oracles import ORACLES, touched, wanted
    from atlas8k.core.files import sha256_of

    kept = folder / f"case_{number:03d}.strategies.json"
    row = json.loads(row_of(folder, number).read_text(encoding="utf-8"))
    of = [row["networks"], sha256_of(EMBEDDED / QUALITY_FILE)]
    if kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found.get("of") == of:
            return found
    pseudo, truth, places, expected = opened(folder, number, read_quality(EMBEDDED / QUALITY_FILE))
    spacing = [mm * STEP for mm in row["spacing_mm"]]
    corrected = {
        oracle: wanted(oracle, pseudo, truth, places=places, spacing_mm=spacing, seed=number)
        for oracle in ORACLES
    }
    voxel_ml = float(np.prod(spacing)) / 1000
    found = {
        "of": of,
        "before": dice(pseudo, truth),
        "after": {name: dice(label, truth) for name, label in corrected.items()},
        "touched": {name: touched(pseudo, label, voxel_ml) for name, label in corrected.items()},
        "wrong_ml": row["wrong_ml"],
        "figures": row["figures"] | {"expected_error": expected},
        "traits": {
            **(row.get("traits") or {}),
            "organs": row["organ_ml"] > 0,
            "body_cm2": row["body_ml"],  # any measure of size: it is made into quarters
        },
    }
    publish(kept, json.dumps(found).encode())
    return found


def opened(
    folder: Path, number: int, model: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, float]]:
    """Pseudo label, truth and places of a case on every second voxel; expected wrong ml."""
    from atlas8k.attention.organ_features import organ_features
    from atlas8k.attention.packed import unpack, unpack_codes
    from atlas8k.attention.places import find_places, upsampled
    from atlas8k.attention.thinned import thinned
    from atlas8k.core.volume import Grid

    name = f"case {number}"
    probs, _ = unpack_codes(codes_of(folder, number).read_bytes(), name)
    (pseudo, truth), meta = unpack(labels_of(folder, number).read_bytes(), name)
    grid = Grid(pseudo.shape, np.array(meta["affine"]))
    volume = thinned(probs, pseudo, grid, np.load(ct_of(folder, number)).astype(np.float32))
    found = find_places(volume, model, ("swin_unetr", "unet", "nnunet"))
    places = upsampled(found, grid, volume.steps) > 0
    expected = {o: one.wrong_ml for o, one in model.predict(organ_features(volume)).items()}
    every = (slice(None, None, STEP),) * 3
    return pseudo[every], truth[every], places[every], expected


def dice(label: np.ndarray, truth: np.ndarray) -> list[float | None]:
    """DSC by organ; none where it is in neither."""
    both = np.bincount((truth.astype(np.int64) * 10 + label).ravel(), minlength=100)
    table = both.reshape(10, 10)
    sizes = table.sum(axis=0) + table.sum(axis=1)
    return [
        2 * float(table[organ, organ]) / float(sizes[organ]) if sizes[organ] else None
        for organ in range(1, 10)
    ]


def pool_of(rows: Sequence[tuple[str, str, dict[str, Any]]], oracle: str) -> Any:
    """The pool of named cases as an oracle corrects them."""
    from atlas8k.campaign.strategies import Pool
    from atlas8k.core.rankings import RANKINGS
    from atlas8k.core.selection import Candidate

    candidates = {
        ranking: [
            Candidate.of(
                name,
                RANKINGS[ranking].score(row["figures"][ranking].values()),
                row["figures"][ranking],
                row["traits"],
                source,
            )
            for name, source, row in rows
        ]
        for ranking in RANKINGS
    }
    candidates["truth"] = [
        one._replace(score=row["wrong_ml"])
        for one, (_, _, row) in zip(candidates["eq4"], rows, strict=True)
    ]
    return Pool(
        candidates,
        np.array([row["before"] for *_, row in rows], dtype=float),
        np.array([row["after"][oracle] for *_, row in rows], dtype=float),
        np.array([row["touched"][oracle] for *_, row in rows], dtype=float),
        np.array([row["wrong_ml"] if oracle == "everything" else np.nan for *_, row in rows]),
    )


def strategies() -> dict[str, Any]:
    """All rankings, the stratified list, random, and what cannot be beaten.

    An organ is predicted in every CT of the pool: random and random with foreground are one.
    """
    from atlas8k.campaign.strategies import Strategy
    from atlas8k.core.rankings import DEFAULT_RANKING, RANKINGS

    return {
        **{ranking: Strategy(ranking, "ranking") for ranking in RANKINGS},
        "stratified": Strategy(DEFAULT_RANKING, "stratified"),
        "random_foreground": Strategy(DEFAULT_RANKING, "random_foreground"),
        "largest error": Strategy("truth", "ranking"),
    }


def cases(sample: Sample, work: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """The measured cases of a sample; predicted where they are not kept."""
    from tqdm import tqdm

    folder = work / sample.name
    folder.mkdir(parents=True, exist_ok=True)
    networks, rows = None, []
    for number in tqdm(range(sample.count), desc=sample.name, unit="CT"):
        files = (codes_of(folder, number), labels_of(folder, number), ct_of(folder, number))
        if row_kept(folder, number) is None or not all(file.exists() for file in files):
            networks = networks or predictor()
            make(networks, sample, number, folder)
        rows.append((f"{sample.name}_{number:03d}", sample.name, measured(folder, number)))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=112, help="phantoms")
    parser.add_argument("--bodies", type=int, default=60, help="CTs painted on held-out bodies")
    parser.add_argument("--work", type=Path, help="folder of what is kept between runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.05, help="of the volumes, in each round")
    parser.add_argument("--part", type=float, default=0.75, help="of the pool, drawn by each seed")
    quick = {"count": 4, "bodies": 0, "seeds": 2, "rounds": 2, "share": 0.34}
    options = parse(parser, quick, arguments)
    with tempfile.TemporaryDirectory() as temporary:
        fallback = Path(tempfile.gettempdir()) / "atlas8k-attention-quality"
        work = Path(temporary) if options.quick else options.work or fallback
        rows = cases(Sample(TEST.name, TEST.first_seed, options.count), work)
        if options.bodies and BODIES.is_dir():
            rows += cases(replace(HELD_OUT, count=options.bodies), work)
    from atlas8k.campaign.oracles import ORACLES

    figures: dict[str, float] = {"n": len(rows)}
    for oracle in ORACLES:
        figures |= compared(rows, oracle, options)
    report("campaign_strategies", {name: round(v, 4) for name, v in figures.items()}, options)


def compared(
    rows: Sequence[tuple[str, str, dict[str, Any]]], oracle: str, options: argparse.Namespace
) -> dict[str, float]:
    """Print the strategies under one oracle; the figures."""
    from atlas8k.campaign.strategies import compare
    from atlas8k.cli.campaign_tables import strategy_rows

    size = max(3, round(options.part * len(rows)))
    found = compare(
        pool_of(rows, oracle), strategies(),
        seeds=options.seeds, rounds=options.rounds, share=options.share, size=size,
    )  # fmt: skip
    reviewed = options.rounds * max(1, round(options.share * size))
    print(f"\nOracle: {oracle}; {reviewed} of {size} volumes reviewed, {options.seeds} seeds\n")
    print_markdown(strategy_rows(found, options.seeds))
    figures = {}
    for name, one in found.items():
        key = f"{oracle}_{name.replace(' ', '_')}"
        figures |= {
            f"area_{key}": one.area,
            f"gain_{key}": one.gain,
            f"removed_{key}": one.removed,
            f"revisions_{key}": one.revisions,
        }
    return figures


if __name__ == "__main__":
    main()
