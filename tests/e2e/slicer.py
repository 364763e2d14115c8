"""3D Slicer at work without 3D Slicer: the module's own code over a scene made of arrays.

``MONAILabel.py`` and ``MONAILabelLib/client.py`` are those that the wheel has installed;
every button here runs the module's own handler, which asks the server what it asks in
Slicer. Made here is what Slicer itself does around them: it keeps segments and nodes,
imports a label map under the segments' names, merges segments for a save, reads and writes
files (by ITK, as Slicer), downloads into a cache by name and checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import nrrd
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from tests.server import slicer_module

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]
_FRESH = {
    "MONAILabel/autoRunSegmentationOnNextSample": False,
    "MONAILabel/originalLabel": True,
    "MONAILabel/fileExtension": ".nii.gz",
    "MONAILabel/allowOverlappingSegments": False,
}
"""Settings of a fresh install."""


def array_of(image: sitk.Image) -> npt.NDArray[Any]:
    """``(X, Y, Z)`` voxels of an image."""
    return np.asarray(sitk.GetArrayFromImage(image)).transpose()


def image_of(array: Labels, like: sitk.Image, start: tuple[int, ...] = (0, 0, 0)) -> sitk.Image:
    """A label map on a block of another image's voxels."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose()))
    image.SetSpacing(like.GetSpacing())
    image.SetDirection(like.GetDirection())
    image.SetOrigin(like.TransformIndexToPhysicalPoint([int(n) for n in start]))
    return image


# --- nodes ------------------------------------------------------------------------------


@dataclass(eq=False)
class Volume:
    """A scalar volume or a label map."""

    image: Any = None
    name: str = ""

    def GetName(self) -> str:  # noqa: N802
        return self.name

    def SetName(self, name: str) -> None:  # noqa: N802
        self.name = name

    def GetID(self) -> str:  # noqa: N802
        return f"node-{id(self)}"


@dataclass(eq=False)
class Segment:
    id: str
    name: str
    mask: Mask

    def GetName(self) -> str:  # noqa: N802
        return self.name


@dataclass(eq=False)
class Segmentation:
    """Segments in the order of the list that the annotator sees."""

    shape: tuple[int, ...]
    segments: list[Segment] = field(default_factory=list)

    def GetNumberOfSegments(self) -> int:  # noqa: N802
        return len(self.segments)

    def GetNthSegmentID(self, n: int) -> str:  # noqa: N802
        return self.segments[n].id

    def GetSegmentIDs(self, ids: list[str]) -> None:  # noqa: N802
        ids[:] = [one.id for one in self.segments]

    def GetSegment(self, id_: str) -> Segment | None:  # noqa: N802
        return next((one for one in self.segments if one.id == id_), None)

    def GetSegmentIdBySegmentName(self, name: str) -> str:  # noqa: N802
        return next((one.id for one in self.segments if one.name == name), "")

    def AddEmptySegment(self, id_: str, name: str, color: object = None) -> str:  # noqa: N802
        return self.add(name, np.zeros(self.shape, bool), id_).id

    def add(self, name: str, mask: Mask, id_: str = "", at: int | None = None) -> Segment:
        made = Segment(id_ or name, name, mask.copy())
        self.segments.insert(len(self.segments) if at is None else at, made)
        return made


class SegmentationNode(MagicMock):
    """A segmentation in the scene; what is not needed here is a pretence."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.segmentation = None

    def GetSegmentation(self) -> Any:  # noqa: N802
        return self.segmentation

    def _get_child_mock(self, /, **more: Any) -> MagicMock:
        return MagicMock(**more)


class StringArray(list[str]):
    """``vtkStringArray``."""

    def InsertNextValue(self, value: str) -> None:  # noqa: N802
        self.append(value)


class Combo:
    """A combo box."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.currentIndex = -1
        self.blocked = False

    def addItem(self, text: str) -> None:  # noqa: N802
        self.items.append(text)
        self.currentIndex = max(0, self.currentIndex)

    def addItems(self, texts: list[str]) -> None:  # noqa: N802
        for text in texts:
            self.addItem(text)

    def clear(self) -> None:
        self.items, self.currentIndex = [], -1

    def findText(self, text: str) -> int:  # noqa: N802
        return self.items.index(text) if text in self.items else -1

    def itemText(self, index: int) -> str:  # noqa: N802
        return self.items[index] if 0 <= index < len(self.items) else ""

    def setCurrentIndex(self, index: int) -> None:  # noqa: N802
        self.currentIndex = index

    def setCurrentText(self, text: str) -> None:  # noqa: N802
        self.currentIndex = self.findText(text)

    @property
    def count(self) -> int:
        return len(self.items)

    @property
    def currentText(self) -> str:  # noqa: N802
        return self.itemText(self.currentIndex)

    @currentText.setter
    def currentText(self, text: str) -> None:  # noqa: N802
        self.setCurrentText(text)

    def __getattr__(self, name: str) -> Any:
        return MagicMock()


