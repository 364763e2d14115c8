"""How fast attention is: against the published steps, against memory, and by size.

    python tests/benchmarks/attention_speed.py [--scale 1.0] [--peer-organs 9]

Input: one volume of 259 x 259 x 283 voxels at 1.5 mm, nine organs, three networks, shaped
like predictions (ellipsoids' boundary sigmoids, each network with its own smooth noise and
a haze far away), and a dense one of uniform noise in which there is nothing to leave out.

Peer: the published steps, written here from their description: per organ, three soft
predictions are read from gzipped NIfTI, standard deviation and entropy taken with numpy,
both thresholded and opened with scipy (full 3 x 3 x 3 element, two erosions, two
dilations), overlap taken pair by pair on the averaged hard masks, and the maps written as
bytes. ``--peer-organs`` below nine measures fewer and scales up.

- ``speedup_end_to_end``: a cold process each, with the imports that each needs; stored form
  on disk to sizes, regions and heat on disk.
- ``speedup_end_to_end_warm``: the same in processes that have done one volume before, as
  scoring does thousands.
- ``speedup_engine``: the same steps of both with everything in memory.
- ``bandwidth_fraction``: dense, sizes only, float16: the rate at which the input is worked
  off over the rate at which two threads read it and do nothing else;
  ``bandwidth_fraction_codes`` the same for byte codes.
- ``peak_extra_gb``: the most memory beyond the input, regions and heat included.
- ``growth_exponent``: log time by log voxels from an eighth of the volume to the whole.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from _quick import parse, report

from atlas8k.attention import SalientSettings, attention_sizes, salient_regions
from atlas8k.attention.packed import pack, pack_codes, unpack_codes
from atlas8k.attention.slabs import quantise
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_NAMES

SHAPE = (259, 259, 283)
AFFINE = np.diag([1.5, 1.5, 1.5, 1.0])
# Centre and half axes as shares of the volume: aorta, gall bladder, kidneys, liver,
# pancreas, postcava, spleen, stomach; about 3.2 l together in a full-size field of view.
BODIES = [
    ((0.50, 0.42, 0.50), (0.030, 0.030, 0.44)),
    ((0.62, 0.58, 0.50), (0.040, 0.045, 0.050)),
    ((0.34, 0.38, 0.44), (0.075, 0.075, 0.125)),
    ((0.66, 0.38, 0.42), (0.075, 0.075, 0.125)),
    ((0.66, 0.54, 0.62), (0.200, 0.200, 0.170)),
    ((0.48, 0.54, 0.50), (0.150, 0.045, 0.040)),
    ((0.56, 0.42, 0.50), (0.032, 0.032, 0.44)),
    ((0.24, 0.42, 0.62), (0.090, 0.110, 0.130)),
    ((0.38, 0.60, 0.60), (0.120, 0.120, 0.150)),
]


def like_predictions(shape: tuple[int, ...]) -> np.ndarray:
    """``(3, 9, X, Y, Z)`` float16: boundary sigmoids, smooth noise, haze."""
    from scipy import ndimage

    rng = np.random.default_rng(8)
    probs = np.empty((3, 9, *shape), dtype=np.float16)
    coarse = tuple(max(3, n // 12) for n in shape)
    zoom = [n / c for n, c in zip(shape, coarse, strict=True)]
    x, y, z = np.ogrid[tuple(slice(n) for n in shape)]
    noises = [ndimage.zoom(rng.normal(size=coarse).astype("f4"), zoom, order=1) for _ in range(3)]
    flips = [tuple(slice(None, None, 1 - 2 * (k >> a & 1)) for a in range(3)) for k in range(8)]
    for organ, (centre, radius) in enumerate(BODIES):
        place = [
            ((axis / n - c) / r).astype(np.float32)
            for axis, n, c, r in zip((x, y, z), shape, centre, radius, strict=True)
        ]
        distance = np.sqrt(sum(p * p for p in place))
        voxels = np.float32(min(n * r for n, r in zip(shape, radius, strict=True)))
        inside = (1 - distance) * voxels  # about voxels from the surface
        for network in range(3):
            noise = noises[network][flips[organ % 8]]
            logit = np.clip((inside + 1.5 * noise) / 0.8, -12, 12) + 0.5 * noise
            probs[network, organ] = 1 / (1 + np.exp(-logit))
    return probs


def dense(shape: tuple[int, ...]) -> np.ndarray:
    """Uniform noise, one slab repeated along X."""
    slab = np.random.default_rng(9).random((3, 9, 8, *shape[1:]), dtype=np.float32)
    slab = (0.01 + 0.98 * slab).astype(np.float16)
    return np.tile(slab, (1, 1, -(-shape[0] // 8), 1, 1))[:, :, : shape[0]].copy()


def fastest(work: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def reading_seconds(array: np.ndarray) -> float:
    """Seconds in which two threads read the array once."""
    words = array.reshape(-1).view(np.uint8)
    words = words[: words.size // 16 * 16].view(np.uint64)
    halves = np.array_split(words, 2)
    with ThreadPoolExecutor(2) as pool:
        return fastest(lambda: list(pool.map(np.max, halves)), 5)


# --- the peer -------------------------------------------------------------------------


def published_maps(soft: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Opened std and entropy masks, and the maps times 255 as bytes, of one organ."""
    from scipy import ndimage

    stack = np.stack(soft)
    std = np.std(stack, axis=0)
    entropy = np.mean([-p * np.log(p + 1e-8) for p in soft], axis=0)
    full = np.ones((3, 3, 3))
    masks = []
    for image, limit in ((std, 0.1), (entropy, 0.05)):
        eroded = ndimage.binary_erosion(image > limit, structure=full, iterations=2)
        masks.append(ndimage.binary_dilation(eroded, structure=full, iterations=2))
    heat = std + entropy
    return masks[0] | masks[1], (heat / heat.max() * 255).astype(np.uint8)


