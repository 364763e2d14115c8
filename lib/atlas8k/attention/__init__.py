"""The attention map (Eq. 1 to 4), its salient regions and where to look.

Array code: no torch, no files. The fast kernels are compiled by numba on first use and
kept in numba's cache; importing this package compiles nothing and loads no numba.

- :mod:`.equations`: the four equations in plain numpy, the reference.
- :func:`attention_sizes`: their sums by organ, in ml.
- :func:`salient_regions`: sizes, salient masks and regions in one pass.
- :func:`explanation`: where to look, in the CT's own index.
- :class:`Quantised`: probabilities as bytes.
- :mod:`.places`: the few places that a person is shown.
- :mod:`.quality_model`: predicted Dice and wrong volume, fitted by :mod:`.quality_fit`.

Volumes are ranked by sums in ml over the working grid, so that thin slices do not rank
higher, by organ, in one of these published ways:

``eq4``
    The paper's: the sum of Eq. 4, :attr:`AttentionSizes.attention_ml`.
``salient``
    ``create_attention.py`` of the reference code: the volume of the voxels that are
    salient in inconsistency, uncertainty or overlap, :attr:`Salient.salient_ml`. There it
    counts only organs that the source dataset did not label.
``per_slice``
    ``calculate_attention.py``: :meth:`AttentionSizes.per_slice_ml`.
``pairwise_dice``
    1 less the mean Dice over pairs of networks, and over the organs that any of them found:
    :func:`pairwise_dice`, the strong baseline of Zenk et al., Medical Image Analysis 2025.
``epistemic_sum``
    Entropy of the networks' mean, summed: :attr:`AttentionSizes.mean_entropy_ml`. MONAI
    Label's epistemic score divides it by the CT's voxels, so that a CT of the whole trunk
    ranks low for its size alone; the sum does not.
``expected_error``
    The wrong volume to be expected, :attr:`.quality_model.Predicted.wrong_ml`.
"""

from atlas8k.attention.disagreement import pairwise_dice
from atlas8k.attention.explain import explanation
from atlas8k.attention.probabilities import Quantised
from atlas8k.attention.regions import Region
from atlas8k.attention.salient import Salient, SalientSettings, salient_regions
from atlas8k.attention.sizes import AttentionSizes, attention_sizes

__all__ = [
    "AttentionSizes",
    "Quantised",
    "Region",
    "Salient",
    "SalientSettings",
    "attention_sizes",
    "explanation",
    "pairwise_dice",
    "salient_regions",
]
