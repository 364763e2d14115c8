"""What every request meets on its way: bounds, sign-in, who may call, our routes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from monailabel.interfaces.utils.app import app_instance

from atlas8k.server import privacy
from atlas8k.server.archive import routes as archive_routes
from atlas8k.server.cases import page as cases_page
from atlas8k.server.cases import routes as cases_routes
from atlas8k.server.web import (
    api,
    campaign_routes,
    label_routes,
    landing,
    pages,
    review_routes,
    routes,
    sessions,
    signin,
    usability_routes,
    work,
)
from atlas8k.server.web.limits import Limits
from atlas8k.settings import Settings


def install(app: FastAPI, settings: Settings) -> None:
    """Bring MONAI Label's running application into our form; once, later calls do nothing.

    Its own middleware lets web pages of every origin call it with the visitor's
    credentials; that is taken away.
    """
    privacy.install(show_phi=settings.show_phi)
    if getattr(app.state, "atlas8k", False):
        return
    theirs: Any = CORSMiddleware
    app.middleware_stack = None  # built when the server started; the next request does it anew
    app.user_middleware = [item for item in app.user_middleware if item.cls is not theirs]
    app.add_middleware(Limits, upload_mb=lambda: app_instance().settings.upload_mb)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=[origin.strip() for origin in settings.cors_origins.split(",")],
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    signin.install(app)
    routes.install(
        app,
        api.router,
        campaign_routes.router,
        cases_page.router,
        cases_routes.router,
        label_routes.router,
        review_routes.router,
        usability_routes.router,
        archive_routes.router,
        work.router,
        sessions.router,
        pages.router,
        landing.router,
        signin.router,
    )
