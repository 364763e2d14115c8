r"""Match a dataset's label files to CTs, by name alone and the same way every time.

A label file has the name of its file without suffix, or, where it lies in a folder of its
own (``case_00000/segmentation.nii.gz``), that folder's name. Tried in this order, the first
that finds a CT counts:

1. a rule of the user's, ``REGEX=NAME`` (the regex must fit the whole name; ``\1`` is a group),
2. the same name,
3. the dataset's own rules (``label0001`` and ``PANCREAS_0001``),
4. the same name without words that say what a file is: ``label0001`` and ``img0001``,
   ``segmentation-0`` and ``volume-0``, ``case_seg`` and ``case``, ``FLARE_0001`` and
   ``FLARE_0001_0000``; capitals do not matter.

With a prefix only CTs whose id starts with it are looked at, by the rest of their id.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from atlas8k.core.errors import Atlas8kError
from atlas8k.core.volume import NIFTI_SUFFIXES

Rule = tuple[re.Pattern[str], str]

MAP_NAMES = (
    "combined_labels",
    "segmentation",
    "aggregated_MAJ_seg",
    "label",
    "labels",
    "seg",
    "mask",
)
"""Names of the one label map in a case's folder, in order of preference."""

MASKS_FOLDER = "segmentations"
"""Folder in a case's folder with one mask an organ."""

_LABEL_FOLDERS = ("labelsTr", "labelsVa", "labelsTs", "LabelTr", "LabelTe", "labels")
"""Of the Decathlon and nnU-Net; of PanTS; of label maps beside a folder of images."""
_PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")
_SHOWN = 3
_LABEL_WORD = "segmentations?|seg|labels?|masks?|gt|combined_labels"
_IMAGE_WORD = "volume|vol|images?|img|imaging|scan|ct"
_LABEL_NAME = re.compile(rf"^(?:{_LABEL_WORD})[-_ ]?(?=\d)|[-_ ](?:{_LABEL_WORD})$")
_IMAGE_NAME = re.compile(rf"^(?:{_IMAGE_WORD})[-_ ]?(?=\d)|[-_ ](?:{_IMAGE_WORD}|0000)$")


class MatchError(Atlas8kError, ValueError):
    """A label file belongs to no CT, or to more than one; the message has the names tried."""

    def __init__(self, reason: str, *, missing: bool) -> None:
        self.reason = reason
        self.missing = missing
        super().__init__(reason)


@dataclass(frozen=True)
class LabelFile:
    """A label file, or a folder with one mask an organ, and the name it is matched by."""

    path: Path
    name: str


@dataclass
class LabelFiles:
    """Label files of a dataset's folder, and images among them that were passed over."""

    files: list[LabelFile] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)


def plain_name(name: str) -> str:
    """Return a name without words that say what a file is, in lower case."""
    plain = name.lower()
    for pattern in (_LABEL_NAME, _IMAGE_NAME):
        plain = pattern.sub("", plain) or plain
    return plain


def _stem(path: Path) -> str | None:
    """Return a file's name without suffix; None where it is hidden or no NIfTI file."""
    suffix = next((s for s in NIFTI_SUFFIXES if path.name.endswith(s)), None)
    if suffix is None or path.name.startswith(".") or path.name == suffix:
        return None
    return path.name[: -len(suffix)]


def is_packed_release(path: Path) -> bool:
    """Return whether a file's name says that it is a packed folder: .zip, .tar.gz and so on."""
    return path.name.lower().endswith(_PACKED) and path.is_file()


def why_no_labels(place: Path) -> str:
    """Say why a folder, or what was given in its place, holds no labels, and what to do."""
    if is_packed_release(place):
        return "is a packed file; unpack it, and give the folder that comes out"
    if not place.is_dir():
        return "there is no such folder of label files"
    packed = sorted(item.name for item in place.iterdir() if is_packed_release(item))
    if not packed:
        return "holds no label file (.nii, .nii.gz), nor do case folders"
    more = f" and {len(packed) - _SHOWN} more" if len(packed) > _SHOWN else ""
    names = ", ".join(packed[:_SHOWN])
    return f"holds packed files ({names}{more}) and no labels beside them; unpack them there first"


