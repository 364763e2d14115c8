"""A client of a DICOMweb server: requests with bounds, and one error.

PS3.18: QIDO-RS lists series, WADO-RS gives headers and instances, STOW-RS takes them.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.ext.gcp.session_utils import create_session_from_gcp_credentials
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from atlas8k.services.archive.series import check_whole
from atlas8k.services.errors import ConflictError, NotFoundError, UpstreamError

logger = logging.getLogger(__name__)

CONNECT_S = 5.0
PAGE = 5000
"""Series asked for at once."""
FIELDS = ["NumberOfSeriesRelatedInstances", "PatientID", "StudyDate", "SeriesDescription"]
_DAY = re.compile(r"^(\d{4})(\d{2})(\d{2})$")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
DEFAULT_FILTER = {"Modality": "CT"}
HALF = (
    *(ConnectionError, TimeoutError, EOFError, InvalidDicomError),
    *(ValueError, KeyError, TypeError, AttributeError, NotImplementedError),
)
"""What becomes of half an answer in the client and in pydicom."""
PERSONAL = ("PatientID", "StudyDate", "StudyTime")
"""What MONAI Label says of a series; shown where patients' data are."""


class ArchiveAccess(BaseSettings):
    """How an archive is reached: MONAI Label's own environment variables, and its ``.env``.

    ``MONAI_LABEL_DICOMWEB_USERNAME``, ``MONAI_LABEL_QIDO_PREFIX`` and so on.
    """

    model_config = SettingsConfigDict(env_prefix="MONAI_LABEL_", env_file=".env", extra="ignore")

    datastore_username: str = ""
    datastore_password: str = ""
    dicomweb_username: str = ""
    dicomweb_password: str = ""
    qido_prefix: str | None = None
    wado_prefix: str | None = None
    stow_prefix: str | None = None
    dicomweb_search_filter: dict[str, Any] = Field(default_factory=lambda: dict(DEFAULT_FILTER))
    dicomweb_proxy_timeout: float = 30.0

    @property
    def credentials(self) -> tuple[str, str] | None:
        """Name and password, where both are given."""
        name = self.datastore_username or self.dicomweb_username
        word = self.datastore_password or self.dicomweb_password
        return (name, word) if name and word else None


class _AnyMultipart(DICOMwebClient):
    """Take an instance that comes in no multipart message for one, as some archives send it."""

    def _decode_multipart_message(self, response: requests.Response, stream: bool) -> Any:
        kind = response.headers["content-type"].partition(";")[0].strip().lower()
        if kind != "multipart/related":
            response.headers["content-type"] = "multipart/related"
        return super()._decode_multipart_message(response, stream)


def is_uid(text: str) -> bool:
    """Whether `text` can be a DICOM UID (PS3.5, 9.1)."""
    return len(text) <= 64 and bool(_UID.fullmatch(text))


@dataclass(frozen=True)
class Found:
    """A series as the archive lists it; ``instances`` is 0 where the archive does not count.

    ``patient`` (PatientID) is for comparing in memory: it is written nowhere, and shown in
    no message. ``name`` is what people know the series by, of patient, day and description; it
    stays in memory, too, and is shown where patients' data are.
    """

    uid: str
    study: str
    modality: str
    instances: int
    patient: str = field(default="", repr=False)
    name: str = field(default="", repr=False)


class _Bounded(HTTPAdapter):
    """Every request ends: the client itself waits for ever."""

    def __init__(self, read_s: float) -> None:
        super().__init__()
        self._read_s = read_s

    def send(self, request: Any, **more: Any) -> requests.Response:  # type: ignore[override]
        if more.get("timeout") is None:
            more["timeout"] = (CONNECT_S, self._read_s)
        return super().send(request, **more)


