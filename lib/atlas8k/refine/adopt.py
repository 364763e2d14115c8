"""Take over what another program proposes of an organ, as far as strokes ask for it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from atlas8k.core.components import label_components
from atlas8k.refine.features import Mask
from atlas8k.refine.strokes import Label, Refined, Strokes, laid


def adopt(label: Label, proposed: Mask, organ: int, strokes: Strokes) -> Refined:
    """Return a label with an organ as it is proposed, about the strokes that contradict it.

    Strokes are as they were drawn, other organs keep their voxels but where a stroke says that
    one is this organ, and of what is proposed only changes that hang together with a contradicting
    stroke count: everything else stays as it was to the voxel.

    Parameters
    ----------
    label
        ``(X, Y, Z)`` uint8.
    proposed
        ``(X, Y, Z)`` bool, the organ.
    strokes
        In voxels of `label`, within it.
    """
    before = label == organ
    new = proposed.copy()
    new[tuple(strokes.inside.T)] = True
    new[tuple(strokes.outside.T)] = False
    wanted = laid(label, new, organ, strokes) == organ
    changed = wanted ^ before
    out = before.copy()
    if (found := ndimage.find_objects(changed.view(np.uint8))) and found[0] is not None:
        box = found[0]
        against = strokes.contradicting(label, organ)
        drawn = np.zeros(label.shape, dtype=bool)
        drawn[tuple(np.concatenate([against.inside, against.outside]).T)] = True
        pieces = label_components(changed[box], 6)
        asked = np.zeros(int(pieces.max()) + 1, dtype=bool)
        asked[np.unique(pieces[drawn[box]])] = True
        asked[0] = False
        out[box] ^= asked[pieces]
    made = laid(label, out, organ, strokes)
    added, removed = (int(np.count_nonzero(m)) for m in (out & ~before, before & ~out))
    return Refined(made, added, removed, predicted=True)
