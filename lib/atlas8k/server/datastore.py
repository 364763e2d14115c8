"""MONAI Label's local datastore, with the folder and a SQLite file as its state.

MONAI Label's own keeps one JSON file for everything, a copy of it in every process, and
rewrites it whole at every change. Here an image is there when its file is, a label is what
``labels/<tag>/<id>.nii.gz`` holds, and what is known about them changes one row at a time.
Its JSON file is neither read nor written.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from monailabel.datastore.local import LocalDatastore

from atlas8k.core.volume import Grid
from atlas8k.services.errors import RequestError
from atlas8k.services.studies.archive import Case, write_archive
from atlas8k.services.studies.catalogue import FINAL, MANY, Instead
from atlas8k.services.studies.folder import ORIGINAL, StudiesFolder
from atlas8k.services.studies.names import check_id, check_tag, require_suffix

__all__ = ["FINAL", "ORIGINAL", "Checked", "StudiesDatastore"]


class Checked(Protocol):
    """A submitted label that was found good: organ ids on the CT's grid, and its info."""

    @property
    def array(self) -> npt.NDArray[np.uint8]: ...
    @property
    def grid(self) -> Grid: ...
    @property
    def info(self) -> dict[str, Any]: ...


class StudiesDatastore(LocalDatastore):
    """MONAI Label's datastore interface over a :class:`StudiesFolder`.

    Ids and tags that could leave the folder raise
    :class:`~atlas8k.services.studies.errors.BadNameError` in every method.

    Parameters
    ----------
    studies
        The folder.
    ingest
        Called with the image, the uploaded label and what came with it; what it returns is
        kept instead of the uploaded file. Without it, the file is kept as it came.
    check_image
        Called with an uploaded image; raises where it is none. What it returns is not used.
    """

    def __init__(
        self,
        studies: StudiesFolder,
        *,
        ingest: Callable[[Path, Path, Mapping[str, Any]], Checked] | None = None,
        check_image: Callable[[Path], object] | None = None,
    ) -> None:
        # LocalDatastore's own __init__ makes its JSON file and watches for it.
        self.studies = studies
        self._ingest, self._check_image = ingest, check_image
        self._datastore_path = str(self.folder)
        self._extensions = [f"*{suffix}" for suffix in self.studies.suffixes]
        self._set_header()

    @property
    def folder(self) -> Path:
        """The studies folder, links resolved."""
        return self.studies.path

    def close(self) -> None:
        """Stop looking around and close files; any further use opens them again."""
        self.studies.close()

    # --- name -------------------------------------------------------------------------

    def _set_header(self) -> None:
        self.studies.catalogue.set_header(
            {
                "name": self.name(),
                "description": self.description(),
                "images_dir": ".",
                "labels_dir": "labels",
            }
        )

    def name(self) -> str:
        return self.studies.index.meta("name") or self.folder.name

    def set_name(self, name: str) -> None:
        self.studies.index.set_meta("name", str(name)[:200])
        self._set_header()

    def description(self) -> str:
        return self.studies.index.meta("description") or f"CT volumes in {self.folder.name}"

    def set_description(self, description: str) -> None:
        self.studies.index.set_meta("description", str(description)[:2000])
        self._set_header()

    # --- images -----------------------------------------------------------------------

    def list_images(self) -> list[str]:
        return self.studies.now().ids()

    def get_labeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """Images with a label of that tag, ``final`` if not given; `labels` is not used."""
        tag = check_tag(label_tag or FINAL)
        return self.studies.now().ids_by_label(tag, labeled=True)

    def get_unlabeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """Images without a label of that tag, ``final`` if not given; `labels` is not used."""
        tag = check_tag(label_tag or FINAL)
        return self.studies.now().ids_by_label(tag, labeled=False)

    def get_image_uri(self, image_id: str) -> str:
        """Path of what clients get of an image; :class:`NotFoundError` where there is none.

        A copy with one geometry where programs would read the study's file in different
        ways; see :mod:`atlas8k.services.studies.served`.
        """
        return str(self.folder / self.studies.served_image(image_id).path)

    def get_image(self, image_id: str, params: Any = None) -> io.BytesIO:
        return io.BytesIO(Path(self.get_image_uri(image_id)).read_bytes())

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Return what is known about an image, and ``name``, ``path`` and ``checksum``.

        The first time the whole file is read for its checksum, see :meth:`StudiesFolder.checksum`.
        """
        return self.studies.image_info(image_id)

    def add_image(
        self, image_id: str | None, image_filename: str, image_info: dict[str, Any] | None
    ) -> str:
        """Take in an image; see :meth:`~atlas8k.services.studies.images.ImageFiles.add`.

        The same file again is no error. Labels of another image of that id that was
        removed earlier go to the history.
        """
        source = Path(image_filename)
        require_suffix("image file", source.name, self.studies.suffixes)
        if self._check_image is not None:
            self._check_image(source)
        return self.studies.add_image(image_id, source, image_info)

    def remove_image(self, image_id: str) -> None:
        """Delete an image. Its labels and their history stay and come back with it."""
        self.studies.remove_image(image_id)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Merge into what is known about an image; nobody's keys are lost."""
        self.studies.known_image(image_id)
        self.studies.update_image_info(image_id, info)

    # --- labels -----------------------------------------------------------------------

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Path of a label, ``""`` where there is none of that tag."""
        row = self.studies.label(label_id, check_tag(label_tag))
        return str(self.studies.labels.path(row.image, row.tag, row.ext or "")) if row else ""

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> io.BytesIO | None:
        uri = self.get_label_uri(label_id, label_tag)
        return io.BytesIO(Path(uri).read_bytes()) if uri else None

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """Return what is known about a label; :class:`NotFoundError` where there is none."""
        row = self.studies.known_label(label_id, check_tag(label_tag))
        written = row.stamp.mtime_ns // 1_000_000_000
        return {"ts": written, **json.loads(row.info), "name": row.image + (row.ext or "")}

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        tags = self.studies.now().tags_of(check_id(image_id))
        return dict.fromkeys(tags, image_id)

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        return self.get_labels_by_image_id(image_id).get(check_tag(tag), "")

    def save_label(
        self,
        image_id: str,
        label_filename: str,
        label_tag: str,
        label_info: dict[str, Any] | None = None,
    ) -> str:
        """Make a label current; the one it replaces goes to the history.

        Raises
        ------
        NotFoundError, BadNameError
            No such image; tag or suffix not allowed.
        Atlas8kError
            What `ingest` found wrong with it. The current label stays.
        """
        tag, source = check_tag(label_tag), Path(label_filename)
        if self._ingest is None:
            self.studies.save_label(image_id, tag, source, label_info)
            return image_id
        image = self.folder / self.studies.known_image(image_id).path
        good = self._ingest(image, source, label_info or {})
        return self.store_label(image_id, good.array, good.grid, tag, good.info)

    def store_label(
        self,
        image_id: str,
        array: npt.NDArray[np.uint8],
        grid: Grid,
        tag: str,
        info: dict[str, Any],
    ) -> str:
        """Make a label map current; see :meth:`StudiesFolder.store_label`."""
        self.studies.store_label(image_id, check_tag(tag), array, grid, info)
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Take a label out of force; it goes to the history."""
        self.studies.remove_label(label_id, check_tag(label_tag))

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Merge into what is known about a label; nobody's keys are lost."""
        self.studies.update_label_info(label_id, check_tag(label_tag), info)

    # --- the whole folder -------------------------------------------------------------

    def status(self, unread: Collection[str] = ()) -> dict[str, Any]:
        """Return counts, as MONAI Label gives them; `unread` images count as not finished."""
        found = self.studies.now().status()
        if unread:
            found["completed"] -= len(unread)
            tags = found["label_tags"]
            tags[FINAL] = tags.get(FINAL, 0) - len(unread)
            found["label_tags"] = {tag: n for tag, n in tags.items() if n > 0}
        return found

    def json(self) -> dict[str, Any]:
        """Return the whole folder as MONAI Label's JSON; a new object each time.

        A route sends :meth:`json_bytes` instead, which is kept ready: parsing this and
        encoding it again takes a second at some thousand volumes.
        """
        return dict(json.loads(self.json_bytes()))

    def json_bytes(
        self,
        hidden: Collection[str] = (),
        *,
        every: bool = True,
        instead: Mapping[str, Instead] | None = None,
    ) -> bytes:
        """:meth:`json` as UTF-8 text; costs what has changed since the last time.

        Parameters
        ----------
        hidden
            Images of which nothing is said that follows from a submission.
        every
            Otherwise, in a large folder, only the images that were worked on.
        instead
            What is said of images in place of what is known.
        """
        catalogue = self.studies.now()
        if every or len(catalogue.images) < MANY:
            return catalogue.document(hidden, instead)
        return catalogue.document_of_worked(hidden, instead)

    def datalist(
        self, hidden: Collection[str] = (), full_path: bool = True
    ) -> list[dict[str, Any]]:
        """Paths of images and their finished labels, without those of `hidden` images."""
        root = str(self.folder) + os.sep if full_path else ""
        return [
            {"image": root + image, "label": root + label}
            for image_id, image, label in self.studies.now().pairs(FINAL)
            if image_id not in hidden
        ]

    def get_dataset_archive(self, limit_cases: int | None, hidden: Collection[str] = ()) -> str:
        """Path of a new ZIP file with all finished cases, or the first so many; the caller's.

        Raises
        ------
        RequestError
            `limit_cases` is negative.
        NotFoundError
            There is no finished case.
        """
        if limit_cases is not None and limit_cases < 0:
            raise RequestError("limit_cases: a number from 1 up, or nothing for all cases")
        pairs = [one for one in self.studies.now().pairs(FINAL) if one[0] not in hidden]
        pairs = pairs[: limit_cases or None]
        for image_id, _, _ in pairs:
            self.studies.label(image_id, FINAL)  # puts in place what is not
        cases = [
            Case(image_id, self.folder / image, self.folder / label)
            for image_id, image, label in pairs
        ]
        metadata = self.studies.catalogue.document_of(image_id for image_id, _, _ in pairs)
        return write_archive(cases, metadata)

    def refresh(self) -> None:
        """Look through the whole folder now; whatever is there is listed."""
        self.studies.refresh()

    # LocalDatastore's ways to its JSON file, which does not exist here.

    def _reconcile_datastore(self) -> None:
        self.refresh()

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """There is no such file."""

    def _update_datastore_file(self, lock: bool = True) -> None:
        """There is no such file."""
