"""Synthetic abdominal CTs with known truth."""

from atlas8k.phantom.dataset import write_set
from atlas8k.phantom.generate import exact_label, generate
from atlas8k.phantom.setting import (
    SHIFTED,
    STANDARD,
    WIDE,
    Phantom,
    Setting,
)

__all__ = [
    "SHIFTED",
    "STANDARD",
    "WIDE",
    "Phantom",
    "Setting",
    "exact_label",
    "generate",
    "write_set",
]
