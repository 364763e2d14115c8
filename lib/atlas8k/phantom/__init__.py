"""Synthetic abdominal CTs with known truth."""

from atlas8k.phantom.dataset import Written, iter_set, labels_beside, write_set
from atlas8k.phantom.generate import exact_label, generate, slice_thickness
from atlas8k.phantom.setting import (
    SHIFTED,
    STANDARD,
    WIDE,
    Phantom,
    PhantomCase,
    Setting,
    between,
    mix_setting,
)

__all__ = [
    "SHIFTED",
    "STANDARD",
    "WIDE",
    "Phantom",
    "PhantomCase",
    "Setting",
    "Written",
    "between",
    "exact_label",
    "generate",
    "iter_set",
    "labels_beside",
    "mix_setting",
    "slice_thickness",
    "write_set",
]
