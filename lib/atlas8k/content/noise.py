"""Noise of a CT on its own grid."""

from __future__ import annotations

import numpy as np

from atlas8k.grid import Volume
from atlas8k.resampling import to_canonical

BLOCK_MM = 10.0
SLICES = 12
"""Planes looked at, evenly spaced, at most."""
SOFT_HU = (0.0, 200.0)
QUIETEST = 20.0
"""Per cent: of blocks of soft tissue the quietest fifth is homogeneous, the others hold edges."""
FEWEST = 30


def noise_hu(ct: Volume) -> float | None:
    """Return the standard deviation within homogeneous soft tissue, HU.

    Parameters
    ----------
    ct
        ``(X, Y, Z)``, HU, any orientation and spacing.

    Returns
    -------
    float or None
        20th percentile over blocks of 10 x 10 mm of axial planes whose mean is that of soft
        tissue; ``None`` where there are hardly any.
    """
    upright = to_canonical(ct)
    x, y, z = upright.array.shape
    n, m = (
        min(size, max(4, round(BLOCK_MM / mm)))
        for size, mm in zip((x, y), upright.grid.spacing, strict=False)
    )
    found = []
    for k in np.unique(np.linspace(0.1 * (z - 1), 0.9 * (z - 1), SLICES).round().astype(int)):
        plane = np.asarray(upright.array[: x // n * n, : y // m * m, k], np.float32)
        blocks = plane.reshape(x // n, n, y // m, m)
        mean = blocks.mean(axis=(1, 3))
        soft = (mean > SOFT_HU[0]) & (mean < SOFT_HU[1])
        found.append(blocks.transpose(0, 2, 1, 3)[soft].std(axis=(1, 2)))
    spread = np.concatenate(found)
    return float(np.percentile(spread, QUIETEST)) if len(spread) >= FEWEST else None
