"""Import nnU-Net v2 results folders: plain networks as DynUNet, others as nnU-Net's classes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from atlas8k.models.checkpoint import Checkpoint
from atlas8k.models.importing.import_options import Imported, Options, origin
from atlas8k.models.importing.nnunet_plans import (
    DATASET,
    PLANS,
    axis_order,
    check_same_training,
    class_names,
    combined_sha256,
    configuration,
    find_results,
    is_results,
    read_architecture,
    read_preprocessing,
)
from atlas8k.models.importing.orientation import orientation_of_plans
from atlas8k.models.importing.source import (
    Change,
    ExpectedTensor,
    Source,
    choose_outputs,
    expected_tensors,
    match_tensors,
    read_object,
)
from atlas8k.models.networks_published import NNUNET
from atlas8k.models.sets import file_sha256

__all__ = ["import_nnunet", "is_results"]

REPEATED = ("decoder.encoder.", ".all_modules.")
"""nnU-Net's modules hold layers under a second name; so does its state dict."""


def import_nnunet(path: Path, options: Options) -> Imported:
    """Import the network of a results folder.

    Parameters
    ----------
    path
        ``<trainer>__<plans>__<configuration>``, the data set's folder where it holds one
        such, or a checkpoint file in one.

    Raises
    ------
    CheckpointError
        Not such a folder, several folders or an unknown fold, a network that is not
        supported, or tensors that are not those of its plans. An
        :class:`~atlas8k.models.importing.import_options.OrientationUnknownError` where neither
        plans nor options state the orientation of the training volumes.
    """
    folder, files = find_results(path, options.folds)
    plans, dataset = read_object(folder / PLANS), read_object(folder / DATASET)
    sources = [Source(file) for file in files]
    source, file = sources[0], files[0]
    init_args = source.content.get("init_args")
    name = init_args.get("configuration") if isinstance(init_args, Mapping) else None
    name = name or folder.name.rpartition("__")[2]
    chosen = configuration(folder / PLANS, plans, name)
    order = axis_order(folder / PLANS, plans)
    plan = read_architecture(folder / PLANS, chosen, order)
    names, activation = class_names(folder / DATASET, dataset)
    last = f"decoder.seg_layers.{plan['n_stages'] - 2}.weight"
    head = source.state.get(last)
    channels = len(names) if head is None or not head.ndim else head.shape[0]
    used = choose_outputs(file, channels, options.classes or names, activation)
    bare = _as_dynunet(plan) or plan
    architecture = {**bare, **used.architecture()}
    own = _tensors(architecture, plan)
    if len(files) > 1:
        architecture["members"] = len(files)
    states = []
    for member in sources:
        table = _table(own, member.state, plan, order, channels)
        states.append(
            match_tensors(member.path, f"{NNUNET[plan['kind']]} of {PLANS}", member.state, table)
        )
        check_same_training(source, member)
    orientation = options.orientation or orientation_of_plans(folder / PLANS, path, plans)
    mirrored = source.content.get("inference_allowed_mirroring_axes")
    checkpoint = Checkpoint(
        name=options.name or "nnunet",
        architecture=architecture,
        activation=used.activation,
        preprocessing=read_preprocessing(folder / PLANS, plans, chosen, order, orientation),
        organs=used.organs,
        origin=origin(
            "nnunet",
            f"{folder.name}/{'+'.join(p.parent.name for p in files)}/{file.name}",
            source.sha256 if len(files) == 1 else combined_sha256(sources),
            len(table) * len(files),
            folds=[p.parent.name.removeprefix("fold_") for p in files],
            fold_sha256=[member.sha256 for member in sources],
            classes=list(used.names),
            dataset=str(plans.get("dataset_name", "")),
            plans_sha256=file_sha256(folder / PLANS),
            trainer=str(source.content.get("trainer_name", "")),
            configuration=name,
            mirroring_axes=_mirroring(mirrored, order),
        ),
        state=states[0]
        if len(states) == 1
        else {
            f"members.{i}.{key}": t for i, member in enumerate(states) for key, t in member.items()
        },
    )
    return Imported(checkpoint, len(table) * len(files), used.left_out)