class Window:
    """The module's widgets: lists are lists, all else is a pretence."""

    def __getattr__(self, name: str) -> Any:
        box = name.endswith(("Selector", "Box")) and not name.endswith("CheckBox")
        made = Combo() if box or name in ("optionsSection", "optionsName") else MagicMock()
        setattr(self, name, made)
        return made


class Parameters(dict[str, str]):
    """The module's parameter node."""

    def GetParameter(self, name: str) -> str:  # noqa: N802
        return self.get(name, "")

    def SetParameter(self, name: str, value: str) -> None:  # noqa: N802
        self[name] = value

    def __getattr__(self, name: str) -> Any:
        return MagicMock()


class Store(dict[str, Any]):
    """``QSettings``."""

    def value(self, name: str) -> Any:
        return self.get(name)

    def setValue(self, name: str, value: Any) -> None:  # noqa: N802
        self[name] = value


class _Files:
    """``os``, where files of another computer are not there."""

    def __init__(self, slicer: Slicer) -> None:
        self.slicer, self.path = slicer, self

    def exists(self, path: str) -> bool:
        here = not self.slicer.remote or Path(path).is_relative_to(self.slicer.folder)
        return here and Path(path).exists()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name, None) or getattr(os.path, name)


# --- the application --------------------------------------------------------------------


