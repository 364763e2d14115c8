"""NSD of nine organs on 512x512x300, beside surface-distance and MONAI on the same maps.

Truth: a phantom's organs on that grid. Prediction: the same organs under a smooth warp of
up to 2 mm, as a good network differs from its truth. Each side runs in a process of its own
and is timed from label maps in memory to nine numbers, after one call on a small pair
(compilation, imports). The peers get what is best for them: one mask an organ, cropped by
their own means. ``peak_gb`` is the whole peak memory of our process, label maps included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
import warnings

import numpy as np
from _quick import parse, report

from abdomen_phantom import generate
from atlas8k.core.structures import ORGANS

SPACING = (0.75, 0.75, 1.25)
TOLERANCE_MM = 1.0
BYTES_PER_RSS_UNIT = 1024


def label_maps(shape: tuple[int, int, int], painted_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Truth and warped prediction, ``shape`` uint8, of a phantom painted that finely."""
    source = generate(3, grid_spacing_mm=painted_mm).label.array
    axes = [np.linspace(0, n - 1, m) for n, m in zip(source.shape, shape, strict=True)]
    nearest = [np.rint(axis).astype(np.int32) for axis in axes]
    truth = source[np.ix_(*nearest)]
    warp = [
        np.clip(np.rint(axis + 1.0 * np.sin(axis / 11.0 + n)), 0, size - 1).astype(np.int32)
        for n, (axis, size) in enumerate(zip(axes, source.shape, strict=True))
    ]
    return truth, source[np.ix_(*warp)]


def ours(pred: np.ndarray, truth: np.ndarray) -> list[float]:
    from atlas8k.metrics.surface import nsd

    return nsd(pred, truth, SPACING, TOLERANCE_MM).tolist()


def surface_distance(pred: np.ndarray, truth: np.ndarray) -> list[float]:
    import surface_distance as package

    values = []
    for organ in range(1, len(ORGANS) + 1):
        distances = package.compute_surface_distances(truth == organ, pred == organ, SPACING)
        values.append(package.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM))
    return values


def monai(pred: np.ndarray, truth: np.ndarray) -> list[float]:
    import torch
    from monai.metrics import compute_surface_dice

    values = []
    for organ in range(1, len(ORGANS) + 1):
        value = compute_surface_dice(
            torch.from_numpy(pred == organ)[None, None],
            torch.from_numpy(truth == organ)[None, None],
            [TOLERANCE_MM],
            include_background=True,
            spacing=SPACING,
            use_subvoxels=True,
        )
        values.append(float(value))
    return values


def measure(
    name: str, shape: tuple[int, int, int], repeats: int, painted_mm: float
) -> dict[str, object]:
    """Best time of ``repeats``, the values and this process's peak memory."""
    warnings.simplefilter("ignore")
    side = {"ours": ours, "surface_distance": surface_distance, "monai": monai}[name]
    pred, truth = label_maps(shape, painted_mm)
    small = np.zeros((12, 12, 12), np.uint8)
    small[3:8, 3:8, 3:8] = 1
    side(small, small)
    seconds, values = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        values = side(pred, truth)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_RSS_UNIT / 1e9
    return {"seconds": min(seconds), "values": values, "peak_gb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--repeats", type=int, default=3, help="runs of ours; peers run once")
    parser.add_argument("--painted-mm", type=float, default=2.0, help="voxels of the phantom")
    options = parse(parser, {"shape": (60, 60, 48), "repeats": 1, "painted_mm": 6.0})
    shape = tuple(options.shape)
    results = {}
    for name in ("ours", "surface_distance", "monai"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            repeats = options.repeats if name == "ours" else 1
            results[name] = pool.apply(measure, (name, shape, repeats, options.painted_mm))
        got = results[name]
        print(f"{name}: {got['seconds']:.2f} s, peak {got['peak_gb']:.2f} GB")
        print("  NSD " + " ".join(f"{value:.4f}" for value in got["values"]))
    peers = [results[name]["seconds"] for name in ("surface_distance", "monai")]
    difference = np.abs(
        np.array(results["ours"]["values"]) - np.array(results["surface_distance"]["values"])
    )
    figures = {
        "speedup": min(peers) / results["ours"]["seconds"],
        "speedup_surface_distance": peers[0] / results["ours"]["seconds"],
        "speedup_monai": peers[1] / results["ours"]["seconds"],
        "peak_gb": results["ours"]["peak_gb"],
        "peak_gb_surface_distance": results["surface_distance"]["peak_gb"],
        "max_difference": float(np.nanmax(difference)),
        "seconds": results["ours"]["seconds"],
    }
    report("nsd_speed", figures, options)


if __name__ == "__main__":
    main()
