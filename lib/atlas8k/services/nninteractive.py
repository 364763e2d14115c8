"""nnInteractive's server, where somebody runs one: what do strokes on a CT mean?

https://github.com/MIC-DKFZ/nnInteractive (Isensee et al., 2025). The CT's voxels go there without
any header, with the organ as it is drawn and the strokes; what comes back is a proposal, see
:mod:`atlas8k.refine.adopt`. Its weights have a licence of their own, which whoever runs the
campaign accepts by name before anything is sent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    io_orientation,
    ornt_transform,
)

from atlas8k.core.errors import Atlas8kError, SettingsError
from atlas8k.core.grid import Grid
from atlas8k.core.parts import read_part, whole
from atlas8k.core.settings import Settings
from atlas8k.refine.strokes import Strokes
from atlas8k.services.errors import ConflictError, RequestError, UpstreamError

if TYPE_CHECKING:
    from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession as Remote

logger = logging.getLogger(__name__)

NAME = "nnInteractive"
UNKNOWN_LICENCE = "not stated"
"""What has to be accepted where the server does not know its weights' licence."""
MOST_CTS = 2
"""So many CTs are held there at once; its default is three sessions in all."""
ANSWER_S, CLOSE_S = 120.0, 5.0
SAID_S = 60.0
"""So long what the server says of itself is taken for granted by who only asks for it."""
NOT_UNDERSTOOD = (ValueError, LookupError, TypeError, AttributeError, RuntimeError)
"""What the client raises where a server of another version answers, or another program."""


@dataclass(frozen=True)
class About:
    """What a person is told before it is used: the weights' licence, and why it cannot be yet."""

    licence: str
    why_not: str = ""


@dataclass(eq=False)
class _There:
    """A session of the server with a CT in it."""

    key: tuple[Path, str]
    remote: Remote
    grid: Grid


