"""3D Slicer's MONAI Label module, imported without Slicer: its own code over a pretend scene.

Only what is Slicer itself is pretended: every part of it that is not made here records
that it was used, so that a test can say what the module did to a segmentation.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

SOURCE = Path(sys.prefix) / "monailabel" / "plugins" / "slicer" / "MONAILabel"
PRETENDED = ("ctk", "qt", "SampleData", "sitkUtils", "vtk", "vtkSegmentationCore")


class Markup:
    """A node that Slicer made of one markup of a file."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields, self.name = fields, fields["name"]
        self.GetDisplayNode = MagicMock()

    def GetName(self) -> str:  # noqa: N802
        return str(self.name)

    def SetName(self, name: str) -> None:  # noqa: N802
        self.name = name


class Scene:
    """The markups of a scene."""

    def __init__(self) -> None:
        self.markups: list[Markup] = []

    def load(self, path: str) -> None:
        """As Slicer: every markup of the file, and an error where there is none."""
        found = json.loads(Path(path).read_text(encoding="utf-8"))["markups"]
        if not found:
            raise RuntimeError("node was not loaded")
        self.markups += [Markup(fields) for fields in found]

    def rois(self, kind: str) -> Any:
        assert kind == "vtkMRMLMarkupsROINode"
        nodes = [markup for markup in self.markups if markup.fields["type"] == "ROI"]
        found = MagicMock()
        found.GetNumberOfItems.return_value = len(nodes)
        found.GetItemAsObject.side_effect = nodes.__getitem__
        return found


def load(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> Any:
    """The module ``MONAILabel.py``; skips where the wheel has not brought it."""
    if not (SOURCE / "MONAILabel.py").is_file():
        pytest.skip(f"{SOURCE} is not there")
    slicer = MagicMock()
    slicer.util.loadMarkups.side_effect = scene.load
    slicer.util.settingsValue.return_value = False
    slicer.mrmlScene.GetNodesByClass.side_effect = scene.rois
    scripted = types.ModuleType("slicer.ScriptedLoadableModule")
    for name in ("", "Widget", "Logic", "Test"):
        setattr(scripted, f"ScriptedLoadableModule{name}", type(f"Module{name}", (), {}))
    helpers = types.ModuleType("slicer.util")
    helpers.VTKObservationMixin = type("Mixin", (), {})  # type: ignore[attr-defined]
    pretended = {name: MagicMock() for name in PRETENDED}
    pretended["ctk"].ctkSettingsPanel = pretended["qt"].QDialog = object
    for name, value in {
        **pretended,
        "slicer": slicer,
        "slicer.i18n": MagicMock(),
        "slicer.util": helpers,
        "slicer.ScriptedLoadableModule": scripted,
    }.items():
        monkeypatch.setitem(sys.modules, name, value)
    monkeypatch.syspath_prepend(str(SOURCE))
    spec = importlib.util.spec_from_file_location("slicer_monailabel", SOURCE / "MONAILabel.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
