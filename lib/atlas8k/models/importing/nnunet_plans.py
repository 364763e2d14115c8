"""Read nnU-Net v2 results folders: folds, ``plans.json`` and ``dataset.json``.

Axes in the plans are those of nnU-Net's arrays (z, y, x, then ``transpose_forward``);
here they are put in the order x, y, z.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atlas8k.core.errors import CheckpointError
from atlas8k.models.importing.source import Source
from atlas8k.models.preprocess import Preprocessing

PLANS, DATASET = "plans.json", "dataset.json"
FILES = ("checkpoint_final.pth", "checkpoint_best.pth")
PLAIN, RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
EXPECTED: Mapping[str, tuple[Any, ...]] = {
    "conv_op": ("torch.nn.modules.conv.Conv3d", "torch.nn.Conv3d"),
    "norm_op": ("torch.nn.modules.instancenorm.InstanceNorm3d", "torch.nn.InstanceNorm3d"),
    "nonlin": ("torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU"),
    "dropout_op": (None,),
    "dropout_op_kwargs": (None, {}),
    "deep_supervision": (True, False),
    "nonlin_first": (False,),
}
"""Values that nnU-Net's planners write; others belong to other networks."""
ARGUMENTS = {
    *("n_stages", "features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage"),
    *("n_blocks_per_stage", "n_conv_per_stage_decoder", "conv_bias", "norm_op_kwargs"),
    "nonlin_kwargs",
}


