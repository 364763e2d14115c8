"""Synthetic abdominal CTs with known truth."""

from atlas8k.phantom.dataset import Written, iter_set, labels_beside, write_set
from atlas8k.phantom.generate import Phantom, generate
from atlas8k.phantom.setting import SHIFTED, STANDARD, PhantomCase, Setting

__all__ = [
    "SHIFTED",
    "STANDARD",
    "Phantom",
    "PhantomCase",
    "Setting",
    "Written",
    "generate",
    "iter_set",
    "labels_beside",
    "write_set",
]
