"""Synthetic abdominal CTs with known truth."""

from abdomen_phantom.dataset import write_set
from abdomen_phantom.generate import exact_label, generate
from abdomen_phantom.setting import (
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
