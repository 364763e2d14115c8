"""What more structures cost: prediction, attention and answers for 9, 25 and 117 of them.

Usage: ``python tests/benchmarks/structures_cost.py [--counts 9,25,117]``

One CT of 259 x 259 x 283 voxels of 1.5 mm, the three embedded networks, nnU-Net with a sigmoid for
each output like the others. Structures beyond the nine are the nine again, under further names and
outputs of the same networks (``outputs.take``): 117 have as many voxels and as much doubt as
thirteen bodies, more than those of a person would.

- ``gb_N``: the most memory a process took beyond its imports, from file to packed answers.
- ``seconds_predict_N``, ``seconds_answers_N``: probabilities; attention, regions, labels.
- ``mb_answers_N``: answers as they are kept.
- ``growth_gb``, ``growth_seconds``: from the first count to the last, by how many times as many
  there are; 1 is in proportion.
- ``nine_alike``: 1 where the label is the same to the voxel for the first and the last count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._prediction_volumes import QUICK, USUAL, patient, write
from tests.benchmarks._quality_cases import EMBEDDED
from tests.benchmarks._quick import parse, report
from tests.benchmarks.attention_speed import peak_kb

from atlas8k.core.structure_sets import Organ, StructureSet, built_in
from atlas8k.core.structures import use

NETWORKS = ("swin_unetr", "unet", "nnunet")


def structures(count: int) -> StructureSet:
    """So many structures, of which the first nine are the nine."""
    nine = built_in("abdomenatlas-1.0").organs
    more = [
        Organ(i + 1, f"{nine[i % 9].name}_{i // 9 + 1}", (), nine[i % 9].color, "91723000", "Part")
        for i in range(len(nine), count)
    ]
    return StructureSet(f"{count} structures", [*nine, *more])


def networks(count: int) -> dict[str, Any]:
    """The embedded networks with as many outputs: the nine over and over."""
    from atlas8k.models.checkpoint import load_checkpoint

    names = structures(count).names
    loaded = {}
    for name in NETWORKS:
        one = load_checkpoint(EMBEDDED / f"{name}.safetensors")
        background = one.activation == "softmax"
        take = [[i % 9 + background] for i in range(count)]
        outputs = {"of": one.out_channels, "take": take}
        architecture = {**one.architecture, "out_channels": count, "outputs": outputs}
        loaded[name] = replace(one, architecture=architecture, organs=names, activation="sigmoid")
    return loaded


def measure(count: int, ct_path: Path, out: Path) -> dict[str, float]:
    """From a CT's file to the answers that are kept; figures of this process."""
    from atlas8k.attention import SalientSettings
    from atlas8k.core.volume import read_ct
    from atlas8k.models.predict import Predictor
    from atlas8k.services.prediction.answers import Answers

    use(structures(count))
    predictor = Predictor(networks(count))
    before = peak_kb()
    begun = time.perf_counter()
    ct = read_ct(ct_path)
    prediction = predictor.predict(ct)
    predicted = time.perf_counter()
    answers = Answers.of(prediction, SalientSettings(), "ct", ct)
    data = answers.packed()
    done = time.perf_counter()
    np.save(out, answers.labels[0])
    return {
        "gb": (peak_kb() - before) * 1024 / 1e9,
        "seconds_predict": predicted - begun,
        "seconds_answers": done - predicted,
        "mb_answers": len(data) / 1e6,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", default="9,25,117")
    parser.add_argument("--measure", nargs=3, metavar=("COUNT", "CT", "LABEL"))
    options = parse(parser, {"counts": "9,30"}, arguments)
    if options.measure:
        count, ct, out = options.measure
        print(json.dumps(measure(int(count), Path(ct), Path(out))))
        return
    counts = [int(count) for count in options.counts.split(",")]
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        ct, size = Path(folder) / "ct.nii.gz", QUICK if options.quick else USUAL
        write(ct, patient(size)[0], size, size)
        for count in counts:
            label = Path(folder) / f"{count}.npy"
            done = subprocess.run(
                [sys.executable, __file__, "--measure", str(count), str(ct), str(label)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            )
            found = json.loads(done.stdout.splitlines()[-1])
            print(count, found, flush=True)
            figures |= {f"{key}_{count}": value for key, value in found.items()}
        first, last = counts[0], counts[-1]
        before, after = (np.load(Path(folder) / f"{count}.npy") for count in (first, last))
    times = last / first
    seconds = {
        count: figures[f"seconds_predict_{count}"] + figures[f"seconds_answers_{count}"]
        for count in counts
    }
    figures["growth_gb"] = figures[f"gb_{last}"] / figures[f"gb_{first}"] / times
    figures["growth_seconds"] = seconds[last] / seconds[first] / times
    figures["nine_alike"] = float(np.array_equal(before, after))
    report("structures_cost", {k: round(v, 4) for k, v in figures.items()}, options)


if __name__ == "__main__":
    main()
