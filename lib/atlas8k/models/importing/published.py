"""Import SuPreM and CLIP-driven universal checkpoints: U-Net, Swin UNETR and SegResNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from atlas8k.core.errors import CheckpointError
from atlas8k.models.checkpoint import Checkpoint
from atlas8k.models.importing.import_options import Imported, Options, origin
from atlas8k.models.importing.source import (
    ExpectedTensor,
    Outputs,
    Source,
    choose_outputs,
    expected_tensors,
    match_tensors,
)
from atlas8k.models.networks import OLDER
from atlas8k.models.preprocess import Preprocessing

BACKBONE = "backbone."
HEAD = ("controller.", "GAP.", "precls_conv.", "organ_embedding", "text_to_vision.")
FIRST = {
    "unet": "down_tr64.ops.0.conv1.weight",
    "swin_unetr": "swinViT.patch_embed.proj.weight",
    "segresnet": "convInit.conv.weight",
}
"""Name of the first convolution, whose number of outputs is the network's width."""
WIDTHS = {"unet": 32, "swin_unetr": 48, "segresnet": 16}
LAST = {
    "unet": "out_tr.final_conv.weight",
    "swin_unetr": "out.conv.conv.weight",
    "segresnet": "conv_final.2.conv.weight",
}


def import_published(source: Source, kind: str, options: Options) -> Imported:
    """Import a checkpoint of ``unet``, ``swin_unetr`` or ``segresnet`` kind.

    It predicts on 1.5 mm, -175 to 250 HU, windows of 96 voxels, as these were trained.

    Raises
    ------
    CheckpointError
        Names what is missing, unexpected or of another shape; or says that the file is a
        backbone without an output layer.
    """
    state = source.state
    if kind != "segresnet" and any(key.startswith(HEAD) for key in state):
        architecture, table, used = _universal(source, kind, options)
    else:
        if all(key.startswith(BACKBONE) for key in state):
            state = {key.removeprefix(BACKBONE): tensor for key, tensor in state.items()}
        architecture, table, used = _plain(source, state, kind, options)
    matched = match_tensors(source.path, f"{kind} of this layout", state, table)
    checkpoint = Checkpoint(
        name=options.name or kind,
        architecture=architecture,
        activation=used.activation,
        preprocessing=Preprocessing(orientation=options.orientation or "RAS"),
        organs=used.organs,
        origin=origin(kind, source.path.name, source.sha256, len(table), classes=list(used.names)),
        state=matched,
    )
    return Imported(checkpoint, len(table), used.left_out)


def _universal(
    source: Source, kind: str, options: Options
) -> tuple[dict[str, Any], dict[str, ExpectedTensor], Outputs]:
    """Describe a universal model, its class embedding cut to the rows of our organs.

    Other classes' rows do not change these organs' outputs.
    """
    state = source.state
    key = next((k for k in ("organ_embedding", "organ_embedding.weight") if k in state), None)
    encoding = "rand_embedding" if key == "organ_embedding.weight" else "word_embedding"
    classes = state[key].shape[0] if key is not None and state[key].ndim else 32
    used = choose_outputs(source.path, classes, options.classes, "sigmoid")
    rows = torch.tensor(used.rows)
    architecture = {
        "name": "universal",
        "backbone": kind,
        "encoding": encoding,
        "width": _width(state, kind, BACKBONE),
        "out_channels": len(used.organs),
    }
    table = _with_statistics(expected_tensors(architecture))
    name = key or "organ_embedding"
    width = table[name].shape[1]
    table[name] = ExpectedTensor((classes, width), name, lambda tensor: tensor[rows].clone())
    return architecture, table, used


def _plain(
    source: Source, state: Mapping[str, torch.Tensor], kind: str, options: Options
) -> tuple[dict[str, Any], dict[str, ExpectedTensor], Outputs]:
    last = LAST[kind]
    if kind != "segresnet" and last not in state and FIRST[kind] in state:
        raise CheckpointError(
            source.path,
            f"holds a {kind} without an output layer ({last} and the universal head are missing): "
            "a start for training, it segments nothing",
        )
    channels = state[last].shape[0] if last in state and state[last].ndim else 32
    used = choose_outputs(source.path, channels, options.classes)
    if kind == "unet":
        architecture = {"name": "suprem_unet", "width": _width(state, kind)}
    elif kind == "swin_unetr":
        architecture = {
            "name": kind,
            "feature_size": _width(state, kind),
            "downsample": options.patch_merging or OLDER,
        }
    else:
        architecture = {
            "name": kind,
            "init_filters": _width(state, kind),
            "blocks_down": [1, 2, 2, 4],
            "blocks_up": [1, 1, 1],
        }
    architecture.update(used.architecture())
    table = expected_tensors(architecture)
    return architecture, _with_statistics(table) if kind == "unet" else table, used


def _width(state: Mapping[str, torch.Tensor], kind: str, prefix: str = "") -> int:
    tensor = state.get(prefix + FIRST[kind])
    usable = tensor is not None and tensor.ndim == 5 and tensor.shape[0] % 4 == 0
    return int(tensor.shape[0]) if tensor is not None and usable else WIDTHS[kind]


def _with_statistics(table: Mapping[str, ExpectedTensor]) -> dict[str, ExpectedTensor]:
    """Add the reference U-Net's running statistics, which files hold and nothing uses."""
    complete = dict(table)
    for key, want in table.items():
        if key.endswith("bn1.weight"):
            stem = key.removesuffix("weight")
            complete[stem + "running_mean"] = complete[stem + "running_var"] = ExpectedTensor(
                want.shape
            )
            complete[stem + "num_batches_tracked"] = ExpectedTensor(())
    return complete
