"""Changes to the viewer OHIF as MONAI Label's wheel brings it: built, and with two faults.

A patch replaces a passage of one script, word for word. A wheel with other scripts may not
have the passage any more: then the viewer is served without the patch, and the log says which
and what follows from that.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from atlas8k.core.structures import ORGANS
from atlas8k.server.tasks.infer import attention_ids

logger = logging.getLogger(__name__)


class Patch(NamedTuple):
    """One change: passages of one script with what takes their place, each there once.

    ``without`` is what is wrong in a viewer without it.
    """

    name: str
    passages: tuple[tuple[bytes, bytes], ...]
    without: str


def colors() -> Patch:
    """Return a patch that puts our colours in front of OHIF's, which lack half of our names."""
    found = b"const GenericAnatomyColors = ["
    shown = {organ.name: organ.color for organ in ORGANS}
    shown |= dict(zip(attention_ids(), [organ.color for organ in ORGANS], strict=True))
    ours = [{"label": k, "value": "#{:02x}{:02x}{:02x}".format(*v)} for k, v in shown.items()]
    return Patch(
        "colours",
        ((found, found + b"..." + json.dumps(ours).encode() + b", "),),
        "organs are shown in chance colours",
    )


STRATEGY = Patch(
    "strategy",
    (
        (
            b"strategy: 'random',\n      training: false,",
            b"strategy: 'attention',\n      training: false,",
        ),
        (
            b"onChange: this.onChangeStrategy,",
            b"onChange: event => this.setState({strategy: event.target.value}),",
        ),
    ),
    "Next Sample asks for strategy random whatever is chosen",
)
"""*Next Sample* asks for the strategy that is chosen, at first for `attention`: the list calls a
method that there is not, so that the choice was never kept."""


_SLICES = b"const segImages = imageIds.map(imageId => esm.cache.getImage(imageId));"
SAVED_SLICES = Patch(
    "saved slices",
    (
        (
            _SLICES + b"\n      const referencedImages = segImages.map(",
            _SLICES
            + b"""
      const height = image => {
        const {rowCosines: r, columnCosines: c, imagePositionPatient: p} =
          src/* classes */.Ly.MetadataProvider.get('imagePlaneModule', image.referencedImageId);
        return (r[1] * c[2] - r[2] * c[1]) * p[0] + (r[2] * c[0] - r[0] * c[2]) * p[1]
          + (r[0] * c[1] - r[1] * c[0]) * p[2];
      };
      segImages.sort((a, b) => height(b) - height(a));
      const referencedImages = segImages.map(""",
        ),
    ),
    "a segmentation that it saves has its slices in the order from the other end",
)
"""What is saved has its slices where they were drawn: dcmjs puts the CT's slices in order, from the
end of the normal down, and takes the label's as they come, which here is upwards."""

_CALL = b"const response = await this.props.client().infer(model, displaySet.SeriesInstanceUID"
_ASKED = b"label_names = [currentLabel];\n      }\n      " + _CALL + b", params"
_FAILED = b""");
      // console.log(response);

      hideNotification(nid, this.notification);
      if (response.status !== 200) {
        this.notification.show({
          title: 'MONAI Label - ' + model,
          message: """