class NnInteractive:
    """One server of nnInteractive.

    Parameters
    ----------
    url
        Such as ``http://gpu.example:1527``. Its key is taken from ``NN_INTERACTIVE_API_KEY``.
    accepted
        The licence of its weights, as whoever runs the campaign has typed it, with or without
        spaces.

    Raises
    ------
    SettingsError
        Its client is not installed.
    """

    def __init__(self, url: str, accepted: str) -> None:
        try:
            from nnInteractive.inference import remote
        except ImportError as err:
            raise SettingsError(
                "nninteractive: its client is not installed: pip install 'atlas8k[interactive]'"
            ) from err
        self._url, self._accepted, self._client = url, accepted, remote
        self._lock = threading.Lock()
        self._said: tuple[float, About] | None = None
        self._there: list[_There] = []  # the one used last at the end

    def about(self) -> About:
        """Return what is to be known of it; asks the server, but not more than once a minute."""
        said = self._said
        if said is not None and time.monotonic() < said[0] + SAID_S:
            return said[1]  # nobody waits for another's CT to be sent
        try:
            with self._turn(), self._words():
                if self._there:  # it has few sessions
                    return self._about(self._there[-1].remote)
                with self._session() as remote:
                    return self._about(remote)
        except UpstreamError as err:
            found = About("", str(err))
            self._said = time.monotonic(), found
            return found

    def propose(
        self, path: Path, fingerprint: str, grid: Grid, organ: npt.NDArray[np.bool_], drawn: Strokes
    ) -> tuple[npt.NDArray[np.bool_], str]:
        """Return the organ as the server sees it by the strokes, and its weights' licence.

        Parameters
        ----------
        path, fingerprint, grid
            The CT's file, what tells it from one that replaces it, and its own grid.
        organ
            ``grid.shape``, as it is drawn now.
        drawn
            Voxels of the CT's own array.

        Raises
        ------
        UpstreamError
            It does not answer, or is busy.
        ConflictError
            Nobody has accepted its licence.
        RequestError
            Its network takes no strokes.
        """
        with self._turn(), self._words():
            try:
                return self._proposed((path, fingerprint), grid, organ, drawn)
            except self._client.SessionExpiredError:  # idle, or the server was started again
                self._forget()
                return self._proposed((path, fingerprint), grid, organ, drawn)

    def close(self) -> None:
        """Let go of what the server holds for us."""
        with contextlib.suppress(UpstreamError), self._turn(CLOSE_S):
            self._forget()

    @contextlib.contextmanager
    def _turn(self, limit_s: float = ANSWER_S) -> Iterator[None]:
        if not self._lock.acquire(timeout=limit_s):
            raise UpstreamError(f"{NAME}: busy with another CT; try again")
        try:
            yield
        finally:
            self._lock.release()

    def _proposed(
        self, key: tuple[Path, str], grid: Grid, organ: npt.NDArray[np.bool_], drawn: Strokes
    ) -> tuple[npt.NDArray[np.bool_], str]:
        there = self._with(key, grid)
        remote = there.remote
        if not remote.supported_interactions.get("scribble"):
            raise RequestError(f"{NAME}: its network takes no strokes; choose another there")
        if organ.any() and not remote.supports_initial_label:
            raise RequestError(f"{NAME}: its network cannot correct a label; choose another there")
        found = np.zeros(_turned_shape(grid), dtype=np.uint8)
        remote.set_target_buffer(found)
        remote.reset_interactions()
        if organ.any():
            remote.add_initial_seg_interaction(_turned(organ.view(np.uint8), grid))
        for points, inside in ((drawn.outside, False), (drawn.inside, True)):
            if len(points):
                mask = np.zeros(grid.shape, dtype=np.uint8)
                mask[tuple(points.T)] = 1
                # It predicts about the last prompt alone: one after the other.
                remote.add_scribble_interaction(_turned(mask, grid), inside)
        return _turned_back(found, grid).astype(bool), _licence(remote)

    def _with(self, key: tuple[Path, str], grid: Grid) -> _There:
        """Return the session that has a CT; one that has another is given up where it must be."""
        known = next((one for one in self._there if one.key == key), None)
        if known is not None:
            self._there.remove(known)
            self._there.append(known)
            return known
        while len(self._there) >= MOST_CTS:
            self._there.pop(0).remote.close()
        remote = self._claimed()
        try:
            if why := self._about(remote).why_not:
                raise ConflictError(why)
            image = _turned(read_part(key[0], whole(grid.shape)), grid)
            remote.set_image(image[None], {"spacing": [*reversed(grid.canonical().spacing)]})
        except BaseException:
            remote.close()
            raise
        self._there.append(_There(key, remote, grid))
        return self._there[-1]

    def _claimed(self) -> Remote:
        try:
            return self._opened()
        except self._client.ServerAtCapacityError:
            if not self._there:
                raise
            self._there.pop(0).remote.close()
            return self._opened()

    def _opened(self) -> Remote:
        key = os.environ.get("NN_INTERACTIVE_API_KEY", "").strip()  # of a file, with its line end
        return self._client.nnInteractiveRemoteInferenceSession(
            self._url, key or None, read_timeout=ANSWER_S
        )

    @contextlib.contextmanager
    def _session(self) -> Iterator[Remote]:
        remote = self._opened()
        try:
            yield remote
        finally:
            remote.close()

    @contextlib.contextmanager
    def _words(self) -> Iterator[None]:
        """Say what is wrong with the server in words."""
        import httpx

        try:
            yield
        except Atlas8kError:
            raise
        except self._client.ServerAtCapacityError as err:
            raise UpstreamError(f"{NAME}: all of its sessions are in use; try again") from err
        except self._client.SessionExpiredError as err:
            raise UpstreamError(f"{NAME}: it ended our session; try again") from err
        except httpx.HTTPStatusError as err:
            self._forget()
            code = err.response.status_code
            why = "it wants a key, NN_INTERACTIVE_API_KEY" if code in (401, 403) else f"HTTP {code}"
            raise UpstreamError(f"{NAME} at {self._url}: {why}") from err
        except httpx.TransportError as err:
            self._forget()
            # An error of the protocol may quote the header that has the key.
            why = type(err).__name__ if isinstance(err, httpx.ProtocolError) else str(err)
            raise UpstreamError(f"{NAME} at {self._url} does not answer: {why}") from err
        except (httpx.HTTPError, httpx.InvalidURL, *NOT_UNDERSTOOD) as err:
            self._forget()
            logger.exception("%s at %s", NAME, self._url)
            why = f"what it answers is not understood ({type(err).__name__})"
            raise UpstreamError(f"{NAME} at {self._url}: {why}") from err

    def _forget(self) -> None:
        while self._there:
            with contextlib.suppress(Exception):
                self._there.pop().remote.close()

    def _about(self, remote: Remote) -> About:
        licence, why_not = _licence(remote), ""
        if _typed(licence) != _typed(self._accepted):
            why_not = (
                f"{NAME}: the licence of its weights is {licence!r}; whoever runs the campaign "
                f"accepts it by --conf nninteractive_licence {_typed(licence)}"
            )
        found = About(licence, why_not)
        self._said = time.monotonic(), found
        return found


def nninteractive_of(settings: Settings) -> NnInteractive | None:
    """Return the server that the settings name, None where they name none."""
    if not settings.nninteractive:
        return None
    return NnInteractive(settings.nninteractive, settings.nninteractive_licence or "")


def _licence(remote: Remote) -> str:
    said = (remote.license or "").strip()
    return UNKNOWN_LICENCE if not said or said.startswith("!!") else said


def _typed(licence: str) -> str:
    """Return a licence as it is typed: MONAI Label's command takes no spaces."""
    return re.sub(r"[\s_-]+", "-", licence.strip())


def _turned(array: npt.NDArray[Any], grid: Grid) -> npt.NDArray[Any]:
    """Return an array as SimpleITK has one of a CT nearest LPS: ``(Z, Y, X)``.

    nnInteractive was trained on arrays as SimpleITK reads files, which are mostly such.
    """
    to = ornt_transform(io_orientation(grid.affine), axcodes2ornt("LPS"))
    return np.ascontiguousarray(apply_orientation(array, to).transpose(2, 1, 0))


def _turned_back(array: npt.NDArray[Any], grid: Grid) -> npt.NDArray[Any]:
    back = ornt_transform(axcodes2ornt("LPS"), io_orientation(grid.affine))
    return np.ascontiguousarray(apply_orientation(array.transpose(2, 1, 0), back))


def _turned_shape(grid: Grid) -> tuple[int, int, int]:
    x, y, z = grid.canonical().shape
    return z, y, x
