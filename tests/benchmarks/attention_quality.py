"""Does attention find errors? Rankings and regions against the truth of synthetic CTs.

Usage: ``python tests/benchmarks/attention_quality.py [--count 400] [--work FOLDER]``

The embedded networks predict phantoms of a fixed mix of difficulty that none of them has
seen, and CTs painted on two held-out bodies (``_quality_cases``; figures begin with
``bodies_``; left out, and it is said, where the bodies are not there). Rankings: Spearman's
rho between a volume's score and the volume of its wrong voxels, and the share of the worst 5
and 10 % among the first 5 and 10 %. Regions: Table 1 as :mod:`_quality_detection`
defines it. What is kept of a case in the work folder is not made again: a run that was ended
goes on, and the analysis can be done anew without predicting.

``--tune`` prints Table 1's means for a number of settings on other phantoms; the settings
used here were chosen so.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from _data import BODIES
from _quality_cases import (
    EMBEDDED,
    HELD_OUT,
    TEST,
    TUNING,
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
from _quality_places import place_figures, quality_figures
from _quality_regions import judge
from _quality_report import by_size, column, picture, rank_figures, table_1, voxel_figures
from _quick import parse, report

from atlas8k.core.rankings import RANKINGS

SETTINGS: dict[str, dict[str, float]] = {
    "chosen": {"inconsistency": 0.2, "uncertainty": 0.3, "opening_mm": 0.0},
    "focused": {"inconsistency": 0.15, "uncertainty": 0.37, "opening_mm": 3.0},
    "published": {},
}
"""Thresholds of salient regions. On the tuning phantoms ``chosen`` finds 0.93 or more with one
of the largest margins over the control and misses least of such; ``focused`` has the smallest
regions that find 0.93; ``published`` are the reference code's. Figures without a prefix are
those of ``chosen``."""

CANDIDATES: tuple[dict[str, float], ...] = (
    *SETTINGS.values(),
    {"inconsistency": 0.1, "uncertainty": 0.1, "opening_mm": 7.5},
    {"inconsistency": 0.1, "uncertainty": 0.1, "opening_mm": 10.5},
    {"inconsistency": 0.2, "uncertainty": 0.2, "opening_mm": 4.5},
    {"inconsistency": 0.25, "uncertainty": 0.25, "opening_mm": 3.0},
    {"inconsistency": 0.2, "uncertainty": 0.37, "opening_mm": 0.0},
    {"inconsistency": 0.3, "uncertainty": 0.3, "opening_mm": 0.0},
)
"""What ``--tune`` compares."""

EXPECTED = "expected_error"
MEASURED = {name: ranking for name, ranking in RANKINGS.items() if name != EXPECTED}
"""Rankings whose figures are measured with the prediction; the other one may be fitted anew."""

_networks: Any = None


def start() -> None:
    """Load the networks, once in each process."""
    global _networks  # noqa: PLW0603 - one a process
    _networks = _networks or predictor()


def ready(sample: Sample, number: int, folder: Path, keep: bool) -> dict[str, Any]:
    """The row of a case, made where it is not there: sizes, and regions by settings."""
    regions = folder / f"case_{number:03d}.regions.json"
    shown, row = shown_of(folder, number), row_kept(folder, number)
    codes = codes_of(folder, number)
    made = codes.exists() and ct_of(folder, number).exists()
    if row is not None and regions.exists() and row["figures"].keys() >= MEASURED.keys():
        found = json.loads(regions.read_text(encoding="utf-8"))
        if made and not shown_is_current(shown):
            publish(shown, json.dumps(shown_places(folder, number)).encode())
        if found["settings"] == SETTINGS and shown_is_current(shown):
            return with_shown(row | found, folder, number)
    if row is None or not made or row["figures"].keys() < MEASURED.keys():
        for old in (regions, shown):  # of another release or other networks
            old.unlink(missing_ok=True)
        start()
        row = make(_networks, sample, number, folder)
    judged = judge(folder, number, [settings_of(values) for values in SETTINGS.values()])
    found = {name: asdict_of(one) for name, one in zip(SETTINGS, judged, strict=True)}
    found["settings"] = SETTINGS
    publish(regions, json.dumps(found).encode())
    publish(shown, json.dumps(shown_places(folder, number)).encode())
    if not keep:
        for file in (codes, ct_of(folder, number), labels_of(folder, number)):
            file.unlink()
    return with_shown(row | found, folder, number)


def with_shown(row: dict[str, Any], folder: Path, number: int) -> dict[str, Any]:
    """A row with what its places find, and the ranking by expected error."""
    shown = json.loads(shown_of(folder, number).read_text(encoding="utf-8"))
    expected = {organ: one[3] for organ, one in shown["predicted"].items()}
    return row | {"shown": shown, "figures": row["figures"] | {EXPECTED: expected}}


def shown_of(folder: Path, number: int) -> Path:
    """Where what was found of a case's places is."""
    return folder / f"case_{number:03d}.shown.json"


