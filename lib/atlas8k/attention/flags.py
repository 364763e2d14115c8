"""Bits and steps that the kernels write and the rest of the package reads."""

SALIENT_STD, SALIENT_ENTROPY, OVERLAP_OWN, OVERLAP_ANY = 1, 2, 4, 8
"""Bits of a voxel's flags."""

HEAT_STEPS = 128
"""Steps of the byte heat map from 0 to 1; Eq. 4 stays below 1.87, 240 of them."""
