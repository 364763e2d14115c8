"""Run sliding windows: from intensities of a whole volume to blended probabilities.

Positions and Gaussian weights are MONAI's, and without skipping the result is that of
:func:`monai.inferers.sliding_window_inference` (a test holds them together). What is
added: windows that hold only air are not run, and sums are held for one layer of
windows at a time, so memory does not grow with the length of the CT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, zip_longest
from math import ceil

import numpy as np
import numpy.typing as npt
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices

from atlas8k.core.grid_alignment import Box
from atlas8k.models.resources import map_in_order

Forward = Callable[[torch.Tensor], torch.Tensor]
"""Windows ``(B, 1, x, y, z)`` in 0..1 to logits ``(B, C, x, y, z)``, any float type."""


@dataclass(frozen=True)
class Tiling:
    """Positions of the windows over one volume.

    Attributes
    ----------
    padding
        Voxels added before and after each axis where the volume is smaller than the
        window.
    shape
        Shape of the padded volume.
    size
        Size of one window.
    layers
        ``(z start, [(x start, y start), ...])``, z ascending: the windows to run, in
        padded indices. Layers without a window to run are left out.
    """

    padding: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    shape: tuple[int, int, int]
    size: tuple[int, int, int]
    layers: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]

    @property
    def n_windows(self) -> int:
        """Number of windows to run."""
        return sum(len(positions) for _, positions in self.layers)


def tile(
    array: npt.NDArray[np.float32],
    size: tuple[int, int, int],
    overlap: float,
    keep: Box | None = None,
) -> Tiling:
    """Lay windows over a volume, without those that show only air.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` in 0..1, 0 = air.
    size
        Voxels of a window.
    overlap
        Fraction from 0 to below 1.
    keep
        Box of interest; a window is left out where its part of the box is all 0.
        ``None`` runs every window. Windows lie as they would over the whole volume, so
        what is left out changes nothing where the others are.
    """
    shape = array.shape
    padding, padded, interval = [], [], []
    for n, w in zip(shape, size, strict=True):
        lack = max(0, w - n)
        padding.append((lack // 2, lack - lack // 2))
        padded.append(n + lack)
        interval.append(w if w == n + lack else max(1, int(w * (1 - overlap))))
    starts = [
        tuple(int(s.start) for s in window) for window in dense_patch_slices(padded, size, interval)
    ]
    if keep is not None:
        starts = [start for start in starts if _shows_something(array, start, size, padding, keep)]
    starts.sort(key=lambda s: (s[2], s[0], s[1]))
    layers = tuple(
        (z, tuple((s[0], s[1]) for s in group))
        for z, group in groupby(starts, key=lambda start: start[2])
    )
    return Tiling(
        (padding[0], padding[1], padding[2]), (padded[0], padded[1], padded[2]), size, layers
    )


def sums_bytes(tiling: Tiling, channels: int) -> int:
    """Return the bytes of summing at its peak: sums, a finished layer, its probabilities."""
    x, y, _ = tiling.shape
    return 3 * (channels + 1) * x * y * tiling.size[2] * 4


def _shows_something(
    array: npt.NDArray[np.float32],
    start: tuple[int, ...],
    size: tuple[int, int, int],
    padding: list[tuple[int, int]],
    keep: Box,
) -> bool:
    inside = tuple(
        slice(max(s - before, box.start), max(0, min(s - before + w, box.stop)))
        for s, w, (before, _), box in zip(start, size, padding, keep, strict=True)
    )
    return bool(array[inside].any())


@torch.inference_mode()
def probabilities(
    forward: Forward,
    array: npt.NDArray[np.float32],
    tiling: Tiling,
    *,
    channels: int,
    softmax: bool,
    batch: int = 1,
    device: str | torch.device = "cpu",
    sums_on: str | torch.device | None = None,
    workers: int = 1,
    fill: float = 0.0,
) -> torch.Tensor:
    """Run the windows, blend their logits, and turn them into probabilities.

    Parameters
    ----------
    forward
        The network.
    array
        ``(X, Y, Z)`` float32 in 0..1, that ``tiling`` was made for.
    channels
        Number of channels of the network's output.
    softmax
        Softmax over the channels, the first of which is background and dropped;
        otherwise a sigmoid for each.
    batch
        Windows run at once.
    device
        Device of the network.
    sums_on
        Device on which logits are summed; `device` where ``None``.
    workers
        Batches at once, each on its share of this process's threads; they are summed in the
        same order.
    fill
        Value of the padding around a volume smaller than the window.

    Returns
    -------
    Tensor
        ``(organs, X, Y, Z)`` float16 on the CPU; 0 where no window was run.
    """
    (px, _), (py, _), (pz, _) = tiling.padding
    X, Y, Z = array.shape
    out = torch.zeros((channels - int(softmax), X, Y, Z), dtype=torch.float16)
    # Where the network is: windows that lie over each other are sent once, as one volume.
    image = torch.full(tiling.shape, fill, dtype=torch.float32, device=device)
    image[px : px + X, py : py + Y, pz : pz + Z] = torch.from_numpy(array)
    weight = compute_importance_map(tiling.size, mode="gaussian", device=sums_on or device)
    for z, stop, total, count in _layers(
        forward, image, weight, tiling, channels, batch, device, workers
    ):
        logits = total.div_(count.clamp_min(torch.finfo(torch.float32).tiny))
        probs = logits.softmax(dim=0)[1:] if softmax else logits.sigmoid_()
        probs *= count > 0  # no window, no organ: sigmoid(0) would be one half
        first, last = max(z - pz, 0), min(stop - pz, Z)
        part = probs[:, px : px + X, py : py + Y, first + pz - z : last + pz - z]
        out[..., first:last] = part.to(device="cpu", dtype=torch.float16)
    return out


def _layers(
    forward: Forward,
    image: torch.Tensor,
    weight: torch.Tensor,
    tiling: Tiling,
    channels: int,
    batch: int,
    device: str | torch.device,
    workers: int = 1,
) -> Iterator[tuple[int, int, torch.Tensor, torch.Tensor]]:
    """Yield finished slices ``[z, stop)``: weighted sum of logits and sum of weights.

    The sums are held where `weight` is, for the depth of one window, and moved on by one
    layer at a time.
    """
    x_size, y_size, depth = tiling.size
    total = torch.zeros((channels, *tiling.shape[:2], depth), device=weight.device)
    count = torch.zeros((*tiling.shape[:2], depth), device=weight.device)
    starts = [z for z, _ in tiling.layers]

    def run(part: tuple[int, tuple[tuple[int, int], ...]]) -> torch.Tensor:
        z, corners = part
        windows = torch.stack(
            [image[None, x : x + x_size, y : y + y_size, z : z + depth] for x, y in corners]
        )
        with torch.inference_mode():  # a thread has its own mode
            return forward(windows.to(device)).to(weight.device)

    parts = [
        (z, positions[i : i + batch])
        for z, positions in tiling.layers
        for i in range(0, len(positions), batch)
    ]
    with closing(map_in_order(run, parts, workers)) as finished:
        for (_, positions), following in zip_longest(tiling.layers, starts[1:]):
            for _ in range(ceil(len(positions) / batch)):
                (z, corners), results = next(finished)
                for (x, y), logits in zip(corners, results, strict=True):
                    where = (slice(x, x + x_size), slice(y, y + y_size))
                    total[:, where[0], where[1]].addcmul_(logits.float(), weight)
                    count[where] += weight
            done = depth if following is None else min(following - z, depth)
            yield z, z + done, total[..., :done].clone(), count[..., :done].clone()
            if done < depth:
                for sums in (total, count):
                    sums[..., : depth - done] = sums[..., done:].clone()
            for sums in (total, count):
                sums[..., depth - done :] = 0