def shown_places(folder: Path, number: int) -> dict[str, Any]:
    """What the places of a case find, by the model that comes with the networks."""
    from _quality_places import judge_places

    from atlas8k.attention.quality_model import QUALITY_FILE, read_quality
    from atlas8k.core.files import sha256_of

    found = judge_places(folder, number, read_quality(EMBEDDED / QUALITY_FILE))
    return {**found, "model": sha256_of(EMBEDDED / QUALITY_FILE)}


def shown_is_current(shown: Path) -> bool:
    """Whether the places kept are those of the model that comes with the networks."""
    from atlas8k.attention.quality_model import QUALITY_FILE
    from atlas8k.core.files import sha256_of

    if not shown.exists():
        return False
    model = json.loads(shown.read_text(encoding="utf-8")).get("model")
    return bool(model == sha256_of(EMBEDDED / QUALITY_FILE))


def settings_of(values: dict[str, float]) -> Any:
    """Salient settings of the package, with some changed."""
    from atlas8k.attention import SalientSettings

    return SalientSettings(**values)


def asdict_of(judged: Any) -> dict[str, Any]:
    """A case's regions as plain values; of the control only the counts."""

    def counts(found: Any) -> list[int]:
        return [
            len(found.covered),
            int((found.covered >= 0.1 - 1e-9).sum()),
            len(found.best),
            int((found.best >= 0.1 - 1e-9).sum()),
        ]

    return {
        "regions": {
            organ: {name: np.round(values, 4).tolist() for name, values in asdict(found).items()}
            for organ, found in judged.organs.items()
        },
        "control": {organ: counts(found) for organ, found in judged.control.items()},
        "outline": {organ: counts(found) for organ, found in judged.outline.items()},
        "voxels": judged.voxels,
        "voxel_ml": judged.voxel_ml,
        "salient_ml": judged.salient_ml,
    }


