"""MONAI Label's running application with our routes, bounds, sign-in and replies.

MONAI Label's own routes are ``async def`` around blocking work, so that one inference holds up
every other request; they take file names from requests and let ``params`` replace what the path
says. So none of them is left: ours have the same paths, methods, parameters and replies, and
FastAPI runs them in its thread pool. Three are not there: uploading and deleting a network, for
networks come from a training or from who runs the server, and whole-slide inference. Those that
neither 3D Slicer, OHIF nor our commands ask for are there with the setting `all_routes` alone.
"""

from __future__ import annotations

import logging

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from atlas8k.core.settings import Settings
from atlas8k.server import logs
from atlas8k.server.access import Requests
from atlas8k.server.faults import install_handlers
from atlas8k.server.hosts import HostNames, OwnPages
from atlas8k.server.limits import HeaderLimit
from atlas8k.server.routes import (
    campaign_page,
    case_page,
    case_parts,
    case_strokes,
    cases_page,
    dicomweb,
    exports,
    pages,
    review_page,
    rounds,
    sessions,
    sign_in,
    sweep,
    tasks,
)
from atlas8k.server.routes import cases as cases_routes
from atlas8k.server.routes import datastore as datastore_routes
from atlas8k.server.routes import review as review_routes
from atlas8k.server.routes import status as status_routes
from atlas8k.server.tokens import TokenRules, set_rules
from atlas8k.services import privacy

logger = logging.getLogger(__name__)

LEFT = {"/openapi.json", "/static", "/favicon.ico"}
"""Of MONAI Label's. Its ``/`` and ``/docs`` load scripts from the internet."""


EXTRA = (status_routes.extra, tasks.extra, datastore_routes.extra)
"""What no client of ours asks for."""


def install(app: FastAPI, settings: Settings, host: str = "") -> None:
    """Bring MONAI Label's running application into our form; once, later calls do nothing.

    Its own middleware lets web pages of every origin call it with the visitor's
    credentials; that is taken away.

    Parameters
    ----------
    host
        Name or address that the server listens on.
    """
    privacy.install(show_phi=settings.show_phi)
    set_rules(TokenRules.of(settings))
    logs.install()
    if getattr(app.state, "atlas8k", False):
        return  # `/reload` makes a new app object and keeps the routes
    app.state.atlas8k = True
    app.middleware_stack = None  # built when the server started; the next request does it anew
    app.user_middleware.clear()
    app.add_middleware(HeaderLimit)
    origins = [one.strip() for one in (settings.cors_origins or "").split(",") if one.strip()]
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    # The last one added is the first that a request meets.
    hosts = HostNames([host, *(settings.allowed_hosts or "").split(",")])
    logger.info("asked by any address, or as %s (--conf allowed_hosts)", hosts)
    app.add_middleware(OwnPages, hosts=hosts, origins=origins)
    app.add_middleware(Requests)
    app.router.routes[:] = [r for r in app.router.routes if getattr(r, "path", "") in LEFT]
    for router in (
        sign_in.router,
        sign_in.pages,
        status_routes.router,
        tasks.router,
        datastore_routes.router,
        sessions.router,
        cases_page.router,
        campaign_page.router,
        case_page.router,
        case_parts.router,
        rounds.router,
        exports.router,
        cases_routes.router,
        case_strokes.router,
        cases_routes.volumes,
        review_routes.labels,
        review_routes.reviews,
        review_page.router,
        sweep.router,
        pages.router,
        dicomweb.router,
        dicomweb.store,
        *(EXTRA if settings.all_routes else ()),
    ):
        app.include_router(router)
    install_handlers(app)
