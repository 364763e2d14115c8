"""Import MONAI bundles: folders with ``configs/`` and ``models/model.pt``.

The configuration is read as data: references are followed, expressions are never run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atlas8k.core.errors import CheckpointError
from atlas8k.models.checkpoint import Checkpoint
from atlas8k.models.importing.import_options import Imported, Options, origin
from atlas8k.models.importing.orientation import orientation_unknown
from atlas8k.models.importing.source import (
    Source,
    choose_outputs,
    expected_tensors,
    match_tensors,
    read_object,
)
from atlas8k.models.networks import FIXED, OLDER
from atlas8k.models.preprocess import Preprocessing

METADATA = Path("configs") / "metadata.json"
INFERENCE = ("inference.json", "inference.yaml", "inference.yml")
WEIGHTS = ("model.pt", "model.pth", "model.safetensors")
NETWORKS = {
    "UNet": "unet",
    "SwinUNETR": "swin_unetr",
    "SegResNet": "segresnet",
    "DynUNet": "dynunet",
}
MONAI_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "unet": {"norm": "INSTANCE"},
    "swin_unetr": {"downsample": "merging"},
    "segresnet": {},
    "dynunet": {"trans_bias": False},
}
"""Defaults of MONAI's classes, where this project's own are others."""
WITHOUT_EFFECT = {"img_size", "use_checkpoint", "spatial_dims", "in_channels", "out_channels"}
HARMLESS = {
    *("LoadImaged", "EnsureChannelFirstd", "AddChanneld", "EnsureTyped", "ToTensord"),
    *("CropForegroundd", "CastToTyped", "ToDeviced", "Orientationd", "Spacingd"),
    "ScaleIntensityRanged",
}
"""Transforms that this project applies itself, or that do not change a prediction."""


USUAL_LABELS = [["L", "R"], ["P", "A"], ["I", "S"]]
"""Of ``Orientationd``: what the letters of its ``axcodes`` mean."""


def is_bundle(path: Path) -> bool:
    """Return whether a folder is laid out as a bundle."""
    return (path / METADATA).is_file()


def import_bundle(path: Path, options: Options) -> Imported:
    """Import the network of a bundle.

    Raises
    ------
    CheckpointError
        Files are missing, the network or a transform is not supported, a value is an
        expression, or tensors are not those of the network.
    """
    metadata = read_object(path / METADATA)
    configs = [path / "configs" / name for name in INFERENCE]
    file = next((p for p in configs if p.is_file()), configs[0])
    config = read_object(file)
    weights = [path / "models" / name for name in WEIGHTS]
    source = Source(next((p for p in weights if p.is_file()), weights[0]))
    described = config.get("network_def", config.get("network"))
    name, arguments = _network(file, _resolved(file, config, described))
    if name == "swin_unetr" and arguments["downsample"] == "merging" and _before_1_5(metadata):
        arguments["downsample"] = OLDER
    if options.patch_merging is not None and name == "swin_unetr":
        arguments["downsample"] = options.patch_merging
    declared = _channels(metadata)
    channels = int(_resolved(file, config, described).get("out_channels", len(declared)))
    used = choose_outputs(file, channels, options.classes or declared or None, _activation(config))
    architecture = {"name": name, **arguments, **used.architecture()}
    table = expected_tensors(architecture)
    # A DynUNet's skip layers hold its blocks a second time.
    repeated = {k for k in source.state if k.startswith("skip_layers.")}
    tensors = {k: v for k, v in source.state.items() if k not in repeated}
    checkpoint = Checkpoint(
        name=options.name or path.resolve().name,
        architecture=architecture,
        activation=used.activation,
        preprocessing=_preprocessing(file, path, config, options),
        organs=used.organs,
        origin=origin(
            "bundle",
            f"{path.resolve().name}/models/{source.path.name}",
            source.sha256,
            len(table),
            classes=list(used.names),
            version=str(metadata.get("version", "")),
            monai_version=str(metadata.get("monai_version", "")),
        ),
        state=match_tensors(source.path, f"{name} of {file.name}", tensors, table),
    )
    return Imported(checkpoint, len(table) + len(repeated), used.left_out)


def _resolved(path: Path, config: Mapping[str, Any], value: Any, depth: int = 0) -> Any:
    """Return a value with its references (``@network_def``, ``@roi#size``) resolved."""
    if depth > 20:
        raise CheckpointError(path, "its references go round in a circle")
    if isinstance(value, Mapping):
        return {k: _resolved(path, config, v, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolved(path, config, v, depth + 1) for v in value]
    if isinstance(value, str) and value.startswith("@"):
        target: Any = config
        for part in value[1:].replace("::", "#").split("#"):
            try:
                target = target[int(part)] if isinstance(target, list) else target[part]
            except (KeyError, ValueError, IndexError, TypeError) as err:
                raise CheckpointError(path, f"refers to {value}, which is not there") from err
        return _resolved(path, config, target, depth + 1)
    if isinstance(value, str) and value.startswith("$"):
        raise CheckpointError(path, f"{value!r} is an expression; write its value in its place")
    return value


def _network(path: Path, described: Any) -> tuple[str, dict[str, Any]]:
    target = str(described.get("_target_", "")) if isinstance(described, Mapping) else ""
    name = NETWORKS.get(target.rpartition(".")[2])
    if name is None:
        raise CheckpointError(
            path, f"network {target!r} is not supported; known are {', '.join(NETWORKS)}"
        )
    for key, value in FIXED.items():
        if described.get(key, value) != value:
            raise CheckpointError(
                path, f"its network has {key} {described[key]}; {value} is needed"
            )
    arguments = {
        k: v for k, v in described.items() if not k.startswith("_") and k not in WITHOUT_EFFECT
    }
    return name, {**MONAI_DEFAULTS[name], **arguments}


def _before_1_5(metadata: Mapping[str, Any]) -> bool:
    parts = str(metadata.get("monai_version", "0")).split(".")
    numbers = [int("".join(c for c in part if c.isdigit()) or 0) for part in parts[:2]]
    return numbers < [1, 5]


def _channels(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        defined = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        return tuple(str(defined[key]) for key in sorted(defined, key=int))
    except (KeyError, TypeError, ValueError):
        return ()


def _steps(config: Mapping[str, Any], part: str) -> list[Mapping[str, Any]]:
    composed = config.get(part)
    steps = composed.get("transforms", []) if isinstance(composed, Mapping) else []
    return [s for s in steps if isinstance(s, Mapping) and s.get("_disabled_") is not True]


def _activation(config: Mapping[str, Any]) -> str | None:
    for step in _steps(config, "postprocessing"):
        for kind in ("softmax", "sigmoid"):
            if step.get(kind) is True:
                return kind
    return None


def _orientation(
    path: Path, bundle: Path, steps: Mapping[str, Mapping[str, Any]], options: Options
) -> str:
    """Return the directions of the axes its transforms turn a CT to, or the user's option."""
    if options.orientation is not None:
        return options.orientation
    step = steps.get("Orientationd")
    if step is None:
        raise orientation_unknown(path, bundle, "has no Orientationd: it uses a CT as it is stored")
    if step.get("labels", USUAL_LABELS) not in (None, USUAL_LABELS):
        raise orientation_unknown(
            path, bundle, f"names its directions by labels {step['labels']} of its own"
        )
    if step.get("as_closest_canonical") is True:
        return "RAS"
    return str(step["axcodes"])


def _preprocessing(
    path: Path, bundle: Path, config: Mapping[str, Any], options: Options
) -> Preprocessing:
    steps = {}
    for step in _steps(config, "preprocessing"):
        name = str(step.get("_target_", "")).rpartition(".")[2]
        if name not in HARMLESS:
            raise CheckpointError(
                path, f"prepares a CT with {name}; known are {', '.join(sorted(HARMLESS))}"
            )
        steps[name] = _resolved(path, config, {k: v for k, v in step.items() if k not in _IGNORED})
    try:
        scale = steps["ScaleIntensityRanged"]
        low, high = float(scale["a_min"]), float(scale["a_max"])
        b_low, b_high = float(scale.get("b_min", 0.0)), float(scale.get("b_max", 1.0))
        if scale.get("clip") is not True:
            raise ValueError("intensities are not clipped")
        deviation = (high - low) / (b_high - b_low)
        settings: dict[str, Any] = {
            "spacing_mm": _three(steps["Spacingd"]["pixdim"]),
            "hu_window": (low, high),
            "hu_scale": None
            if (b_low, b_high) == (0.0, 1.0)
            else (low - b_low * deviation, deviation),
            "orientation": _orientation(path, bundle, steps, options),
        }
        inferer = _resolved(path, config, {"_": config.get("inferer", {})})["_"]
        settings["window_size"] = _three(inferer["roi_size"])
        settings["overlap"] = float(inferer.get("overlap", 0.25))
        return Preprocessing(**settings)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as err:
        if isinstance(err, CheckpointError):
            raise
        raise CheckpointError(path, f"does not say how to prepare a CT ({err!r})") from err


_IGNORED = {"keys", "source_key", "device", "dtype", "mode", "allow_missing_keys"}


def _three(value: Any) -> Sequence[Any]:
    return [value] * 3 if isinstance(value, int | float) else list(value)
