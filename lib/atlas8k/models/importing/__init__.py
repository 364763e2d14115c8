"""Import published weights of other projects as checkpoints of this one.

::

    imported = import_weights(Path("supervised_suprem_unet_2100.pth"), "unet")
    ModelStore(models).add_imported(imported.checkpoint)

Every tensor of a file is accounted for by name, or the file is refused with a list.
Nothing in it is run. What comes out is an ordinary checkpoint: safetensors, with the
preprocessing it needs and the sha256 of what it was made from. torch is imported where a
file is read, so that a wrong path is refused without it.
"""

from __future__ import annotations

from pathlib import Path

from atlas8k.core.errors import CheckpointError
from atlas8k.models.importing.import_options import Imported, Options, OrientationUnknownError

__all__ = [
    "KINDS",
    "Imported",
    "Options",
    "OrientationUnknownError",
    "import_weights",
]

KINDS = ("unet", "swin_unetr", "segresnet", "nnunet", "bundle")


def import_weights(path: Path, kind: str | None = None, options: Options | None = None) -> Imported:
    """Import a published network.

    Parameters
    ----------
    path
        A ``.pth`` of SuPreM or the CLIP-driven universal model, an nnU-Net v2 results
        folder, or a MONAI bundle's folder.
    kind
        One of :data:`KINDS`; ``None``: decided by the path and its content.
    options
        Facts that the file does not state.

    Raises
    ------
    CheckpointError
        Names the file and what is wrong with it.
    """
    options = options or Options()
    if not path.exists():
        raise CheckpointError(path, "no such file or folder")
    if kind is not None and kind not in KINDS:
        raise CheckpointError(path, f"kind {kind!r} is not one of {', '.join(KINDS)}")
    from atlas8k.models.importing.bundle import import_bundle, is_bundle
    from atlas8k.models.importing.nnunet import import_nnunet, is_results
    from atlas8k.models.importing.published import FIRST, import_published
    from atlas8k.models.importing.source import Source

    if kind == "nnunet" or (kind is None and is_results(path)):
        return import_nnunet(path, options)
    if path.is_dir():
        if kind in (None, "bundle") or is_bundle(path):
            return import_bundle(path, options)
        raise CheckpointError(path, f"is a folder; give the file of the {kind}'s weights")
    if kind == "bundle":
        raise CheckpointError(path, "is a file; give the bundle's folder")
    source = Source(path)
    for known, key in FIRST.items():
        if kind is None and any(name.endswith(key) for name in source.state):
            kind = known
    if kind is None:
        raise CheckpointError(
            path, f"is none that is known by its tensors' names; say --as, {', '.join(KINDS)}"
        )
    return import_published(source, kind, options)