def configuration(path: Path, plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a configuration, with the values it inherits.

    Raises
    ------
    CheckpointError
        It is missing, inherits in a circle, or is not one 3D network by itself.
    """
    chain, current = [], name
    known = plans.get("configurations", {})
    while True:
        if current not in known or current in chain:
            raise CheckpointError(
                path, f"has no complete configuration {current!r}; it has {', '.join(known)}"
            )
        chain.append(current)
        if "inherits_from" not in known[current]:
            break
        current = known[current]["inherits_from"]
    merged: dict[str, Any] = {}
    for link in reversed(chain):
        merged.update(known[link])
    if len(merged.get("patch_size", ())) != 3:
        raise CheckpointError(path, f"configuration {name!r} is not 3D; bring a 3d_fullres one")
    if merged.get("previous_stage"):
        raise CheckpointError(
            path,
            f"configuration {name!r} refines the output of {merged['previous_stage']!r}; bring "
            "3d_fullres or 3d_lowres, which work by themselves",
        )
    return merged


def axis_order(path: Path, plans: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the axes of nnU-Net's arrays that are x, y, z here.

    Raises
    ------
    CheckpointError
        The plans name no order of three axes.
    """
    forward = tuple(plans.get("transpose_forward", (0, 1, 2)))
    if sorted(forward) != [0, 1, 2]:
        raise CheckpointError(path, f"transpose_forward {list(forward)} is no order of three axes")
    return forward.index(2), forward.index(1), forward.index(0)


def read_architecture(
    path: Path, chosen: Mapping[str, Any], order: tuple[int, int, int]
) -> dict[str, Any]:
    """Return the architecture of a configuration, in either form that nnU-Net v2 has written.

    Parameters
    ----------
    order
        As :func:`axis_order` gives it.

    Returns
    -------
    dict
        Arguments of :func:`~atlas8k.models.networks_published.nnunet_network` but the output
        channels; kernels and strides along x, y, z.

    Raises
    ------
    CheckpointError
        Names what is not supported.
    """
    try:
        name, arguments = _arguments(path, chosen)
        stages = int(arguments["n_stages"])
        counted = "n_conv_per_stage" if name == PLAIN else "n_blocks_per_stage"
        norm = dict(arguments.get("norm_op_kwargs") or {})
        if not norm.pop("affine", False):
            raise CheckpointError(path, "its instance norm has no weights, unlike nnU-Net's")
        slope = (arguments.get("nonlin_kwargs") or {}).get("negative_slope", 0.01)
        return {
            "name": "nnunetv2",
            "kind": "plain" if name == PLAIN else "residual",
            "n_stages": stages,
            "features_per_stage": _each(arguments["features_per_stage"], stages),
            "kernel_sizes": _axes(arguments["kernel_sizes"], stages, order),
            "strides": _axes(arguments["strides"], stages, order),
            "n_per_stage": _each(arguments[counted], stages),
            "n_conv_per_stage_decoder": _each(arguments["n_conv_per_stage_decoder"], stages - 1),
            "conv_bias": bool(arguments.get("conv_bias", False)),
            "eps": float(norm.get("eps", 1e-5)),
            "negative_slope": float(slope),
        }
    except (KeyError, TypeError, ValueError, IndexError) as err:
        if isinstance(err, CheckpointError):
            raise
        raise CheckpointError(path, f"describes no network of nnU-Net v2 ({err!r})") from err


def _arguments(path: Path, chosen: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if "architecture" in chosen:
        described = chosen["architecture"]
        name = str(described["network_class_name"]).rpartition(".")[2]
        arguments = dict(described["arch_kwargs"])
    else:  # plans of nnU-Net 2.0 to 2.3
        name = str(chosen["UNet_class_name"])
        counts = list(chosen["n_conv_per_stage_encoder"])
        base, most = chosen["UNet_base_num_features"], chosen["unet_max_num_features"]
        arguments = {
            "n_stages": len(counts),
            "features_per_stage": [min(base * 2**i, most) for i in range(len(counts))],
            "kernel_sizes": chosen["conv_kernel_sizes"],
            "strides": chosen["pool_op_kernel_sizes"],
            "n_conv_per_stage": counts,
            "n_blocks_per_stage": counts,
            "n_conv_per_stage_decoder": chosen["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        }
    if name not in (PLAIN, RESIDUAL):
        raise CheckpointError(path, f"network {name!r}; {PLAIN} and {RESIDUAL} are supported")
    for key, value in arguments.items():
        if key in EXPECTED and value not in EXPECTED[key]:
            raise CheckpointError(path, f"{key} {value!r} of its network is not supported")
        if key not in EXPECTED and key not in ARGUMENTS:
            raise CheckpointError(path, f"argument {key!r} of its network is not supported")
    return name, arguments


def _each(value: Any, n: int) -> list[int]:
    values = [value] * n if isinstance(value, int) else list(value)
    if len(values) != n:
        raise ValueError(f"{value} for {n} stages")
    return [int(v) for v in values]


def _axes(value: Any, n: int, order: Sequence[int]) -> list[list[int]]:
    values = [value] * n if isinstance(value, int) else list(value)
    if len(values) != n:
        raise ValueError(f"{value} for {n} stages")
    each = [[v] * 3 if isinstance(v, int) else list(v) for v in values]
    return [[int(v[axis]) for axis in order] for v in each]


def read_preprocessing(
    path: Path,
    plans: Mapping[str, Any],
    chosen: Mapping[str, Any],
    order: tuple[int, int, int],
    orientation: str,
) -> Preprocessing:
    """Return spacing, intensities and window of a configuration.

    Raises
    ------
    CheckpointError
        Not one CT channel, or a value that cannot be.
    """
    schemes = list(chosen.get("normalization_schemes", ()))
    if schemes != ["CTNormalization"]:
        raise CheckpointError(
            path, f"normalises {schemes}; one channel of CTNormalization is supported"
        )
    try:
        properties = plans["foreground_intensity_properties_per_channel"]["0"]
        spacing = [float(chosen["spacing"][axis]) for axis in order]
        size = [int(chosen["patch_size"][axis]) for axis in order]
        return Preprocessing(
            spacing_mm=(spacing[0], spacing[1], spacing[2]),
            hu_window=(properties["percentile_00_5"], properties["percentile_99_5"]),
            window_size=(size[0], size[1], size[2]),
            hu_scale=(properties["mean"], max(properties["std"], 1e-8)),
            orientation=orientation,
        )
    except (KeyError, TypeError, ValueError, IndexError) as err:
        raise CheckpointError(path, f"does not say how to prepare a CT ({err!r})") from err


def class_names(path: Path, dataset: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Return the names of the output channels, and the activation: regions have a sigmoid each.

    Raises
    ------
    CheckpointError
        There are no labels.
    """
    labels = dataset.get("labels")
    if not isinstance(labels, Mapping) or len(labels) < 2:
        raise CheckpointError(path, "names no labels")
    by_name = _by_name(labels)
    if len(by_name) < len(labels):
        raise CheckpointError(path, "two of its labels have one name")
    labels = {str(k): v for k, v in by_name.items() if k != "ignore"}
    if any(isinstance(value, list | tuple) and len(value) > 1 for value in labels.values()):
        return tuple(name for name, value in labels.items() if value not in (0, [0])), "sigmoid"
    try:
        values = {k: int(v[0] if isinstance(v, list | tuple) else v) for k, v in labels.items()}
    except (TypeError, ValueError, IndexError) as err:
        raise CheckpointError(
            path, f'its labels are not of the form {{"background": 0, "liver": 1}} ({err})'
        ) from err
    ordered = sorted(values, key=lambda name: values[name])
    if values[ordered[0]] != 0:
        raise CheckpointError(path, "its labels have no background 0")
    if len({*values.values()}) < len(values):
        raise CheckpointError(path, "two of its labels have one number")
    return ("background", *ordered[1:]), "softmax"


def _by_name(labels: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Turn labels that are written the other way round, as nnU-Net v1 did: number to name."""
    turned = all(str(key).isdecimal() for key in labels) and all(
        isinstance(value, str) and not value.isdecimal() for value in labels.values()
    )
    return {value: int(key) for key, value in labels.items()} if turned else labels


def is_results(path: Path) -> bool:
    """Return whether a path can be a results folder, or a file in one."""
    if path.is_dir():
        return (path / PLANS).is_file() or any(path.glob(f"*/{PLANS}"))
    return (path.parent.parent / PLANS).is_file()


def find_results(path: Path, folds: Sequence[str] | None) -> tuple[Path, list[Path]]:
    """Find the results folder, and the checkpoints of the chosen folds.

    Parameters
    ----------
    path
        The folder, the data set's folder where it holds one such, or a checkpoint in it.
    folds
        Names of the folds; ``None``: ``all`` where there is one, else every fold.

    Raises
    ------
    CheckpointError
        It is no such folder, or lacks a fold.
    """
    if path.is_file():
        if not (path.parent.parent / PLANS).is_file():
            raise CheckpointError(
                path, f"lies in no results folder: there is no {path.parent.parent / PLANS}"
            )
        return path.parent.parent, [path]
    folder = path
    if not (path / PLANS).is_file():
        inner = sorted(p.parent for p in path.glob(f"*/{PLANS}"))
        if len(inner) != 1:
            listing = ", ".join(p.name for p in inner) or "none"
            raise CheckpointError(
                path, f"is no nnU-Net results folder with {PLANS}; such folders in it: {listing}"
            )
        folder = inner[0]
    files = {
        p.name.removeprefix("fold_"): next(p / name for name in FILES if (p / name).is_file())
        for p in sorted(folder.glob("fold_*"))
        if any((p / name).is_file() for name in FILES)
    }
    chosen = list(dict.fromkeys(folds)) if folds else ["all"] if "all" in files else list(files)
    lacking = [fold for fold in chosen if fold not in files]
    if not files or lacking:
        raise CheckpointError(
            folder,
            f"has no {' or '.join(FILES)} in fold_{', fold_'.join(lacking) or '*'}; "
            f"folds with one: {', '.join(files) or 'none'}",
        )
    return folder, [files[fold] for fold in chosen]


def check_same_training(first: Source, other: Source) -> None:
    """Check that two folds are of one training.

    Raises
    ------
    CheckpointError
        Trainer or mirrored axes differ.
    """
    for key in ("trainer_name", "inference_allowed_mirroring_axes"):
        a, b = (
            tuple(v) if isinstance(v, list | tuple) else v
            for v in (first.content.get(key), other.content.get(key))
        )
        if a != b:
            raise CheckpointError(
                other.path, f"has {key} {b!r}, {first.path.parent.name} has {a!r}; bring one fold"
            )


def combined_sha256(sources: Sequence[Source]) -> str:
    """Return the sha256 of several files: that of their hashes, one a line."""
    lines = "".join(f"{source.sha256}\n" for source in sources)
    return hashlib.sha256(lines.encode()).hexdigest()
