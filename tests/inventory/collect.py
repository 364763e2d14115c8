"""Collect every route, command and setting; run as a module, it prints them, one a line."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import typer


def settings() -> list[str]:
    """Return the names of all settings."""
    from atlas8k.core.settings import Settings

    return sorted(Settings.model_fields)


def commands() -> dict[str, list[str]]:
    """Return arguments and options by command, groups walked to their end."""
    from atlas8k.cli import app

    found: dict[str, list[str]] = {}

    def walk(command: Any, name: str) -> None:
        if hasattr(command, "commands"):
            for key, one in command.commands.items():
                walk(one, f"{name} {key}")
            if not command.invoke_without_command:
                return
        found[name] = sorted(
            text
            for one in command.params
            for text in (
                [*one.opts, *one.secondary_opts]
                if one.param_type_name == "option"
                else [str(one.name).upper()]
            )
            if text not in ("--help", "--install-completion", "--show-completion")
        )

    walk(typer.main.get_command(app), "atlas8k")
    return found


def routes() -> dict[str, list[str]]:
    """Return parameters by route (``"GET /info/"``) of the server as it starts by default."""
    from fastapi.params import Form
    from fastapi.routing import APIRoute
    from monailabel.app import app

    from atlas8k.core.settings import Settings
    from atlas8k.server.install import install

    install(app, Settings())
    found = {}

    def fields(one: Any) -> Iterable[str]:
        form = isinstance(one.field_info, Form) and hasattr(
            one.field_info.annotation, "model_fields"
        )
        return one.field_info.annotation.model_fields if form else [one.alias]

    def walk(all_routes: Iterable[Any]) -> None:
        for route in all_routes:
            if hasattr(route, "original_router"):  # FastAPI includes routers as one route
                walk(route.original_router.routes)
            elif isinstance(route, APIRoute):
                taken = route.dependant
                given = [*taken.path_params, *taken.query_params, *taken.body_params]
                names = {name for one in given for name in fields(one)}
                for method in sorted(route.methods or ()):
                    found[f"{method} {route.path}"] = sorted(names)

    walk(app.routes)
    return dict(sorted(found.items()))


def collect() -> list[str]:
    """Return one line for each setting, command, argument, option, route and parameter."""
    lines = [f"setting {name}" for name in settings()]
    for kind, found in (("command", commands()), ("route", routes())):
        for name, values in found.items():
            lines += [f"{kind} {name}", *(f"{kind} {name} : {value}" for value in values)]
    return sorted(lines)


if __name__ == "__main__":
    sys.stdout.write("\n".join(collect()) + "\n")
