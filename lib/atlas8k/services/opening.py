"""A studies folder or an archive opened, with its ledger, its networks and its device."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

import psutil

from atlas8k.core.errors import CheckpointError, SettingsError
from atlas8k.core.rankings import DEFAULT_RANKING
from atlas8k.core.settings import Settings
from atlas8k.core.structure_sets import find_set
from atlas8k.models.store import ModelStore
from atlas8k.services.archive.client import Archive
from atlas8k.services.archive.folder import WORKING
from atlas8k.services.archive.session import ArchiveSession
from atlas8k.services.context import Context
from atlas8k.services.device_lock import DeviceLock
from atlas8k.services.gold import open_gold
from atlas8k.services.labels.label_watch import LabelWatch
from atlas8k.services.labels.service import LabelService
from atlas8k.services.prediction.cache import PredictionCache
from atlas8k.services.prediction.engine import (
    Engine,
    attention_settings,
    device,
    ensemble_settings,
)
from atlas8k.services.privacy import cleaned_json
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.inspection import Inspector
from atlas8k.services.studies.opening import open_ledger
from atlas8k.services.studies.served import geometry_remarks, geometry_stamp
from atlas8k.store import Ledger, is_url, locate
from atlas8k.training.split import read_patients

logger = logging.getLogger(__name__)

_CREATION_MARGIN_S = 1.0


def open_context(
    settings: Settings, studies: str, models: Path, *, signed_in: bool | None = None
) -> Context:
    """Open a studies folder with its ledger and networks.

    Parameters
    ----------
    studies
        Folder of CT volumes, or the URL of a DICOMweb server.
    models
        Folder of the checkpoints, where the settings name none.
    signed_in
        Whether people sign in to the server that opens it, which gold cases need; None: it is
        no server, and which they are stays as the server has it.

    Raises
    ------
    SettingsError
        The folder is missing or not writable; gold cases cannot be used; a weight is of no
        network that is served; the table of patients is none.
    LedgerFileError
        The ledger cannot be used.
    """
    if settings.patients is not None:
        read_patients(settings.patients)  # said now, and not when a training begins
    if not is_url(studies):
        check_studies(studies)  # before anything is made in it
    path = settings.ledger or locate(studies)
    root = path.parent / WORKING if is_url(studies) else Path(studies)
    wanted = find_set(settings.structures) if settings.structures else None
    ledger = open_ledger(
        root,
        path,
        structures=wanted,
        budget=settings.budget,
        lease_minutes=settings.lease_minutes,
    )
    archive, folder = _open_studies(settings, studies, ledger)
    store = ModelStore(
        settings.models or models, attention_settings(settings), off=not settings.networks
    )
    with contextlib.suppress(CheckpointError):  # without networks there is nothing to weigh
        ensemble_settings(settings).weights.check(store.served().checkpoints)
    lock = DeviceLock(path.parent / "device", device(settings))
    ledger.propose_ranking(settings.ranking or DEFAULT_RANKING)
    if settings.ranking and ledger.set_ranking(settings.ranking):
        logger.info("volumes are ordered by ranking %s from now on", settings.ranking)
    with contextlib.suppress(CheckpointError):
        if ledger.ranked_by() == "pairwise_dice" and len(store.served().checkpoints) < 2:
            logger.warning(
                "ranking pairwise_dice compares networks, and one is served: it puts all volumes "
                "in the same place; choose another ranking, or add a network"
            )
    if settings.selection and ledger.set_selection(settings.selection):
        logger.info("lists are drawn by selection %s from now on", settings.selection)
    cache = PredictionCache(
        path.parent / "cache",
        settings.cache_gb,
        lambda: most_wanted(ledger, store.served().model_version),
    )
    if archive is not None:
        archive.stay(
            held=lambda: {lease.volume for lease in ledger.leases()},
            learnt=lambda: _submitted(ledger),
        )
    labels = LabelService(
        folder,
        review_percent=settings.review_percent,
        double_read_percent=settings.double_read_percent,
        from_scratch=settings.double_read_start == "empty",
    )
    gold = None
    if signed_in is not None and settings.gold is not None:
        gold = open_gold(labels, settings.gold, signed_in=signed_in)
    elif signed_in is not None:
        ledger.set_gold(())
    return Context(
        settings=settings,
        studies=folder,
        models=store,
        engine=Engine(settings, store, lock, cache),
        device=lock,
        ledger=ledger,
        state=path.parent,
        label_service=labels,
        label_watch=LabelWatch(folder, settings.check_labels_hours),
        archive=archive,
        gold=gold,
    )


def _open_studies(
    settings: Settings, studies: str, ledger: Ledger
) -> tuple[ArchiveSession | None, StudiesFolder]:
    shown = str if settings.show_phi else cleaned_json
    if is_url(studies):
        session = ArchiveSession(
            Archive(studies),
            ledger.path.parent / WORKING,
            poll_s=settings.dicom_poll_s,
            ledger=ledger,
            shown=shown,
            limit_gb=settings.dicom_cache_gb,
            days=settings.dicom_cache_days,
        )
        session.begin()
        return session, session.folder
    return None, StudiesFolder(
        studies,
        ledger=ledger,
        shown=shown,
        served_gb=settings.served_gb,
        inspectors=[Inspector("geometry", geometry_remarks, geometry_stamp)],
    )


def check_studies(studies: str) -> Path:
    """Return the studies folder, or raise where there was none before this start.

    ``monailabel start_server`` makes a missing folder, so that a typing error serves an
    empty one; an empty folder younger than this process is taken for that and removed.

    Raises
    ------
    SettingsError
        Missing, not a folder, or not writable.
    """
    folder = Path(studies)
    if folder.is_dir() and not any(folder.iterdir()):
        started = psutil.Process().create_time()
        if folder.stat().st_mtime > started + _CREATION_MARGIN_S:
            folder.rmdir()
    if not folder.is_dir():
        raise SettingsError(
            f"--studies {studies}: there is no such folder; give a folder of CT volumes "
            "(case.nii.gz or case/ct.nii.gz), or make an empty one to upload into"
        )
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise SettingsError(
            f"--studies {studies}: the folder must be readable and writable, labels go there"
        )
    return folder


def _submitted(ledger: Ledger) -> set[str]:
    states = ledger.statuses().items()
    return {name for name, state in states if state in ("submitted", "conflict")}


def most_wanted(ledger: Ledger, model_version: str) -> list[str]:
    """Return what somebody holds, then as many from the top of the list as a round reviews."""
    held = [lease.volume for lease in ledger.leases()]
    ranked_by, budget = ledger.ranking_model_version(model_version), ledger.budget()
    if ranked_by is None or budget is None:
        return held
    top = ledger.ranking(ranked_by, open_only=True, limit=budget.total)
    return list(dict.fromkeys([*held, *(line.volume for line in top)]))