def find_label_files(folder: Path) -> LabelFiles:
    """Find the label files of a dataset as it was downloaded, sorted by path.

    Taken are ``*.nii.gz`` in the folder, in ``labelsTr``, ``labelsVa``, ``labelsTs``,
    ``LabelTr``, ``LabelTe`` and ``labels`` below it, and in folders of single cases. Where
    an image lies beside its label under the same name but for words that say so
    (``volume-0``, ``segmentation-0``), the image is passed over.
    """
    label_files = LabelFiles()
    places = [folder / name for name in _LABEL_FOLDERS if (folder / name).is_dir()]
    for place in [folder, *places]:
        groups: dict[str, list[LabelFile]] = defaultdict(list)
        for item in sorted(place.iterdir()):
            if item in places or item.name.startswith("."):
                continue
            if item.is_dir():
                case = _in_case(item)
                if case is not None:
                    label_files.files.append(case)
            elif (stem := _stem(item)) is not None:
                groups[plain_name(stem)].append(LabelFile(item, stem))
        for group in groups.values():
            labels = [file for file in group if not _IMAGE_NAME.search(file.name.lower())]
            label_files.files += labels or group
            label_files.images += [file.path for file in group if labels and file not in labels]
    label_files.files.sort(key=lambda file: str(file.path))
    return label_files


def _in_case(folder: Path) -> LabelFile | None:
    try:
        stems = {stem: path for path in sorted(folder.iterdir()) if (stem := _stem(path))}
    except OSError:
        return LabelFile(folder, folder.name)  # reading it says why it cannot be read
    for name in MAP_NAMES:
        if name in stems:
            return LabelFile(stems[name], folder.name)
    masks = folder / MASKS_FOLDER
    if masks.is_dir() and any(_stem(path) for path in masks.iterdir()):
        return LabelFile(masks, folder.name)
    return None


def parse_rule(text: str) -> Rule:
    """Parse a rule of the user's, ``REGEX=NAME``; the last ``=`` separates the two.

    Raises
    ------
    ValueError
        No ``=``, a broken regex, or a name that uses a group the regex lacks.
    """
    regex, equals, name = text.rpartition("=")
    if not equals or not regex or not name:
        raise ValueError(f"{text!r}: REGEX=NAME is needed, such as 'label(.*)=img\\1'")
    try:
        pattern = re.compile(regex)
        re.compile(f"{regex}|").sub(name, "")
    except (re.error, IndexError) as error:
        raise ValueError(f"{text!r}: {error}") from error
    return pattern, name


class Matcher:
    """Finds the CT of a label file.

    Parameters
    ----------
    volumes
        Ids of the CTs.
    prefix
        Only these CTs are looked at, by the rest of their id.
    rules
        The user's rules; they give whole ids, prefix included.
    own_rules
        The dataset's rules; they give the rest of an id.
    """

    def __init__(
        self,
        volumes: Collection[str],
        *,
        prefix: str = "",
        rules: Sequence[Rule] = (),
        own_rules: Sequence[Rule] = (),
    ) -> None:
        self._volumes = frozenset(volumes)
        self._prefix, self._rules, self._own_rules = prefix, tuple(rules), tuple(own_rules)
        self._plain: dict[str, list[str]] = defaultdict(list)
        for volume in sorted(self._volumes):
            if volume.startswith(prefix):
                self._plain[plain_name(volume.removeprefix(prefix))].append(volume)

    def volume(self, name: str) -> str:
        """Return the id of the CT that the label file of that name belongs to.

        Raises
        ------
        MatchError
            There is none, or there are several.
        """
        for pattern, template in self._rules:
            match = pattern.fullmatch(name)
            if match:
                return self._first_known([match.expand(template)])
        tried = [self._prefix + name]
        for pattern, template in self._own_rules:
            match = pattern.fullmatch(name)
            if match:
                tried.append(self._prefix + match.expand(template))
        exact = next((candidate for candidate in tried if candidate in self._volumes), None)
        if exact is not None:
            return exact
        plain = plain_name(name)
        candidates = self._plain.get(plain, [])
        if len(candidates) > 1:
            raise MatchError(
                f"{len(candidates)} CTs could be its own ({', '.join(candidates[:4])}); "
                "say which with --prefix or --match",
                missing=False,
            )
        if candidates:
            return candidates[0]
        if plain != name:
            tried.append(f"{self._prefix}{plain}")
        return self._first_known(tried)

    def _first_known(self, tried: Sequence[str]) -> str:
        for candidate in tried:
            if candidate in self._volumes:
                return candidate
        raise MatchError(
            f"no CT of that name (looked for {', '.join(tried)}); see --prefix and --match",
            missing=True,
        )
