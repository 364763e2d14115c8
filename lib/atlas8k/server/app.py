"""The MONAI Label app: what is registered, and how requests reach it."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import requests
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from atlas8k import __version__
from atlas8k.core.acting import act_as_program
from atlas8k.core.errors import Atlas8kError
from atlas8k.core.files import only_one
from atlas8k.core.settings import Settings
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import read_grid, read_label
from atlas8k.server import background, logs, startup
from atlas8k.server.archive_datastore import datastore_of
from atlas8k.server.blind import draft_label
from atlas8k.server.connections import after_last_request, bound_connections, running_server
from atlas8k.server.sign_ins import sign_ins
from atlas8k.server.tasks.infer import AttentionInfer, DraftInfer, OrganInfer
from atlas8k.server.tasks.scoring import AttentionScoring
from atlas8k.server.tasks.strategy import DESCRIPTIONS, LedgerStrategy
from atlas8k.server.tasks.strokes import MODELS as STROKES
from atlas8k.server.tasks.strokes import StrokesInfer
from atlas8k.server.tasks.train import FineTuningTask
from atlas8k.server.workspace import write_looks
from atlas8k.services import privacy
from atlas8k.services.backups.place import note_settings
from atlas8k.services.context import Context
from atlas8k.services.errors import NotFoundError, RequestError
from atlas8k.services.labels.drafts import PSEUDO
from atlas8k.services.opening import open_context
from atlas8k.services.scoring import NewVolumes
from atlas8k.services.studies.folder import ORIGINAL
from atlas8k.services.studies.names import id_fault
from atlas8k.services.temporary import TemporaryFolder
from atlas8k.store import is_url

logger = logging.getLogger(__name__)

NETWORKS = ("swin_unetr", "unet", "nnunet")


class Atlas8kApp(MONAILabelApp):
    """The AbdomenAtlas-8K procedure behind MONAI Label's interface.

    Parameters
    ----------
    app_dir
        Folder of ``main.py``; checkpoints are in its ``model`` folder.
    studies
        Folder of CT volumes, or the URL of a DICOMweb server.
    conf
        ``--conf`` pairs, see :class:`atlas8k.core.settings.Settings`.

    Notes
    -----
    What cannot start ends the process with one line, see :func:`startup.give_up`.
    """

    context: Context
    _new_volumes: NewVolumes | None = None
    _started = False

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        try:
            self.settings = Settings.from_conf(conf or {})
            privacy.install(show_phi=self.settings.show_phi)
            logs.install()
            act_as_program(f"atlas8k {'server' if startup.in_server() else 'background task'}")
            if not startup.in_server():
                background.follow_server()
            super().__init__(
                app_dir=app_dir,
                # The ledger's place follows from the URL as it is written.
                studies=studies.strip().rstrip("/") if is_url(studies) else studies,
                conf=conf,
                name="atlas8k",
                description="AbdomenAtlas-8K: the CT most worth correcting, first",
                labels=list(ORGAN_NAMES),
            )
        except (Atlas8kError, OSError) as err:
            if Atlas8kApp._started:
                raise
            startup.give_up(err)

    # --- what is registered -----------------------------------------------------------

    def init_datastore(self) -> Datastore:
        startup.check_datastore()
        self.context = open_context(
            self.settings,
            self.studies,
            Path(self.app_dir) / "model",
            signed_in=bool(settings.MONAI_LABEL_AUTH_ENABLE),
        )
        self.labels = list(ORGAN_NAMES)  # of the campaign, which has been opened just now
        return datastore_of(self.context)

    def init_infers(self) -> dict[str, InferTask]:
        strokes = self.context.strokes
        draft = {
            "draft": DraftInfer(draft_label),
            **{
                name: StrokesInfer(strokes, draft_label, by)
                for by, name in STROKES.items()
                if by == "networks" or strokes.outside is not None
            },
        }
        if not self.settings.networks:
            return draft
        # The first one is what 3D Slicer runs on the next sample when told to.
        engine, quality = self.context.engine, self.context.calibrations
        return {
            "ensemble": OrganInfer(engine, None, quality),
            **{name: OrganInfer(engine, name, quality) for name in NETWORKS},
            "attention": AttentionInfer(engine, quality),
            **draft,
        }

    def init_trainers(self) -> dict[str, TrainTask]:
        return {"atlas8k": FineTuningTask(self.context)} if self.settings.networks else {}

    def init_strategies(self) -> dict[str, Strategy]:
        return {name: LedgerStrategy(self.context, name) for name in DESCRIPTIONS}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        return {"attention": AttentionScoring(self.context)} if self.settings.networks else {}

    def on_init_complete(self) -> None:
        application = sys.modules.get("monailabel.app")
        if application is not None:
            from atlas8k.server.install import install

            host, port = startup.bound_to()
            install(application.app, self.settings, host)
            # Before the signals are taken over.
            bound_connections(self.settings.max_connections)
            after_last_request(write_looks)
            if (server := running_server()) is not None:
                startup.remove_log_configuration(server.config.log_config)
                after_last_request(TemporaryFolder().close)
            background.end_with_server()
            self._record_start()
            startup.announce(host, port, self.studies, len(self.datastore().list_images()))
            if self.settings.networks:
                self.context.engine.warm_up()
        Atlas8kApp._started = True  # from now on errors do not end the process
        if application is None:
            self.context.sync(thorough=True)
        else:  # files that changed meanwhile are found while the first answers are given
            self.context.sync()
            threading.Thread(target=self._look_at_files, name="look-at-files", daemon=True).start()
        if application is not None and self.context.archive is not None:
            self.context.archive.keep_up()
        if self._first():
            self.context.ledger.rank_all_organs(self.settings.rank_all_organs)
            # What the server was not given stays as the ledger was told last.
            self.context.ledger.set_campaign(
                audit_percent=self.settings.audit_percent, stop_after=self.settings.stop_after
            )
            self.context.label_service.existing.start()
            self.context.label_watch.start()
            if self.settings.find_duplicates and self.context.archive is None:
                self.context.duplicate_watch.start(partial(startup.give_way, 15))
            note_settings(self.context, self.conf)
            if application is not None and self.settings.networks:
                scoring = partial(background.runs, "scoring")
                self._new_volumes = NewVolumes(self.context, self.score_again, scoring)
                self._new_volumes.watch(self.settings.score_new_s)
        super().on_init_complete()

    def _look_at_files(self) -> None:
        try:
            self.context.sync(thorough=True)
        except (Atlas8kError, OSError, RuntimeError) as err:  # it ends; or scoring looks again
            logger.warning("files were not looked at: %s", err)

    def close(self) -> None:
        """End what looks after the studies, and close files."""
        if self._new_volumes is not None:
            self._new_volumes.stop()
        self.context.close()

    def _record_start(self) -> None:
        """Enter the start into the audit trail, and log its last record: to be noted elsewhere."""
        ledger = self.context.ledger
        sign_in = bool(settings.MONAI_LABEL_AUTH_ENABLE)
        ledger.note_start({"version": __version__, "sign_in": sign_in}, self.settings.recorded())
        sign_ins.record_in(self.context.looks)
        head = ledger.audit_head()
        logger.info("audit trail: %d records, the last one %s", head.number, head.sha256)

    def _first(self) -> bool:
        """Return whether no other server has these studies open; log where one has."""
        self._alone = contextlib.ExitStack()  # held until this process ends
        if self._alone.enter_context(only_one(self.context.state / "server.lock")):
            return True
        logger.warning(
            "another server has these studies open; both serve them, from one ledger, "
            "and scoring and training run in one of them at a time"
        )
        return False

    def info(self) -> dict[str, Any]:
        meta: dict[str, Any] = super().info()
        meta["atlas8k"] = {
            **self.context.status(),
            "remarks": self.context.remarks(),
            "unlike": self.context.unlike(),
        }
        return meta

    # --- requests ---------------------------------------------------------------------

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Run one model on one image.

        Parameters
        ----------
        request
            ``model``; ``image``: an image's id, or the ``Path`` of an upload or session;
            ``save_label``, ``label_tag``: keep the result as a label of that tag.

        Raises
        ------
        NotFoundError
            Unknown model or image.
        RequestError
            A label may not be kept that way.
        """
        model, image = request.get("model"), request.get("image")
        task = self._infers.get(model)
        if task is None:
            raise NotFoundError("model", model, self._infers)
        tag: str | None = None
        if model in STROKES.values() and startup.truth(request.get("save_label")):
            raise RequestError(f"{model}: its result is one organ's mask; submit the whole label")
        if isinstance(image, Path):  # an upload or session: no request can hold a Path
            result, params = task({**request, "image": str(image)})
        else:
            if not isinstance(image, str) or not image:
                raise RequestError("image: the id of an image is needed")
            if id_fault(image) is not None:
                raise NotFoundError("image", image)
            path = str(self.context.studies.image_path(image))
            if startup.truth(request.get("save_label")):
                tag = background.result_tag(str(model), request.get("label_tag"))
            result, params = task({**request, "image": path, "volume": image})
        if tag is not None:
            self._store(str(image), result, tag, {"model": model, "params": params})
        return {"label": result, "tag": ORIGINAL, "file": result, "params": params}

    def _store(self, image: str, result: str, tag: str, info: dict[str, Any]) -> None:
        """Store a result as a label; what is asked for as a draft label is a pseudo label."""
        if tag not in (ORIGINAL, PSEUDO):
            self.datastore().save_label(image, result, tag, info)
            return
        label = read_label(result).array
        grid = read_grid(
            self.context.studies.image_path(image)
        )  # a result lies where clients see the CT
        model = {"model_version": info["params"].get("model_version")}
        self.context.label_service.keep_pseudo(image, label, grid, {**info, **model})

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return dict(startup.background(lambda: super(Atlas8kApp, self).train(request)))
        finally:
            self.context.note_training()

    def scoring(
        self, request: dict[str, Any], datastore: Datastore | None = None
    ) -> dict[str, Any]:
        return dict(startup.background(lambda: super(Atlas8kApp, self).scoring(request)))

    def async_scoring(self, method: str | None, params: Any = None) -> Any:
        """Start scoring in the background, unless nothing is stale or it runs already."""
        if background.runs("scoring"):
            return {}
        try:
            self.context.sync()
            if self.context.progress().complete:
                return {}
            return super().async_scoring(method, params)
        except (Atlas8kError, requests.RequestException) as err:
            # No networks, or, from a training process, a server that is gone or wants a
            # sign-in: what was asked for is done, scoring follows when it can.
            logger.warning("scoring was not started: %s", err)
            return {}

    def score_again(self) -> None:
        """Score what is stale in the background, where MONAI Label's settings let it do so."""
        if settings.MONAI_LABEL_AUTO_UPDATE_SCORING and self.settings.networks:
            self.async_scoring("attention")

    def on_save_label(self, image_id: str, label_id: str) -> None:
        super().on_save_label(image_id, label_id)
        if self.context.archive is not None:
            self.context.archive.wake()
