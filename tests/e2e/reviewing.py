"""What tests of reviews send: labels of slabs, as annotators and reviewers do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import requests
from tests.e2e.harness import Server
from tests.e2e.small import LIMIT_S
from tests.server.tiny import GRID

from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.services.labels.service import LabelService

Array = npt.NDArray[np.uint8]
INFO = [{"name": name, "idx": i} for name, i in ORGAN_IDS.items()]


def slabs(**where: tuple[int, int]) -> Array:
    array = np.zeros(GRID.shape, np.uint8)
    for organ, (start, stop) in where.items():
        array[start:stop] = ORGAN_IDS[organ]
    return array


class Client:
    """The requests of annotators and reviewers."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder

    def get(self, path: str, code: int = 200) -> Any:
        answer = requests.get(self.server.url + path, timeout=LIMIT_S)
        assert answer.status_code == code, answer.text[:500]
        return answer.json()

    def post(self, path: str, code: int = 200, **body: Any) -> Any:
        answer = requests.post(self.server.url + path, json=body, timeout=LIMIT_S)
        assert answer.status_code == code, answer.text[:500]
        return answer.json()

    def next(self, who: str, strategy: str = "first") -> Any:
        return self.post(f"/activelearning/{strategy}", client_id=who)

    def send(self, who: str, image: str, array: Array, **params: Any) -> Any:
        path = write_nifti(self.folder / "sent.nii.gz", array, GRID)
        answer = self.raw(image, "label.nii.gz", path.read_bytes(), client_id=who, **params)
        assert answer.status_code == 200, answer.text[:500]
        return answer.json()

    def raw(self, image: str, name: str, content: bytes, **params: Any) -> requests.Response:
        return requests.put(
            f"{self.server.url}/datastore/label?image={image}",
            files={"label": (name, content)},
            data={"params": json.dumps({"label_info": INFO, **params})},
            timeout=LIMIT_S,
        )

    def label(self, image: str, tag: str) -> Array:
        where = f"{self.server.url}/datastore/label?label={image}&tag={tag}"
        answer = requests.get(where, timeout=LIMIT_S)
        assert answer.status_code == 200, answer.text[:300]
        path = self.folder / "got.nii.gz"
        path.write_bytes(answer.content)
        return read_label(path).array

    def organ(self, image: str, organ: int, tag: str = "original") -> list[int]:
        found = (self.label(image, tag) == organ).any(axis=(1, 2))
        return [int(x) for x in np.flatnonzero(found)]


def bring(server: Server, image: str, **pseudo: tuple[int, int]) -> LabelService:
    """A pseudo label from another process, as scoring does; the label_service of that process."""
    label_service = LabelService.open(server.studies)
    label_service.keep_pseudo(image, slabs(**pseudo), GRID, {"model_version": "none"})
    return label_service
