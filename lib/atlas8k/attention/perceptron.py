"""A small fitted network, applied with numpy: standardise, layers with ReLU, one output each.

Fitted by scikit-learn where there are cases (:mod:`atlas8k.attention.quality_fit`) and stored as
plain numbers, so that nothing has to be unpickled and no library's version matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import AttentionError

Floats = npt.NDArray[np.float32]
DIGITS = 6
"""Digits kept of every number in a file."""


@dataclass(frozen=True, eq=False)
class Perceptron:
    """Layers in order, their input standardised.

    Attributes
    ----------
    mean, scale
        ``(inputs,)``; an input that is NaN counts as its mean.
    weights, biases
        ``(inputs, outputs)`` and ``(outputs,)`` of each layer.
    """

    mean: Floats
    scale: Floats
    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]

    def __call__(self, inputs: npt.NDArray[Any]) -> Floats:
        """Return the output layer's values, ``(n, outputs)`` of ``(n, inputs)``, no activation."""
        values = (np.asarray(inputs, dtype=np.float32) - self.mean) / self.scale
        np.nan_to_num(values, copy=False, nan=0.0)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = values @ weight + bias
            if layer < last:
                np.maximum(values, 0.0, out=values)
        return values

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        layers = zip(self.weights, self.biases, strict=True)
        return {
            "mean": _plain(self.mean),
            "scale": _plain(self.scale),
            "layers": [{"weight": _plain(w), "bias": _plain(b)} for w, b in layers],
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], inputs: int, name: str) -> Perceptron:
        """Return the network that :meth:`as_dict` gave.

        Raises
        ------
        AttentionError
            Shapes do not fit each other, or another number of inputs is expected; names the
            file.
        """
        try:
            mean, scale = (np.array(fields[key], np.float32) for key in ("mean", "scale"))
            layers = fields["layers"]
            weights = tuple(np.array(layer["weight"], np.float32) for layer in layers)
            biases = tuple(np.array(layer["bias"], np.float32) for layer in layers)
            width = inputs
            for weight, bias in zip(weights, biases, strict=True):
                if weight.shape != (width, len(bias)):
                    raise ValueError(f"a layer is {weight.shape} where {width} come in")
                width = len(bias)
            arrays = (mean, scale, *weights, *biases)
            if mean.shape != (inputs,) or scale.shape != (inputs,) or not weights:
                raise ValueError(f"it takes {mean.size} inputs, not {inputs}")
            if not all(np.isfinite(array).all() for array in arrays) or not (scale > 0).all():
                raise ValueError("a number is not finite, or a scale not positive")
        except (KeyError, TypeError, ValueError) as err:
            raise AttentionError(name, f"no fitted network ({err}); make it anew") from err
        return cls(mean, scale, weights, biases)


def _plain(array: npt.NDArray[Any]) -> Any:
    """Return nested lists with :data:`DIGITS` digits."""
    rounded = [float(f"{value:.{DIGITS}g}") for value in array.ravel()]
    return np.array(rounded, dtype=object).reshape(array.shape).tolist()