def published_overlap(hard: np.ndarray, organ: int) -> np.ndarray:
    """One organ's averaged hard mask against every other's."""
    found = np.zeros(hard.shape[1:], dtype=bool)
    for other in range(len(hard)):
        if other != organ:
            found |= (hard[organ] > 0.5) & (hard[other] > 0.5)
    return found


def peer(stored: Path, out: Path, organs: int) -> None:
    """The published steps from their stored form to maps and sums on disk."""
    hard = np.stack([read(stored / f"hard_{o}.nii.gz") for o in range(len(BODIES))])
    sums = {}
    for organ in range(organs):
        soft = [read(stored / f"soft_{n}_{organ}.nii.gz") / 255.0 for n in range(3)]
        salient, heat = published_maps(soft)
        crowded = published_overlap(hard, organ)
        sums[ORGAN_NAMES[organ]] = int((salient | crowded).sum())
        for name, image in (("salient", salient), ("heat", heat), ("overlap", crowded)):
            save(out / f"{name}_{organ}.nii.gz", image.astype(np.uint8))
    (out / "sums.json").write_text(json.dumps(sums))


def peer_in_memory(probs: np.ndarray, organs: int) -> None:
    """The published steps without reading and writing."""
    hard = (probs > 0.5).mean(axis=0)
    for organ in range(organs):
        published_maps([p[organ].astype(np.float32) for p in probs])
        published_overlap(hard, organ)


def read(path: Path) -> np.ndarray:
    import nibabel as nib

    return np.asanyarray(nib.load(path).dataobj)


def save(path: Path, image: np.ndarray) -> None:
    import nibabel as nib

    nib.save(nib.Nifti1Image(image, AFFINE), path)


def store_for_peer(probs: np.ndarray, folder: Path, organs: int) -> None:
    for organ in range(len(BODIES)):
        save(folder / f"hard_{organ}.nii.gz", (probs[:, organ] > 0.5).mean(axis=0, dtype="f4"))
        for network in range(3 if organ < organs else 0):
            soft = (probs[network, organ].astype(np.float32) * 255).astype(np.uint8)
            save(folder / f"soft_{network}_{organ}.nii.gz", soft)


# --- ours, and the processes ----------------------------------------------------------


def ours(stored: Path, out: Path) -> None:
    """Stored codes to sizes, regions and heat on disk."""
    codes, grid = unpack_codes(stored.read_bytes(), stored.name)
    salient = salient_regions(codes, grid, SalientSettings(), heat=True)
    (out / "heat.at81").write_bytes(pack(salient.heat))
    (out / "regions.at81").write_bytes(pack(salient.label()))
    report = salient.sizes.as_dict() | {"regions": [r.as_dict() for r in salient.regions]}
    (out / "sizes.json").write_text(json.dumps(report))


def peak(path: Path) -> None:
    """Print the gigabytes that sizes, regions and heat take beyond the input."""
    probs = np.load(path)
    warm = np.zeros((3, 9, 8, 8, 8), np.float16)
    salient_regions(warm, Grid((8, 8, 8), AFFINE), heat=True)
    before = peak_kb()
    salient_regions(probs, Grid(probs.shape[2:], AFFINE), heat=True)
    print((peak_kb() - before) * 1024 / 1e9)


def peak_kb() -> int:
    """Most memory this process has had; ``ru_maxrss`` would begin with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def cold(*arguments: object) -> tuple[float, str]:
    """Seconds and output of this file in a process of its own."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return time.perf_counter() - begin, done.stdout


