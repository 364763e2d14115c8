"""Images and labels of a studies folder, safe between threads and processes.

MONAI Label's own local datastore keeps everything in one JSON that each process holds a
copy of and rewrites whole. Here the folder itself is the state: an image is there when
its file is, a label is what ``labels/<tag>/<id>.nii.gz`` holds (MONAI Label's own
layout), and what is known about one of them is a small JSON of its own::

    <studies>/case.nii.gz                      or  <studies>/case/ct.nii.gz
    <studies>/labels/<tag>/case.nii.gz
    <studies>/.atlas8k/info/images/case.json
    <studies>/.atlas8k/info/labels/<tag>/case.json
    <studies>/.atlas8k/replaced/<tag>/case/<time>.nii.gz   every label that was replaced

Files appear under their names complete or not at all; writers take one lock.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from monailabel.interfaces.datastore import Datastore

from atlas8k.server.errors import ConflictError, NotFoundError, RequestError
from atlas8k.server.files import checksum, locked, read_json, replace_file, write_json
from atlas8k.server.listing import Listing, NiftiFile, split_suffix
from atlas8k.server.submission import ingest
from atlas8k.volume import Grid, read_ct, write_nifti

logger = logging.getLogger(__name__)

FINAL = "final"
ORIGINAL = "original"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def _value(tag: object) -> str:
    # MONAI Label passes its own str Enum for the default tags.
    return str(getattr(tag, "value", tag))


class StudiesDatastore(Datastore):
    """MONAI Label's datastore interface over a folder of CTs.

    Parameters
    ----------
    studies
        Existing folder; `labels` and `.atlas8k` are made in it.
    """

    def __init__(self, studies: str | os.PathLike[str]) -> None:
        self.folder = Path(studies)
        self._images = Listing(self.folder, tree=True)
        self._labels: dict[str, Listing] = {}
        self._state = self.folder / ".atlas8k"
        self._mutex = threading.RLock()
        self._infos: dict[Path, tuple[int, int, dict[str, Any]]] = {}
        self._warned: set[Path] = set()
        for tag in (FINAL, ORIGINAL):
            self._label_folder(tag).mkdir(parents=True, exist_ok=True)

    # --- names and places -------------------------------------------------------------

    def _label_folder(self, tag: str) -> Path:
        return self.folder / "labels" / tag

    def _tag(self, tag: object) -> str:
        name = _value(tag)
        if not _SAFE.fullmatch(name) or ".." in name:
            raise RequestError(
                f"label tag {name[:80]!r} is not allowed: letters, digits, '.', '_', '-'"
            )
        return name

    def _image(self, image_id: str) -> NiftiFile:
        file = self._files().get(image_id)
        if file is None:
            raise NotFoundError("image", image_id)
        return file

    def _files(self) -> dict[str, NiftiFile]:
        files = self._images.files()
        for path in self._images.shadowed:
            if path not in self._warned:
                self._warned.add(path)
                logger.warning("%s: another image has the same id; rename one of them", path)
        return files

    def _label_files(self, tag: str) -> dict[str, NiftiFile]:
        with self._mutex:
            listing = self._labels.setdefault(tag, Listing(self._label_folder(tag)))
        images = self._files()
        return {key: file for key, file in listing.files().items() if key in images}

    def _label(self, label_id: str, tag: object) -> NiftiFile | None:
        name = self._tag(tag)
        return self._label_files(name).get(label_id)

    def _tags(self) -> list[str]:
        with os.scandir(self.folder / "labels") as entries:
            return sorted(e.name for e in entries if e.is_dir() and _SAFE.fullmatch(e.name))

    def _image_json(self, image_id: str) -> Path:
        return self._state / "info" / "images" / f"{image_id}.json"

    def _label_json(self, label_id: str, tag: str) -> Path:
        return self._state / "info" / "labels" / tag / f"{label_id}.json"

    def _json(self, path: Path) -> dict[str, Any]:
        """The JSON at `path`, read again only after it has changed; a shared object."""
        try:
            stat = path.stat()
        except FileNotFoundError:
            return {}
        cached = self._infos.get(path)
        if cached is None or cached[:2] != (stat.st_mtime_ns, stat.st_ino):
            cached = (stat.st_mtime_ns, stat.st_ino, read_json(path))
            self._infos[path] = cached
        return cached[2]

    # --- reading ----------------------------------------------------------------------

    def name(self) -> str:
        return self.folder.name

    def set_name(self, name: str) -> None:
        raise RequestError("the datastore is named after its folder")

    def description(self) -> str:
        return f"CT volumes in {self.folder.name}"

    def set_description(self, description: str) -> None:
        raise RequestError("the datastore's description cannot be set")

    def list_images(self) -> list[str]:
        return list(self._files())

    def get_labeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        return list(self._label_files(self._tag(label_tag or FINAL)))

    def get_unlabeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        done = self._label_files(self._tag(label_tag or FINAL))
        return [image for image in self._files() if image not in done]

    def get_image_uri(self, image_id: str) -> str:
        return str(self._image(image_id).path)

    def get_image(self, image_id: str, params: Any = None) -> bytes:
        return self._image(image_id).path.read_bytes()

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known of an image; ``checksum`` as ``SHA256:<hex>``, so that a viewer
        never shows a cached file in its place.
        """
        file = self._image(image_id)
        return {**self._image_info(file), "path": str(file.path), "checksum": self._checksum(file)}

    def _image_info(self, file: NiftiFile) -> dict[str, Any]:
        info = {k: v for k, v in self._json(self._image_json(file.id)).items() if k != "sha256"}
        return {"ts": int(file.path.stat().st_mtime), **info, "name": file.name}

    def _checksum(self, file: NiftiFile) -> str:
        stat = file.path.stat()
        known = self._json(self._image_json(file.id)).get("sha256", {})
        if known.get("of") != [stat.st_size, stat.st_mtime_ns]:
            known = {"of": [stat.st_size, stat.st_mtime_ns], "value": checksum(file.path)}
            self._update(self._image_json(file.id), {"sha256": known})
        return str(known["value"])

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> bytes | None:
        file = self._label(label_id, label_tag)
        return file.path.read_bytes() if file else None

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        file = self._label(label_id, label_tag)
        return str(file.path) if file else ""

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        self._image(image_id)
        return {tag: image_id for tag in self._tags() if image_id in self._label_files(tag)}

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        return self.get_labels_by_image_id(image_id).get(_value(tag), "")

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        file = self._label(label_id, label_tag)
        if file is None:
            raise NotFoundError(f"label with tag {_value(label_tag)!r} of image", label_id)
        return self._label_info(file, self._tag(label_tag))

    def _label_info(self, file: NiftiFile, tag: str) -> dict[str, Any]:
        stat = file.path.stat()
        known = self._json(self._label_json(file.id, tag))
        # A label put there by other means, or a writer killed between its two files:
        # what is written down is about another file then.
        info = known.get("info", {}) if known.get("size") == stat.st_size else {}
        return {"ts": int(stat.st_mtime), **info, "name": file.name}

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        images = self._files()
        pairs = [(images[key].path, file.path) for key, file in self._label_files(FINAL).items()]
        if not full_path:
            pairs = [(a.relative_to(self.folder), b.relative_to(self.folder)) for a, b in pairs]
        return [{"image": str(image), "label": str(label)} for image, label in pairs]

    def status(self) -> dict[str, Any]:
        tags = {tag: len(self._label_files(tag)) for tag in self._tags()}
        return {
            "total": len(self._files()),
            "completed": tags.get(FINAL, 0),
            "label_tags": {tag: count for tag, count in tags.items() if count},
        }

    def json(self) -> dict[str, Any]:
        labels = {tag: self._label_files(tag) for tag in self._tags()}
        objects = {}
        for key, image in self._files().items():
            tagged = {
                tag: {"ext": files[key].ext, "info": self._label_info(files[key], tag)}
                for tag, files in labels.items()
                if key in files
            }
            objects[key] = {
                "image": {"ext": image.ext, "info": self._image_info(image)},
                "labels": tagged,
            }
        return {
            "name": self.name(),
            "description": self.description(),
            "images_dir": ".",
            "labels_dir": "labels",
            "objects": objects,
        }

    def refresh(self) -> None:
        """Nothing to do: every answer looks at the folder."""

    # --- writing ----------------------------------------------------------------------

    def _update(self, path: Path, values: dict[str, Any]) -> None:
        with locked(self._state / "lock"):
            write_json(path, {**read_json(path), **values})

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        source = Path(image_filename)
        parts = split_suffix(source.name)
        if parts is None:
            raise RequestError("an image must be a .nii.gz or .nii file")
        image_id = image_id or parts[0]
        if not _SAFE.fullmatch(image_id) or ".." in image_id or image_id == "labels":
            raise RequestError(
                f"image id {image_id[:80]!r} is not allowed: letters, digits, '.', '_', '-'"
            )
        read_ct(source)
        with locked(self._state / "lock"):
            there = self._files().get(image_id)
            if there is not None and checksum(there.path) != checksum(source):
                raise ConflictError(f"image {image_id!r} exists with other content; use a new id")
            if there is None:
                replace_file(source, self.folder / (image_id + parts[1]))
        self.update_image_info(image_id, image_info or {})
        return image_id

    def remove_image(self, image_id: str) -> None:
        """Take an image and its labels out of the list; the files go to ``.atlas8k/removed``."""
        file = self._image(image_id)
        for tag in self.get_labels_by_image_id(image_id):
            self.remove_label(image_id, tag)
        target = self._state / "removed" / f"{time.time_ns()}_{file.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._state / "lock"):
            os.replace(file.path, target)

    def save_label(
        self,
        image_id: str,
        label_filename: str,
        label_tag: str,
        label_info: dict[str, Any] | None = None,
    ) -> str:
        """Check a label that came from outside and keep it.

        Raises
        ------
        VolumeError, RequestError
            It does not fit the image or names unknown structures; the label that was
            there stays.
        """
        tag, image = self._tag(label_tag), self._image(image_id)
        label = ingest(image.path, Path(label_filename), label_info or {})
        return self.store_label(image_id, label.array, label.grid, tag, label.info)

    def store_label(
        self,
        image_id: str,
        array: npt.NDArray[np.uint8],
        grid: Grid,
        tag: str,
        info: dict[str, Any],
    ) -> str:
        """Keep a label map; one that is replaced goes to ``.atlas8k/replaced``.

        Parameters
        ----------
        array
            ``(X, Y, Z)`` uint8, organ ids 0 to 9, on the image's own grid `grid`.
        info
            JSON-able; kept beside the label and sent to clients.
        """
        image, tag = self._image(image_id), self._tag(tag)
        folder = self._label_folder(tag)
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=".nii.gz", dir=folder)
        os.close(handle)
        temporary = Path(name)
        try:
            write_nifti(temporary, array, grid)
            with locked(self._state / "lock"):
                for ext in (".nii.gz", ".nii"):
                    self._keep(folder / (image.id + ext), tag, image.id)
                target = folder / f"{image.id}.nii.gz"
                os.replace(temporary, target)
                record = {"size": target.stat().st_size, "info": {**info, "ts": int(time.time())}}
                write_json(self._label_json(image.id, tag), record)
        finally:
            temporary.unlink(missing_ok=True)
        return image.id

    def _keep(self, path: Path, tag: str, image_id: str) -> None:
        """Move a label that is about to be replaced, with what is known of it."""
        if not path.exists():
            return
        folder = self._state / "replaced" / tag / image_id
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / f"{time.time_ns()}{path.name.removeprefix(image_id)}"
        try:
            # Linked, not moved: readers find the old label until the new one is in place.
            os.link(path, kept)
        except OSError:
            shutil.copy2(path, kept)
        if path.suffix != ".gz":
            path.unlink()
        write_json(kept.with_name(kept.name + ".json"), read_json(self._label_json(image_id, tag)))

    def remove_label(self, label_id: str, label_tag: str) -> None:
        file = self._label(label_id, label_tag)
        if file is None:
            raise NotFoundError(f"label with tag {_value(label_tag)!r} of image", label_id)
        with locked(self._state / "lock"):
            self._keep(file.path, self._tag(label_tag), label_id)
            file.path.unlink(missing_ok=True)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        own = {k: v for k, v in info.items() if k not in {"sha256", "name", "path", "checksum"}}
        self._update(self._image_json(self._image(image_id).id), own)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        file = self._label(label_id, label_tag)
        if file is None:
            raise NotFoundError(f"label with tag {_value(label_tag)!r} of image", label_id)
        path = self._label_json(label_id, self._tag(label_tag))
        with locked(self._state / "lock"):
            known = self._label_info(file, self._tag(label_tag))
            write_json(path, {"size": file.path.stat().st_size, "info": {**known, **info}})

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        pairs = self.datalist()[: limit_cases or None]
        if not pairs:
            raise NotFoundError("label with tag", FINAL)
        with tempfile.NamedTemporaryFile(delete=False, suffix=".zip") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                for pair in pairs:
                    for kind, path in pair.items():
                        file = Path(path)
                        name = file.parent.name if file.name == "ct.nii.gz" else file.name
                        archive.write(file, f"{kind}/{name}")
            return stream.name
