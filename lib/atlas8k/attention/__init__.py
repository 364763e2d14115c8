"""The attention map (Eq. 1 to 4), its salient regions and the rankings made from it.

Array code: no torch, no files. The fast kernels are compiled by numba on first use and
kept in numba's cache; importing this package compiles nothing.
"""

from atlas8k.attention.sizes import AttentionSizes, attention_sizes

__all__ = ["AttentionSizes", "attention_sizes"]
