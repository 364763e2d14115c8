"""All images and labels of a folder in memory, with the answers that are asked for often.

One entry changes at a time and everything derived from it at once, under one lock, so
that nobody sees half a change. Counts are kept, not counted; lists are made again after a
change of what they list; the JSON of the whole folder keeps each image's text and joins
them.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from atlas8k.core.remarks import Remark
from atlas8k.services.studies.names import LABELS_FOLDER
from atlas8k.services.studies.plain import dumps
from atlas8k.services.studies.scan import ImageFile

FINAL = "final"
BESIDE_SUBMISSIONS = {"pseudo": True, "public": True, "original": False}
"""Tags that a second reader knows of, and whether what is said of the labels is of no reader."""
_CHUNK = 256
MANY = 20_000
"""From this many images on, :meth:`Catalogue.document_of_worked` may stand for the whole: 3D
Slicer asks for all with every sample and reads one of them, 30 MB at 100,000 images."""


class Label(NamedTuple):
    """A current label: its suffix and what is known about it, a JSON object."""

    ext: str
    info: str


class Instead(NamedTuple):
    """What one person is told of an image and its labels in place of what is known of them."""

    info: dict[str, Any]
    labels: dict[str, dict[str, Any]]

    @property
    def worked(self) -> bool:
        """Whether, as far as that person is told, it was given out or labeled."""
        return bool(self.info) or FINAL in self.labels


def _with_name(info: str, name: str) -> str:
    """Return the text of a JSON object with one more key."""
    return f'{info[:-1]}{"," if len(info) > 2 else ""}"name":{dumps(name)}}}'


class Catalogue:
    """Images and labels by id.

    Parameters
    ----------
    since
        Time said of images nothing is known about, UTC seconds.
    shown
        Makes of a JSON object's text the one that may be shown in :meth:`document`.
    """

    def __init__(self, since: int, shown: Callable[[str], str] = str) -> None:
        self._shown = shown
        self.lock = threading.RLock()
        self.images: dict[str, ImageFile] = {}
        self.labels: dict[str, dict[str, Label]] = {}
        """By tag and id, also of images that are not there (any more)."""
        self.not_listed: dict[str, str] = {}
        """Files that are no image here, and why."""
        self._held_back: dict[str, Label | None] = {}
        self._remarks: dict[str, dict[str, tuple[Remark, ...]]] = {}
        self.changes = 0
        """Grows with every image that appears, moves or vanishes."""
        self._infos: dict[str, str] = {}
        self._since = since
        self._counts: Counter[str] = Counter()
        self._lists: dict[str, list[str]] = {}
        self._texts: dict[str, str] = {}
        self._stale: dict[str, None] = {}
        self._joined: bytes | None = None
        self._header = ""

    # --- changes ----------------------------------------------------------------------

    def set_image(self, image_id: str, file: ImageFile) -> None:
        """Add an image, or change where it lies."""
        with self.lock:
            new = image_id not in self.images
            self.images[image_id] = file
            self.changes += 1
            if new:
                self._count(image_id, +1)
            self._touch(image_id)

    def drop_image(self, image_id: str) -> None:
        """Remove an image; its labels stay known, for the day it comes back."""
        with self.lock:
            if self.images.pop(image_id, None) is not None:
                self.changes += 1
                self._count(image_id, -1)
                self._touch(image_id)

    def _count(self, image_id: str, change: int) -> None:
        self._lists.clear()
        for tag, labels in self.labels.items():
            if image_id in labels:
                self._counts[tag] += change

    def set_info(self, image_id: str, info: str) -> None:
        """Set what is known about an image, the text of a JSON object."""
        with self.lock:
            if info == "{}":
                self._infos.pop(image_id, None)
            else:
                self._infos[image_id] = info
            self._touch(image_id)

    def set_remarks(self, image_id: str, source: str, remarks: tuple[Remark, ...]) -> None:
        """Set what `source` found in an image, in place of what it found before."""
        with self.lock:
            if remarks:
                self._remarks.setdefault(image_id, {})[source] = remarks
            elif image_id in self._remarks:
                self._remarks[image_id].pop(source, None)

    def set_label(self, label_id: str, tag: str, label: Label | None) -> None:
        """Set which label is current; ``None``: none is."""
        with self.lock:
            if tag == FINAL and label_id in self._held_back:
                self._held_back[label_id] = label
                return
            labels = self.labels.setdefault(tag, {})
            before = labels.get(label_id)
            if label is None:
                labels.pop(label_id, None)
            else:
                labels[label_id] = label
            change = (label is not None) - (before is not None)
            if change:
                self._lists.pop(f"+{tag}", None)
                self._lists.pop(f"-{tag}", None)
            if label_id in self.images:
                self._counts[tag] += change
                self._touch(label_id)

    def hold_back(self, label_ids: Iterable[str]) -> None:
        """Have labels of tag ``final`` count nowhere until they are let in."""
        with self.lock:
            for label_id in label_ids:
                label = self.labels.get(FINAL, {}).get(label_id)
                self.set_label(label_id, FINAL, None)
                self._held_back.setdefault(label_id, label)

    def let_in(self, label_id: str) -> None:
        """Have a label that was held back count, as whatever it is by now."""
        with self.lock:
            label = self._held_back.pop(label_id, None)
            if label is not None:
                self.set_label(label_id, FINAL, label)

    def _touch(self, image_id: str) -> None:
        self._stale[image_id] = None
        self._joined = None

    def set_header(self, fields: dict[str, Any]) -> None:
        """Set what the JSON says before the images."""
        with self.lock:
            self._header = dumps(fields)
            self._joined = None

    # --- answers ----------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return counts, as MONAI Label gives them."""
        with self.lock:
            return {
                "total": len(self.images),
                "completed": self._counts[FINAL],
                "label_tags": {tag: n for tag, n in sorted(self._counts.items()) if n > 0},
            }

    def ids(self) -> list[str]:
        """Return image ids, sorted."""
        with self.lock:
            return list(self._sorted())

    def _sorted(self) -> list[str]:
        known = self._lists.get("")
        if known is None:
            known = self._lists[""] = sorted(self.images)
        return known

    def ids_by_label(self, tag: str, *, labeled: bool) -> list[str]:
        """Return ids of images with or without a label of that tag, sorted."""
        with self.lock:
            key = f"{'+' if labeled else '-'}{tag}"
            known = self._lists.get(key)
            if known is None:
                labels = self.labels.get(tag, {})
                known = [i for i in self._sorted() if (i in labels) is labeled]
                self._lists[key] = known
            return list(known)

    def pairs(self, tag: str) -> list[tuple[str, str, str]]:
        """Return id, image and label, paths relative to the folder, of images with that label."""
        with self.lock:
            labels = self.labels.get(tag, {})
            return [
                (i, self.images[i].path, f"{LABELS_FOLDER}/{tag}/{i}{labels[i].ext}")
                for i in self.ids_by_label(tag, labeled=True)
            ]

    def tags_of(self, image_id: str) -> list[str]:
        """Return tags under which an image has a label."""
        with self.lock:
            return sorted(tag for tag, labels in self.labels.items() if image_id in labels)

    def label(self, label_id: str, tag: str) -> Label | None:
        """Return a current label, of an image that is there."""
        with self.lock:
            return self.labels.get(tag, {}).get(label_id) if label_id in self.images else None

    def image_info(self, image_id: str) -> dict[str, Any]:
        """Return what is known about an image; a new object."""
        with self.lock:
            return dict(json.loads(self._infos.get(image_id, "{}")))

    def remarks(self, image_id: str) -> tuple[Remark, ...]:
        """Return what was found in an image, whoever found it."""
        with self.lock:
            found = self._remarks.get(image_id, {})
            return tuple(remark for source in sorted(found) for remark in found[source])

    def all_remarks(self) -> dict[str, tuple[Remark, ...]]:
        """Return remarks of all images that are there and have any, by id."""
        with self.lock:
            ids = sorted(self._remarks.keys() & self.images.keys())
            return {one: found for one in ids if (found := self.remarks(one))}

    def _text(
        self, image_id: str, *, hidden: bool = False, instead: Instead | None = None
    ) -> str | None:
        file = self.images.get(image_id)
        if file is None:
            return None
        info = "{}" if hidden else self._shown(self._infos.get(image_id, "{}"))
        if instead is not None:
            info = self._shown(dumps(instead.info))
        if info == "{}":
            info = f'{{"ts":{self._since}}}'
        found = {
            tag: label
            for tag, by_id in self.labels.items()
            if (label := by_id.get(image_id)) is not None
        }
        if hidden:
            found = {
                tag: label if said else label._replace(info="{}")
                for tag, said in BESIDE_SUBMISSIONS.items()
                if (label := found.get(tag)) is not None
            }
        if instead is not None:
            found = {
                tag: Label(".nii.gz", dumps(instead.labels[tag]))
                for tag in self.labels
                if tag in instead.labels
            }
        labels = ",".join(
            f'{dumps(tag)}:{{"ext":{dumps(label.ext)},'
            f'"info":{_with_name(self._shown(label.info), image_id + label.ext)}}}'
            for tag, label in found.items()
        )
        return (
            f'{dumps(image_id)}:{{"image":{{"ext":{dumps(file.ext)},'
            f'"info":{_with_name(info, image_id + file.ext)}}},"labels":{{{labels}}}}}'
        )

    def document(
        self, hidden: Collection[str] = (), instead: Mapping[str, Instead] | None = None
    ) -> bytes:
        """Return the whole folder as JSON, MONAI Label's form; made again only where it changed.

        Parameters
        ----------
        hidden
            Images of which nothing is said that follows from a submission.
        instead
            What is said of images in place of what is known.
        """
        instead = instead or {}
        while True:
            with self.lock:
                if self._joined is not None and not hidden and not instead:
                    return self._joined
                for image_id in _first(self._stale, _CHUNK):
                    del self._stale[image_id]
                    text = self._text(image_id)
                    if text is None:
                        self._texts.pop(image_id, None)
                    else:
                        self._texts[image_id] = text
                if not self._stale:
                    self._joined = self._join(self._texts.values())
                    if not hidden and not instead:
                        return self._joined
                    without = {one: self._text(one, hidden=True) for one in hidden}
                    without |= {one: self._text(one, instead=said) for one, said in instead.items()}
                    texts = {**self._texts, **{k: t for k, t in without.items() if t is not None}}
                    return self._join(texts.values())
            # The lock is free for a moment: the first time this takes all images.

    def document_of_worked(
        self, hidden: Collection[str] = (), instead: Mapping[str, Instead] | None = None
    ) -> bytes:
        """:meth:`document` with the images that somebody was given, said something of or labeled.

        How many are left out is said beside them, as ``left_out``.
        """
        instead = instead or {}
        with self.lock:
            worked = self._infos.keys() | self.labels.get(FINAL, {}).keys()
            worked -= {one for one, said in instead.items() if not said.worked}
            ids = [one for one in worked if one in self.images]
            texts = []
            for image_id in sorted(ids):
                if image_id in hidden or image_id in instead:
                    said = instead.get(image_id)
                    texts.append(self._text(image_id, hidden=said is None, instead=said))
                    continue
                if image_id in self._stale or image_id not in self._texts:
                    self._stale.pop(image_id, None)
                    self._texts[image_id] = self._text(image_id) or ""
                texts.append(self._texts[image_id])
            left_out = len(self.images) - len(ids)
            return self._join((text for text in texts if text), f'"left_out":{left_out},')

    def _join(self, texts: Iterable[str], before: str = "") -> bytes:
        head = f"{self._header[:-1]}," if self._header else "{"
        return f'{head}{before}"objects":{{{",".join(texts)}}}}}'.encode()

    def document_of(self, image_ids: Iterable[str]) -> bytes:
        """:meth:`document` with these images only."""
        with self.lock:
            texts = (self._text(image_id) for image_id in image_ids)
            return self._join(text for text in texts if text is not None)


def _first(items: dict[str, None], count: int) -> list[str]:
    found: list[str] = []
    for item in items:
        if len(found) == count:
            break
        found.append(item)
    return found
