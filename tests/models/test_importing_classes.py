"""Classes as nnU-Net's dataset.json names them, in either direction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atlas8k.core.errors import CheckpointError
from atlas8k.models.importing.nnunet_plans import class_names

THREE = ("background", "liver", "spleen")


@pytest.mark.parametrize(
    ("labels", "due"),
    [
        ({"background": 0, "liver": 1, "spleen": 2}, (THREE, "softmax")),
        ({"0": "background", "1": "liver", "2": "spleen"}, (THREE, "softmax")),
        ({"2": "spleen", "0": "background", "1": "liver"}, (THREE, "softmax")),
        ({"background": "0", "spleen": "2", "liver": "1"}, (THREE, "softmax")),
        ({"background": [0], "liver": [1], "spleen": [2]}, (THREE, "softmax")),
        ({"background": 0, "liver": 1, "spleen": 2, "ignore": 3}, (THREE, "softmax")),
        ({"0": "background", "1": "liver", "2": "spleen", "3": "ignore"}, (THREE, "softmax")),
        ({"background": 0, "whole": [1, 2], "liver": [1]}, (("whole", "liver"), "sigmoid")),
    ],
)
def test_labels_in_either_direction(labels: dict[str, Any], due: tuple[Any, str]) -> None:
    assert class_names(Path("dataset.json"), {"labels": labels}) == due


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        (None, "names no labels"),
        (["background", "liver"], "names no labels"),
        ({"liver": 1}, "names no labels"),
        ({"liver": 1, "spleen": 2}, "no background 0"),
        ({"1": "liver", "2": "spleen"}, "no background 0"),
        ({"background": 0, "liver": "one"}, "not of the form"),
        ({"background": 0, "liver": None}, "not of the form"),
        ({"background": 0, "liver": []}, "not of the form"),
        ({"background": 0, "1": "liver"}, "not of the form"),
        ({"background": 0, "liver": 1, "spleen": 1}, "one number"),
        ({"0": "background", "1": "liver", "2": "liver"}, "one name"),
    ],
)
def test_labels_that_say_nothing_are_refused_by_name(labels: Any, word: str) -> None:
    with pytest.raises(CheckpointError, match=rf"dataset\.json: .*{word}"):
        class_names(Path("dataset.json"), {"labels": labels})
