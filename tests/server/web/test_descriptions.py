"""The page of the interface shows what a route does, not how its docstring is laid out."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from atlas8k.server.guarded_route import GuardedRoute


def test_sections_and_roles_of_a_docstring_stay_out_of_the_interface() -> None:
    router = APIRouter(route_class=GuardedRoute)

    @router.get("/volumes")
    def volumes(order: str = "") -> None:
        """List volumes by ``order``, see :func:`~atlas8k.store.queue.order`.

        All of them.

        Raises
        ------
        RequestError
            There is no such order.
        """

    app = FastAPI()
    app.include_router(router)
    told = app.openapi()["paths"]["/volumes"]["get"]["description"]
    assert told == "List volumes by `order`, see `order`.\n\nAll of them."