def rows_of(sample: Sample, work: Path, processes: int, keep: bool) -> list[dict[str, Any]]:
    """Every case of a sample, in order, with a progress bar."""
    from tqdm import tqdm

    folder = work / sample.name
    folder.mkdir(parents=True, exist_ok=True)
    tasks = ((sample, number, folder, keep) for number in range(sample.count))
    bar = {"total": sample.count, "desc": sample.name, "unit": "CT"}
    if processes == 1:
        return [ready(*task) for task in tqdm(tasks, **bar)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        done = [pool.submit(ready, *task) for task in tasks]
        return [future.result() for future in tqdm(done, **bar)]


def tune(work: Path, count: int) -> None:
    """Print Table 1's means on the tuning phantoms for every candidate."""
    from _quality_ranking import spearman

    folder = work / TUNING.name
    folder.mkdir(parents=True, exist_ok=True)
    several = [settings_of(values) for values in CANDIDATES]
    rows: list[list[dict[str, Any]]] = []
    for number in range(count):
        if not (row_of(folder, number).exists() and codes_of(folder, number).exists()):
            start()
            make(_networks, TUNING, number, folder)
        size = json.loads(row_of(folder, number).read_text(encoding="utf-8"))
        rows.append([size | asdict_of(one) for one in judge(folder, number, several)])
    names = (
        *("sensitivity", "precision", "outline_sensitivity", "outline_precision"),
        *("attention_regions", "attention_ml", "missed_share", "rho_salient"),
    )
    print(f"| thresholds, {count} tuning phantoms | {' | '.join(names)} |")
    print("| --- " * (len(names) + 1) + "|")
    for index, values in enumerate(CANDIDATES):
        one = [row[index] for row in rows]
        figures = table_1(one)[1] | voxel_figures(one)
        figures["attention_regions"] /= count
        figures["rho_salient"] = spearman(column(one, "salient_ml"), column(one, "wrong_ml"))
        cells = " | ".join(f"{figures[name]:.3g}" for name in names)
        print(f"| {values or 'published'} | {cells} |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=TEST.count, help="phantoms, 1 to 400")
    parser.add_argument("--bodies", type=int, default=HELD_OUT.count, help="painted CTs")
    parser.add_argument("--work", type=Path, help="folder of what is kept between runs")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--samples", type=int, default=2000, help="of the bootstrap")
    parser.add_argument("--keep", action="store_true", help="keep probabilities, too, 12 MB a case")
    parser.add_argument("--tune", action="store_true", help="look at settings on other phantoms")
    parser.add_argument("--picture", type=Path, help="write a scatter plot here, .svg and .png")
    tiny = {"count": 4, "bodies": 2, "processes": 1, "samples": 20}
    options = parse(parser, tiny, arguments)
    with tempfile.TemporaryDirectory() as folder:
        # What an earlier run has kept would not be run through.
        run(options, parser, Path(folder) if options.quick else None)


def run(options: argparse.Namespace, parser: argparse.ArgumentParser, folder: Path | None) -> None:
    """Everything that is asked for."""
    work = folder or options.work or Path(tempfile.gettempdir()) / "atlas8k-attention-quality"
    if not 1 <= options.count <= TEST.count:
        parser.error(f"--count must lie in 1 to {TEST.count}")
    if options.tune:
        tune(work, min(options.count, TUNING.count))
        return
    sample = Sample(TEST.name, TEST.first_seed, options.count)
    rows = rows_of(sample, work, options.processes, options.keep)
    figures = judged(rows, "phantoms", options.samples)
    if options.bodies and not BODIES.is_dir():
        print(f"\nNo CTs painted on bodies: {BODIES} is not there")
    elif options.bodies:
        held_out = replace(HELD_OUT, count=min(options.bodies, HELD_OUT.count))
        painted = rows_of(held_out, work, options.processes, options.keep)
        of_bodies = judged(painted, "CTs painted on two held-out bodies", options.samples)
        figures |= {
            f"bodies_{name}": value
            for name, value in of_bodies.items()
            if not name.startswith(tuple(SETTINGS))
        }
    if options.picture:
        picture([row | row["chosen"] for row in rows], options.picture, figures)
    report("attention_quality", {name: round(v, 4) for name, v in figures.items()}, options)


def judged(rows: list[dict[str, Any]], what: str, samples: int) -> dict[str, float]:
    """Print a sample's rankings and regions; its figures."""
    from atlas8k.core.structures import ORGAN_NAMES

    figures = rank_figures([row | row["chosen"] for row in rows], samples, what)
    shown = [row["shown"] for row in rows]
    of_places, of_quality = place_figures(shown, what), quality_figures(shown, what)
    for name, values in SETTINGS.items():
        mine = [row[name] for row in rows]
        text, found = table_1(mine)
        print(f"\nTable 1, {name} thresholds {values or ''}:\n{text}\n\n{by_size(mine)}")
        voxels = voxel_figures(mine)
        print(
            f"\nA case has {voxels['wrong_ml']:.0f} ml of wrong voxels, "
            f"{voxels['error_ml']:.1f} ml of them in error regions, and "
            f"{voxels['attention_ml']:.0f} ml of attention regions. Outside every attention "
            f"region: {voxels['missed_share']:.1%} of the error regions' volume, "
            f"{voxels['missed_share_wrong']:.1%} of all wrong voxels."
        )
        for figure, value in (found | voxels).items():
            if name == "chosen" and figure not in of_places:
                figures[figure] = value
            elif not figure.endswith(tuple(ORGAN_NAMES)):
                figures[f"{name}_{figure}"] = value
    return figures | of_places | of_quality


if __name__ == "__main__":
    main()