class Slicer:
    """One Slicer with the module open.

    Attributes
    ----------
    settings
        What is set under *Edit > Application Settings*.
    crop
        A merged label map reaches around the segments only, not over the whole CT.
    flip
        Axes that a saved file runs along backwards, its geometry with it.
    remote
        The studies are on another computer, so that CTs are downloaded.
    errors
        What the module has shown as errors, each with its traceback.
    kept
        What the server said of labels that were saved.
    """

    def __init__(self, patch: pytest.MonkeyPatch, url: str, folder: Path, user: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.settings = folder, {**_FRESH, "MONAILabel/clientId": user}
        self.crop, self.flip, self.remote = False, (False, False, False), True
        self.errors: list[str] = []
        self.kept: list[dict[str, Any]] = []
        self.nodes: list[Any] = []
        self.markups = slicer_module.Scene()
        self.module = module = slicer_module.load(patch, self.markups)
        self._pretend(module)
        patch.setattr(
            module.ScriptedLoadableModuleWidget,
            "__init__",
            lambda widget, parent=None: None,
            raising=False,
        )
        self.widget = widget = module.MONAILabelWidget()
        widget.ui, widget.parent, widget.tmpdir = Window(), MagicMock(), str(folder)
        for name in ("addObserver", "removeObserver", "createPointListNode"):
            setattr(widget, name, MagicMock(return_value=(MagicMock(), [])))
        widget.logic = module.MONAILabelLogic(str(folder))
        parameters = Parameters()
        widget.logic.getParameterNode = lambda: parameters
        widget.ui.serverComboBox.addItem(url)
        widget.enter()
        widget.onClickFetchInfo()

    def _pretend(self, module: Any) -> None:
        slicer, store = module.slicer, Store()
        module._ = str
        module.os = _Files(self)
        module.qt.QSettings = lambda: store
        module.vtk.vtkStringArray = StringArray
        module.sitkUtils.PushVolumeToSlicer = lambda image, *_, **__: Volume(image)
        module.SampleData.SampleDataLogic.return_value.downloadFromURL = self._download
        slicer.util.settingsValue = lambda key, default, **_: self.settings.get(key, default)
        slicer.util.errorDisplay = lambda text, detailedText="": self.errors.append(  # noqa: N803
            f"{text}\n{detailedText}"
        )
        slicer.util.infoDisplay = lambda text, detailedText="": self.kept.append(  # noqa: N803
            module.json.loads(detailedText)
        )
        slicer.util.getNodesByClass = lambda kind: self._volumes()
        slicer.util.saveNode = self._write
        slicer.util.loadVolume = lambda path: self._add(Volume(sitk.ReadImage(path)))
        slicer.util.toBool = bool
        scene = slicer.mrmlScene
        scene.AddNewNodeByClass = self._new_node
        scene.GetFirstNodeByClass = lambda kind: next(iter(self._volumes()), None)
        scene.Clear = self._clear
        logic = slicer.modules.segmentations.logic()
        logic.ImportLabelmapToSegmentationNode = self._import
        logic.ExportSegmentsToLabelmapNode = self._export
        vtk_logic = slicer.vtkSlicerSegmentationsModuleLogic
        vtk_logic.SetBinaryLabelmapToSegment = self._empty_segment

    # --- what the annotator does

    def next_sample(self, strategy: str = "first") -> str:
        """Press *Next Sample*; the id of the CT that is open then, "" for none."""
        self.choose("strategyBox", strategy)
        self.widget.onNextSampleButton()
        sample = self.widget.current_sample
        return str(sample["id"]) if sample else ""

    def run(self, model: str) -> None:
        """Choose a model and press *Run*."""
        self.choose("segmentationModelSelector", model)
        self.widget.onClickSegmentation()

    def save(self) -> dict[str, Any]:
        """Press *Submit Label*; what the server says of it, {} where it was refused."""
        before = len(self.kept)
        self.widget.onSaveLabel()
        return self.kept[-1] if len(self.kept) > before else {}

    def choose(self, selector: str, text: str) -> None:
        combo = getattr(self.widget.ui, selector)
        assert text in combo.items, combo.items
        combo.setCurrentText(text)
        self.widget.updateParameterNodeFromGUI()

    @property
    def segmentation(self) -> Segmentation:
        found: Segmentation = self.widget._segmentNode.GetSegmentation()
        return found

    def mask(self, name: str) -> Mask:
        """Voxels of the segment of that name; write to it to paint or erase."""
        found = self.segmentation.GetSegment(self.segmentation.GetSegmentIdBySegmentName(name))
        assert found is not None, [one.name for one in self.segmentation.segments]
        return found.mask

    def remove(self, *names: str) -> None:
        """Delete segments."""
        segments = self.segmentation.segments
        segments[:] = [one for one in segments if one.name not in names]

    # --- what Slicer does

    def _volumes(self) -> list[Volume]:
        return [node for node in self.nodes if isinstance(node, Volume)]

    def _add(self, node: Any) -> Any:
        self.nodes.append(node)
        self.widget.onSceneEndImport(None, None)  # it hears of every node
        return node

    def _new_node(self, kind: str) -> Any:
        if kind == "vtkMRMLLabelMapVolumeNode":
            return Volume()
        if kind == "vtkMRMLSegmentationNode":
            node = SegmentationNode()
            node.segmentation = Segmentation(self._ct().GetSize())
            return self._add(node)
        return MagicMock()

    def _ct(self) -> sitk.Image:
        return self._volumes()[0].image

    def _clear(self, singletons: int) -> None:
        self.widget.onSceneStartClose(None, None)
        self.nodes.clear()
        self.markups.markups.clear()
        self.widget.onSceneEndClose(None, None)

    def _download(
        self,
        nodeNames: str,  # noqa: N803
        fileNames: str,  # noqa: N803
        uris: str,
        checksums: str | None,
    ) -> list[Volume]:
        """Into the cache by name; a file that is there is used again unless its sum differs."""
        path = self.folder / "cache" / fileNames
        path.parent.mkdir(exist_ok=True)

        def good() -> bool:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            return checksums is None or f"SHA256:{found}" == checksums

        if not path.exists() or not good():
            path.write_bytes(urllib.request.urlopen(uris, timeout=60).read())
            assert good(), f"{fileNames}: the checksum is wrong"
        return [self._add(Volume(sitk.ReadImage(str(path)), nodeNames))]

    def _import(self, labelmap: Volume, node: SegmentationNode, names: StringArray) -> bool:
        """Value n replaces the n-th segment named; others stay as they are, below or above it."""
        array, ct = array_of(labelmap.image), self._ct()
        assert array.shape == ct.GetSize(), "a result is not on the CT's voxels"
        for get in ("GetOrigin", "GetSpacing", "GetDirection"):
            assert np.allclose(getattr(labelmap.image, get)(), getattr(ct, get)(), atol=1e-4)
        assert int(array.max(initial=0)) <= len(names), "a value has no name"
        found = node.segmentation
        for value, name in enumerate(names, start=1):
            there = found.GetSegment(name)
            if there is None:
                there = found.add(name, np.zeros(array.shape, bool))
            there.mask[...] = array == value
        return True

    def _export(
        self, node: SegmentationNode, ids: StringArray, labelmap: Volume, reference: Volume
    ) -> bool:
        """Merged: a segment's value is 1 + its position; where two overlap, the later wins."""
        array = np.zeros(node.segmentation.shape, np.uint8)
        for value, id_ in enumerate(ids, start=1):
            array[node.segmentation.GetSegment(id_).mask] = value
        at = block(array) if self.crop else (slice(None),) * 3
        start = tuple(one.start or 0 for one in at)
        labelmap.image = image_of(array[at], reference.image, start)
        return True

    def _empty_segment(self, _: Any, node: SegmentationNode, id_: str, __: Any) -> None:
        node.segmentation.GetSegment(id_).mask[...] = False  # the module clears scribbles so

    def _write(self, node: Any, path: str) -> bool:
        if isinstance(node, SegmentationNode):
            write_segmentation(Path(path), node.segmentation, self._ct(), crop=self.crop)
        else:
            sitk.WriteImage(sitk.Flip(node.image, self.flip), path, useCompression=True)
        return True


def block(array: npt.NDArray[Any]) -> tuple[slice, slice, slice]:
    """Around what is not zero."""
    where = np.argwhere(array)
    low, high = where.min(axis=0), where.max(axis=0) + 1
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return x, y, z


def write_segmentation(path: Path, found: Segmentation, ct: sitk.Image, *, crop: bool) -> None:
    """``.seg.nrrd`` as Slicer's storage node writes it: overlapping segments share no layer."""
    layers: list[Labels] = []
    header: dict[str, Any] = {"Segmentation_MasterRepresentation": "Binary labelmap"}
    for number, segment in enumerate(found.segments):
        layer = next((i for i, one in enumerate(layers) if not one[segment.mask].any()), None)
        if layer is None:
            layer = len(layers)
            layers.append(np.zeros(found.shape, np.uint8))
        value = int(layers[layer].max()) + 1
        # An empty segment has a value of its own, too.
        used = [header[k] for k in header if k.endswith("_LabelValue")]
        value = max([value, *[int(v) + 1 for v in used]])
        layers[layer][segment.mask] = value
        header |= {
            f"Segment{number}_ID": segment.id,
            f"Segment{number}_Name": segment.name,
            f"Segment{number}_LabelValue": str(value),
            f"Segment{number}_Layer": str(layer),
            f"Segment{number}_Tags": "Segmentation.Status:inprogress|",
        }
    data = np.stack(layers)
    at = block(data.any(axis=0)) if crop else (slice(None),) * 3
    start = [one.start or 0 for one in at]
    data = data[(slice(None), *at)]
    directions = np.reshape(ct.GetDirection(), (3, 3)) * ct.GetSpacing()
    many = len(layers) > 1
    nan = [[np.nan] * 3] * many
    header |= {
        "space": "left-posterior-superior",
        "space directions": np.array([*nan, *directions.T]),
        "space origin": np.array(ct.TransformIndexToPhysicalPoint(start)),
        "kinds": ["list"] * many + ["domain"] * 3,
        "encoding": "gzip",
    }
    nrrd.write(str(path), data if many else data[0], header, index_order="F")


@contextlib.contextmanager
def opened(url: str, folder: Path, user: str) -> Iterator[Slicer]:
    """A Slicer for the block."""
    with pytest.MonkeyPatch.context() as patch:
        yield Slicer(patch, url, folder, user)


def scribble(
    slicer: Slicer, organ: str, model: str = "strokes", **strokes: tuple[slice, slice, slice]
) -> None:
    """Select an organ for the panel, paint its scribbles and press *Update*."""
    module, segmentation = slicer.widget, slicer.segmentation
    for name in ("background_scribbles", "foreground_scribbles"):
        if not segmentation.GetSegmentIdBySegmentName(name):
            segmentation.AddEmptySegment(name, name)
        mask = slicer.mask(name)
        mask[...] = False
        if name in strokes:
            mask[strokes[name]] = True
    segment = segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName(organ))
    module.currentScribSegment = lambda: (segment.id, segment)
    place = module.ui.scribblesPlaceWidget
    place.currentNode = lambda: None
    module.ui.scribblesMethodSelector.setCurrentText(model)
    module.onUpdateScribbles()