def _as_dynunet(plan: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return DynUNet's architecture where it computes the same network, else None.

    A decoder stage of DynUNet has the kernel of the encoder stage below it, nnU-Net's
    that of its own; a smaller kernel fits into a larger one, padded with zeros.
    """
    kernels, strides = plan["kernel_sizes"], plan["strides"]
    fits = all(
        all(a <= b and a % 2 == b % 2 == 1 for a, b in zip(*pair, strict=True))
        for pair in pairwise(kernels)
    )
    twos = {*plan["n_per_stage"], *plan["n_conv_per_stage_decoder"]} == {2}
    usual = plan["negative_slope"] == 0.01 and set(strides[0]) == {1}
    if plan["kind"] != "plain" or not (twos and fits and usual and plan["n_stages"] >= 3):
        return None
    return {
        "name": "dynunet",
        "kernel_size": kernels,
        "strides": strides,
        "upsample_kernel_size": strides[1:],
        "filters": plan["features_per_stage"],
        "norm_name": ["INSTANCE", {"affine": True, "eps": plan["eps"]}],
        "trans_bias": plan["conv_bias"],
    }


def _tensors(architecture: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, ExpectedTensor]:
    """Return our tensor by nnU-Net's name, each once; shapes along x, y, z."""
    targets = expected_tensors(architecture)
    if architecture["name"] != "dynunet":
        return targets
    table = {}
    for key, (target, kernel) in _dynunet_names(plan).items():
        shape = targets[target].shape
        if kernel is not None and list(shape[2:]) != kernel:
            pad = partial(_padded, size=tuple(shape[2:]))
            table[key] = ExpectedTensor((*shape[:2], *kernel), target, pad)
        else:
            table[key] = ExpectedTensor(tuple(shape), target)
    return table


def _dynunet_names(plan: Mapping[str, Any]) -> dict[str, tuple[str, list[int] | None]]:
    """Return DynUNet's name by nnU-Net's, and the kernel of a convolution's weight."""
    n, kernels = plan["n_stages"], plan["kernel_sizes"]
    encoder = ["input_block", *(f"downsamples.{i}" for i in range(n - 2)), "bottleneck"]
    blocks = [(f"encoder.stages.{i}.0", encoder[i], kernels[i]) for i in range(n)] + [
        (f"decoder.stages.{i}", f"upsamples.{i}.conv_block", kernels[n - 2 - i])
        for i in range(n - 1)
    ]
    table: dict[str, tuple[str, list[int] | None]] = {}
    for theirs, ours, kernel in blocks:
        for j in (0, 1):
            stem = f"{theirs}.convs.{j}"
            table[f"{stem}.conv.weight"] = (f"{ours}.conv{j + 1}.conv.weight", kernel)
            for end in ("weight", "bias"):
                table[f"{stem}.norm.{end}"] = (f"{ours}.norm{j + 1}.{end}", None)
    for i in range(n - 1):
        for end in ("weight", "bias") if plan["conv_bias"] else ("weight",):
            table[f"decoder.transpconvs.{i}.{end}"] = (
                f"upsamples.{i}.transp_conv.conv.{end}",
                None,
            )
    for end in ("weight", "bias"):
        table[f"decoder.seg_layers.{n - 2}.{end}"] = (f"output_block.conv.conv.{end}", None)
    return table


def _table(
    own: Mapping[str, ExpectedTensor],
    tensors: Mapping[str, Any],
    plan: Mapping[str, Any],
    order: tuple[int, int, int],
    channels: int,
) -> dict[str, ExpectedTensor]:
    """Return the tensors that the file must have, in its axes, repeated and unused ones too."""
    back = [order.index(axis) for axis in range(3)]
    table: dict[str, ExpectedTensor] = {}
    for key, want in own.items():
        if len(want.shape) == 5:
            shape = (*want.shape[:2], *(want.shape[2 + axis] for axis in back))
            change: Change | None = partial(_turned, order=order, then=want.change)
            table[key] = ExpectedTensor(shape, want.target, change)
        else:
            table[key] = want
        if _as_dynunet(plan) and plan["conv_bias"] and key.endswith("conv.weight"):
            # An instance norm follows and takes any constant away: not needed.
            table[key.removesuffix("weight") + "bias"] = ExpectedTensor(want.shape[:1])
    for i, features in enumerate(reversed(plan["features_per_stage"][:-1])):
        # The heads of deep supervision; nnU-Net always builds them.
        table.setdefault(
            f"decoder.seg_layers.{i}.weight", ExpectedTensor((channels, features, 1, 1, 1))
        )
        table.setdefault(f"decoder.seg_layers.{i}.bias", ExpectedTensor((channels,)))
    for mark in REPEATED:
        if any(mark in key for key in tensors):
            table.update(
                {k: w for key in list(table) for k, w in _second_name(mark, key, table[key])}
            )
    return table


def _second_name(mark: str, key: str, want: ExpectedTensor) -> list[tuple[str, ExpectedTensor]]:
    """Return the second name of a tensor in nnU-Net's state dict, if it has one."""
    once = want.same_as or key
    if mark == REPEATED[0]:
        second = "decoder." + key if key.startswith("encoder.") else None
    else:
        stem, _, end = key.rpartition(".")
        stem, _, layer = stem.rpartition(".")
        position = {"conv": 0, "norm": 1}.get(layer)
        second = None if position is None else f"{stem}.all_modules.{position}.{end}"
    return [] if second is None else [(second, ExpectedTensor(want.shape, same_as=once))]


def _turned(
    tensor: torch.Tensor, *, order: tuple[int, int, int], then: Change | None
) -> torch.Tensor:
    turned = tensor.permute(0, 1, *(2 + axis for axis in order)).contiguous()
    return turned if then is None else then(turned)


def _padded(tensor: torch.Tensor, *, size: tuple[int, ...]) -> torch.Tensor:
    """Pad a convolution's kernel with zeros; it computes the same."""
    pads = [(n - k) // 2 for n, k in zip(size, tensor.shape[2:], strict=True)]
    return torch.nn.functional.pad(tensor, [p for pad in reversed(pads) for p in (pad, pad)])


def _mirroring(axes: Any, order: tuple[int, int, int]) -> list[int]:
    """Return the axes of R, A, S along which the network was trained with mirrored volumes."""
    if not isinstance(axes, list | tuple):
        return []
    return sorted(order.index(int(axis)) for axis in axes)