_TYPE = b"info.data.models[m].type === "
_POINT_MODELS = _TYPE + b"'deepedit' || " + _TYPE + b"'vista3d'"
_CLICKED = b"const annotations = clickPoints[label][uid]['ProbeMONAILabel']"
_SHOWN_MODELS = b"all_model_names.filter(m => all_models[m].type === 'segmentation'"
_UNKNOWN = b"const label_class_unknown = info.data.models[model].type === 'deepgrow'"
_TAKEN = b"updateTargets.has(currentSegArray[i])"
POINTS = Patch(
    "points",
    (
        (_SHOWN_MODELS, _SHOWN_MODELS + b" || all_models[m].type === 'scribbles'"),
        (_CLICKED, _CLICKED + b" || []"),  # none yet
        (_POINT_MODELS, _POINT_MODELS + b" || " + _TYPE + b"'scribbles'"),
        (
            b"        params['background'] = bg;\n        "
            + _ASKED
            + _FAILED
            + b"'Failed to Run Inference for Point Prompts'",
            b"""        params['background'] = bg;
        label_names = [currentLabel];
      }
      let drawn = null;
      if (info.data.models[model].type === 'scribbles') {
        const organs = Object.keys(points).filter(
          l => info.modelLabelNames[model].includes(l) && points[l].length);
        const organ = currentLabel === 'background' && organs.length === 1
          ? organs[0] : String(currentLabel);
        label_names = [organ];
        if (!info.modelLabelNames[model].includes(organ)) {
          hideNotification(nid, this.notification);
          this.notification.show({title: 'MONAI Label - ' + model, type: 'error', duration: 6000,
            message: 'Choose the organ that the points are about'});
          return;
        }
        const {segmentationService} = this.props.servicesManager.services;
        const volume = segmentationService.getLabelmapVolume('1');
        const voxels = Uint8Array.from(volume.voxelManager.getCompleteScalarDataArray());
        const {dimensions: n, spacing, direction, origin} = volume;
        for (const [value, some] of [[255, points[organ]], [254, points['background']]])
          for (const at of some || [])
            if (at.every((v, axis) => v >= 0 && v < n[axis]))
              voxels[(at[2] * n[1] + at[1]) * n[0] + at[0]] = value;
        const vector = numbers => `(${Array.from(numbers).join(',')})`;
        const axes = [0, 1, 2].map(axis => vector(
          [0, 1, 2].map(m => spacing[axis] * direction[3 * axis + m])));
        const header = ['NRRD0004', 'type: uint8', 'dimension: 3', `sizes: ${n.join(' ')}`,
          'space: left-posterior-superior', `space directions: ${axes.join(' ')}`,
          'kinds: domain domain domain', `space origin: ${vector(origin)}`, 'encoding: gzip',
          '', ''].join('\\n');
        const packed = await new Response(new Blob([voxels]).stream()
          .pipeThrough(new CompressionStream('gzip'))).blob();
        drawn = {name: 'label', data: new Blob([header, packed]), fileName: 'label.nrrd'};
        delete params['foreground'];
        delete params['background'];
        params['selected_label_name'] = organ;
        const shown = Object.values(segmentationService.getSegmentations()[0].config.segments);
        params['label_info'] = shown.map(s => ({name: s.label, id: s.segmentIndex})).concat(
          [{name: 'foreground_scribbles', id: 255}, {name: 'background_scribbles', id: 254}]);
      }
      const why = error => {
        try {
          return JSON.parse(new TextDecoder().decode(error.response.data)).detail;
        } catch {
          return 'Failed to Run Inference for Point Prompts';
        }
      };
      const response = await this.props.client().infer(
        model, displaySet.SeriesInstanceUID, params, drawn"""
            + _FAILED
            + b"why(response)",
        ),
        (_UNKNOWN, _UNKNOWN + b" || info.data.models[model].type === 'scribbles'"),
        (
            _TAKEN,
            b"(" + _TAKEN + b" || label_class_unknown && (convertedData[i]"
            b" || currentSegArray[i] === labelNames[labels[0]]))",
        ),
    ),
    "Point Prompts is not there: strokes are drawn in 3D Slicer or on the page of a case",
)
"""*Point Prompts* are strokes of one voxel: model `strokes` gets the label as it is on the screen,
with the points on it, in the form in which 3D Slicer's *Scribbles* panel sends it. The organ that
comes back replaces the one on the screen, also where another organ was, or where none of it is
left; the viewer by itself does neither. A refusal is shown in its own words.
"""

_LINK = (
    "padding: 4px 12px; border-radius: 6px; background: #0a58ca; color: #fff;"
    " font: 14px system-ui, sans-serif; text-decoration: none"
)
_CORNER = "position: fixed; right: 10px; bottom: 10px; z-index: 1000"
BACK = f"""<nav aria-label="atlas8k" style="{_CORNER}">
<a id="atlas8k-case" hidden target="atlas8k-cases" style="{_LINK}">This case</a>
<a href="/atlas8k/cases" target="atlas8k-cases" style="{_LINK}">Your cases</a></nav>
<script>setInterval(() => {{
  const study = new URLSearchParams(location.search).get('StudyInstanceUIDs');
  const link = document.getElementById('atlas8k-case');
  link.hidden = !study;
  if (study) link.href = '/atlas8k/case/study?study=' + encodeURIComponent(study);
}}, 500)</script>
"""


def with_way_back(page: str) -> str:
    """Return the viewer's start page with links to the case that it shows and to one's cases.

    They open beside the viewer: what is drawn in one is kept nowhere else. Next Sample shows
    another study without loading the page anew, so that the link goes by the address.
    """
    return page.replace("</body>", f"{BACK}</body>", 1)


def patched(viewer: Path, wanted: Sequence[Patch]) -> dict[Path, bytes]:
    """Return the scripts of a viewer that a patch changes, with it.

    Parameters
    ----------
    viewer
        Folder of its files. A patch that fits none of its scripts, or several, is left out,
        and logged as an error.
    """
    changed: dict[Path, bytes] = {}
    scripts = {path: path.read_bytes() for path in sorted(viewer.glob("*.js"))}
    for patch in wanted:
        fitting = [
            path
            for path, script in scripts.items()
            if all(script.count(old) == 1 for old, _ in patch.passages)
        ]
        if len(fitting) != 1:
            logger.error(
                "OHIF: %d of the %d scripts in %s have the text of patch %r, where one must: "
                "this MONAI Label brings another OHIF, and %s",
                len(fitting),
                len(scripts),
                viewer,
                patch.name,
                patch.without,
            )
            continue
        (path,) = fitting
        for old, new in patch.passages:
            scripts[path] = changed[path] = scripts[path].replace(old, new)
    return changed


@functools.cache
def scripts_of(viewer: Path) -> dict[Path, bytes]:
    """Return :func:`patched` with every patch, read once."""
    return patched(viewer, (colors(), STRATEGY, SAVED_SLICES, POINTS))