def first_and_again(seconds: float, printed: str) -> tuple[float, float]:
    """Seconds of a cold process that did one volume, and of one more in the same process.

    The process did four: what came after the first is taken off its time.
    """
    first, again = map(float, printed.split()[:2])
    rest = sum(map(float, printed.split()[2:]))
    return seconds - rest, min(first, again)


def measure_predictions(probs: np.ndarray, organs: int, folder: Path) -> dict[str, float]:
    """Figures of the volume that is shaped like predictions."""
    figures: dict[str, float] = {}
    grid = Grid(probs.shape[2:], AFFINE)
    scale = len(BODIES) / organs
    share = float((np.max(probs, axis=(0, 1)) > 0.01).mean())
    print(f"{grid.shape} voxels; some p > 0.01 in {share:.1%} of them")

    attention_sizes(probs, grid.voxel_ml)  # compiled or from the cache, not timed
    figures["sizes_s"] = fastest(lambda: attention_sizes(probs, grid.voxel_ml))
    whole_s = fastest(lambda: salient_regions(probs, grid, heat=True))
    figures["regions_and_heat_s"] = whole_s
    figures["peer_engine_s"] = fastest(lambda: peer_in_memory(probs, organs), 1) * scale
    figures["speedup_engine"] = figures["peer_engine_s"] / whole_s

    eighth = np.ascontiguousarray(probs[:, :, ::2, ::2, ::2])
    small = Grid(eighth.shape[2:], AFFINE)
    eighth_s = fastest(lambda: salient_regions(eighth, small, heat=True), 5)
    figures["growth_exponent"] = math.log(whole_s / eighth_s, probs.size / eighth.size)

    stored = folder / "codes.at81"
    stored.write_bytes(pack_codes(quantise(probs), grid))
    print(f"stored form {stored.stat().st_size / 1e6:.0f} MB")
    for name in ("published", "out", "ours"):
        (folder / name).mkdir()
    cold("--ours", stored, folder / "ours")  # the cache of machine code, once a machine
    runs = [first_and_again(*cold("--ours", stored, folder / "ours")) for _ in range(3)]
    figures["end_to_end_s"] = min(first for first, _ in runs)
    figures["end_to_end_warm_s"] = min(again for _, again in runs)
    store_for_peer(probs, folder / "published", organs)
    peer_s, own_s = cold("--peer", folder / "published", folder / "out", organs)
    figures["peer_end_to_end_s"] = peer_s * scale
    figures["speedup_end_to_end"] = figures["peer_end_to_end_s"] / figures["end_to_end_s"]
    warm = float(own_s) * scale / figures["end_to_end_warm_s"]
    figures["speedup_end_to_end_warm"] = warm

    np.save(folder / "probs.npy", probs)
    figures["peak_extra_gb"] = float(cold("--peak", folder / "probs.npy")[1])
    return figures


def measure_dense(probs: np.ndarray) -> dict[str, float]:
    """Figures of the volume in which there is nothing to leave out."""
    voxel_ml = Grid(probs.shape[2:], AFFINE).voxel_ml
    codes = quantise(probs)
    seconds = fastest(lambda: attention_sizes(probs, voxel_ml))
    codes_s = fastest(lambda: attention_sizes(codes, voxel_ml))
    read_s = reading_seconds(probs)
    return {
        "dense_sizes_s": seconds,
        "reading_gb_per_s": probs.nbytes / read_s / 1e9,
        "bandwidth_fraction": read_s / seconds,
        "bandwidth_fraction_codes": reading_seconds(codes.codes) / codes_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of every axis")
    parser.add_argument("--peer-organs", type=int, default=9, help="measured, then scaled to 9")
    for role in ("--ours", "--peer", "--peak"):
        parser.add_argument(role, nargs="+", help=argparse.SUPPRESS)
    options = parse(parser, {"scale": 0.12, "peer_organs": 2})
    if options.ours:
        stored, out = map(Path, options.ours)
        times = [fastest(lambda: ours(stored, out), 1) for _ in range(4)]
        print(times[0], min(times[1:]), *times[1:])
    elif options.peer:
        stored, out = map(Path, options.peer[:2])
        # All organs are alike: its second time differs by the imports alone.
        print(fastest(lambda: peer(stored, out, int(options.peer[2])), 1))
    elif options.peak:
        peak(Path(options.peak[0]))
    else:
        shape = tuple(max(16, round(n * options.scale)) for n in SHAPE)
        with tempfile.TemporaryDirectory() as folder:
            figures = measure_predictions(
                like_predictions(shape), options.peer_organs, Path(folder)
            )
        figures |= measure_dense(dense(shape))
        for name, value in figures.items():
            print(f"{name:28s}{value:12.3f}")
        report("attention_speed", figures, options)


if __name__ == "__main__":
    main()