class Archive:
    """One DICOMweb server.

    Parameters
    ----------
    url
        Its DICOMweb root, such as ``http://127.0.0.1:8042/dicom-web``.
    access
        How it is reached; of the environment where not given.
    """

    def __init__(self, url: str, access: ArchiveAccess | None = None) -> None:
        self.url = url.rstrip("/")
        self.access = access or ArchiveAccess()
        self.names: Mapping[str, str] = {}
        """What people know series by, see :class:`Found`, as of the last :meth:`series`."""
        # Warnings about a value would show it.
        pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
        logging.getLogger("pydicom").setLevel(logging.ERROR)
        logging.getLogger("dicomweb_client").setLevel(logging.WARNING)
        self._client = _AnyMultipart(
            url=self.url,
            session=_session(self.url, self.access),
            qido_url_prefix=self.access.qido_prefix,
            wado_url_prefix=self.access.wado_prefix,
            stow_url_prefix=self.access.stow_prefix,
        )
        # Its own waiting grows to minutes; who asks here can ask again.
        self._client.set_http_retry_params(retry=False)

    def answers(self) -> None:
        """Ask the least there is to ask.

        Raises
        ------
        UpstreamError
            The archive does not answer.
        """
        with self._asked("answer"):
            self._client.search_for_series(limit=1)

    def series(self) -> dict[str, Found]:
        """Every series of the search filter, by SeriesInstanceUID.

        MONAI Label's own filter is left out: what is no CT is listed as refused.

        Raises
        ------
        UpstreamError
            The archive does not answer.
        """
        wanted = dict(self.access.dicomweb_search_filter)
        if wanted == DEFAULT_FILTER:
            wanted = {}
        found: dict[str, Found] = {}
        with self._asked("list its series"):
            while True:
                page = self._client.search_for_series(
                    search_filters=wanted, fields=FIELDS, limit=PAGE, offset=len(found)
                )
                new = [one for row in page if (one := _found(row)) and one.uid not in found]
                if not new:  # the end, or an archive that always gives the whole list
                    self.names = {uid: one.name for uid, one in found.items() if one.name}
                    return found
                found |= {one.uid: one for one in new}

    def one(self, uid: str) -> Found | None:
        """One series, ``None`` where the archive has it not.

        Raises
        ------
        UpstreamError
            The archive does not answer.
        """
        if not is_uid(uid):
            return None
        with self._asked("look for a series"):
            page = self._client.search_for_series(
                search_filters={"SeriesInstanceUID": uid}, fields=FIELDS
            )
        return next((one for row in page if (one := _found(row)) and one.uid == uid), None)

    def personal(self, uid: str) -> dict[str, str]:
        """Return what MONAI Label says of a series beside its UIDs: see :data:`PERSONAL`."""
        with self._asked("describe a series"):
            page = self._client.search_for_series(
                search_filters={"SeriesInstanceUID": uid}, fields=list(PERSONAL)
            )
        first = Dataset.from_json(page[0]) if page else Dataset()
        return {key: str(first[key].value) for key in PERSONAL if first.get(key)}

    def headers(self, study: str, uid: str) -> list[Dataset]:
        """Headers of a series' instances, without bulk data.

        Raises
        ------
        NotFoundError
            There is no such series.
        UpstreamError
            The archive does not answer.
        """
        with self._asked("give headers", uid):
            rows = self._client.retrieve_series_metadata(study, uid)
            found = [Dataset.from_json(row, bulk_data_uri_handler=_nothing) for row in rows]
        for header in found:
            header.pop("PixelData", None)  # a mere address
        return found

    def instances(self, study: str, uid: str) -> Iterator[Dataset]:
        """Instances of a series, as they come in.

        Raises
        ------
        NotFoundError, UpstreamError
            As :meth:`headers`; also after some have come.
        """
        with self._asked("give a series", uid):
            for instance in self._client.iter_series(study, uid):
                check_whole(instance)
                yield instance

    def download(self, study: str, uid: str, folder: Path) -> int:
        """Write a series' instances to files ``00001.dcm``, ...; how many there were.

        Raises
        ------
        NotFoundError, UpstreamError
            As :meth:`headers`.
        OSError
            The folder cannot be written to.
        """
        count = 0
        with self._asked("give a series", uid):
            for count, instance in enumerate(self.instances(study, uid), start=1):
                instance.save_as(folder / f"{count:05d}.dcm", write_like_original=False)
        return count

    def store(self, dataset: Dataset) -> None:
        """Store one instance.

        Raises
        ------
        ConflictError
            The archive refuses it.
        UpstreamError
            It does not answer.
        """
        with self._asked("store a label"):
            try:
                reply = self._client.store_instances([dataset])
            except requests.HTTPError as err:
                code = err.response.status_code if err.response is not None else 0
                if code in {400, 409, 415, 422}:
                    raise ConflictError(f"the DICOM archive refuses the label ({code})") from err
                raise
        failed = reply.get("FailedSOPSequence")
        if failed:
            why = failed[0].get("FailureReason", "no reason given")
            raise ConflictError(f"the DICOM archive refuses the label (reason {why})")

    @contextlib.contextmanager
    def _asked(self, what: str, uid: str = "") -> Iterator[None]:
        """Raise what goes wrong inside as one of our errors."""
        try:
            yield
        except requests.HTTPError as err:
            code = err.response.status_code if err.response is not None else 0
            if code == 404 and uid:
                raise NotFoundError("series in the DICOM archive", uid) from err
            if code in {401, 403}:
                reason = (
                    f"refuses to {what} ({code}); set MONAI_LABEL_DICOMWEB_USERNAME and "
                    "MONAI_LABEL_DICOMWEB_PASSWORD"
                )
            else:
                reason = f"fails to {what} ({code})"
            raise UpstreamError(f"the DICOM archive {self.url} {reason}") from err
        except (requests.RequestException, HTTPError, *HALF) as err:
            raise UpstreamError(self._away(what, err)) from err

    def _away(self, what: str, error: Exception) -> str:
        return (
            f"the DICOM archive {self.url} does not {what} ({type(error).__name__}); nothing is "
            "lost: start it or wait for it, then do the same again"
        )


def _session(url: str, access: ArchiveAccess) -> requests.Session:
    """Return a session that signs in as MONAI Label does, with bounds on every request."""
    if "googleapis.com" in url:
        session: requests.Session = create_session_from_gcp_credentials()
    else:
        session = requests.Session()
        session.auth = access.credentials
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Bounded(access.dicomweb_proxy_timeout))
    return session


def _nothing(*_: object) -> None:
    """Bulk data is not fetched for a header."""


def _found(row: Mapping[str, Any]) -> Found | None:
    """Read a row of QIDO-RS; ``None`` where it lacks what a series must have."""
    uid, study = _value(row, "0020000E"), _value(row, "0020000D")
    if not (is_uid(uid) and is_uid(study)):
        return None
    count = _value(row, "00201209")
    instances = int(count) if count.isdecimal() else 0
    patient, words = _value(row, "00100020").strip(), _value(row, "0008103E").strip()
    day = _DAY.sub(r"\1-\2-\3", _value(row, "00080020").strip())
    # A description alone names nothing: half of an archive may have the same.
    name = ", ".join(filter(None, [patient, day, words])) if patient or day else ""
    return Found(uid, study, _value(row, "00080060"), instances, patient, name)


def _value(row: Mapping[str, Any], tag: str) -> str:
    values = row.get(tag, {}).get("Value") or [""]
    return str(values[0])
