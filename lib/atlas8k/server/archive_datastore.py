"""MONAI Label's datastore interface over an archive's series."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from atlas8k.core.volume import read_ct
from atlas8k.server.datastore import StudiesDatastore
from atlas8k.services.archive.session import ArchiveSession
from atlas8k.services.context import Context
from atlas8k.services.errors import RequestError, UpstreamError
from atlas8k.services.labels.ingest import ingest

_NO_IMAGES = "images come from the DICOM archive; "


class ArchiveDatastore(StudiesDatastore):
    """As :class:`StudiesDatastore`; images are series of an archive, fetched when needed.

    Parameters
    ----------
    session
        The archive and its working folder.
    show_personal
        Say of an image whose it is and when it was taken, as MONAI Label does.
    options
        Keywords of :class:`StudiesDatastore`.
    """

    def __init__(
        self, session: ArchiveSession, *, show_personal: bool = False, **options: Any
    ) -> None:
        self.archive, self._show_personal = session, show_personal
        super().__init__(session.folder, **options)

    def close(self) -> None:
        self.archive.close()

    def name(self) -> str:
        return self.studies.index.meta("name") or self.archive.archive.url

    def description(self) -> str:
        return self.studies.index.meta("description") or "CT series of a DICOM archive"

    # --- images -----------------------------------------------------------------------

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        info = super().get_image_info(image_id)
        if not self._show_personal:
            return info
        try:
            return {**info, **self.archive.archive.personal(image_id)}
        except UpstreamError:
            return info

    def add_image(
        self, image_id: str | None, image_filename: str, image_info: dict[str, Any] | None
    ) -> str:
        raise RequestError(_NO_IMAGES + "send the series there")

    def remove_image(self, image_id: str) -> None:
        raise RequestError(_NO_IMAGES + "delete the series there")

    # --- all of them ------------------------------------------------------------------

    def datalist(
        self, hidden: Collection[str] = (), full_path: bool = True
    ) -> list[dict[str, Any]]:
        self._fetch_finished(None)
        return super().datalist(hidden, full_path)

    def get_dataset_archive(self, limit_cases: int | None, hidden: Collection[str] = ()) -> str:
        self._fetch_finished(limit_cases)
        return super().get_dataset_archive(limit_cases, hidden)

    def _fetch_finished(self, limit: int | None) -> None:
        for volume in self.get_labeled_images()[: limit or None]:
            self.studies.known_image(volume)


def datastore_of(context: Context) -> StudiesDatastore:
    """Return MONAI Label's interface over the studies that are open."""
    if context.archive is None:
        return StudiesDatastore(context.studies, ingest=ingest, check_image=read_ct)
    return ArchiveDatastore(context.archive, show_personal=context.settings.show_phi, ingest=ingest)
