"""Import MONAI without the packages that only its other parts use."""

from __future__ import annotations

import sys

NOT_FOR_PREDICTION = (
    "gdown",
    "ignite",
    "itk",
    "lmdb",
    "matplotlib",
    "mlflow",
    "pandas",
    "scipy.signal",
    "scipy.stats",
    "skimage",
    "sklearn",
    "tensorboard",
    "torchvision",
    "transformers",
)
"""Packages that MONAI uses where they are installed and can do without."""


def import_monai_for_prediction() -> None:
    """Import MONAI as if optional packages that no network needs were not installed.

    ``import monai`` loads every package that any part of it could use: 4.6 s of processor
    time, 1.2 s without these. For a process that predicts one CT and ends. Later imports
    of them work; MONAI's own functions that need them cannot, so a server, a training or
    a library must not call this. Does nothing where MONAI is imported already.
    """
    if "monai" in sys.modules:
        return
    # None reads as "not installed".
    hidden = [name for name in NOT_FOR_PREDICTION if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        import monai.networks.nets  # noqa: F401
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
