"""Names this server answers to, and web pages that may change something through it.

Without sign-in, whoever reaches the port may do everything; a page of another site in the browser
of somebody at the same machine must not reach it. Two ways are closed here:

- A page gives its own name the server's address (DNS rebinding) and reads and writes as if it were
  a page of this server. Its requests carry that name in ``Host``, so only names that are known are
  answered. An address needs no name and cannot be given to another, so every address is.
- A page posts a form to this server. Browsers say in ``Origin`` or ``Sec-Fetch-Site`` which site a
  request is from; programs such as 3D Slicer send neither.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

ANY = "*"
READING = {"GET", "HEAD", "OPTIONS"}
"""Methods whose routes change nothing; replies to them cannot be read by pages of other sites."""
OWN_PAGE = "atlas8k.own_page"
"""In the scope of a request: the browser says that a page of this server has sent it."""
LONGEST = 255
"""Of a host's name with its port: more is no name (RFC 1035)."""


def host_name(host: str) -> str:
    """Return the name or address of a ``Host`` header: without port, brackets and final dot.

    Empty where it is none.
    """
    if len(host) > LONGEST or "@" in host or "/" in host:
        return ""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:  # a bracket too few
        return ""


def authority(host: str) -> str:
    """Return host and port in one form, without the port that HTTP or HTTPS has by itself."""
    return host.strip().lower().removesuffix(":80").removesuffix(":443")


class HostNames:
    """Names and addresses that requests may be for.

    Parameters
    ----------
    names
        Host names; one that begins with ``*.`` stands for every name below it, ``*`` alone for
        every name. Those of this machine and of the loopback interface are always among them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        own = socket.gethostname()
        short = own.partition(".")[0]
        given = {*names, own, short, f"{short}.local", "localhost"}  # .local: never by DNS
        self._names = {name.strip().lower().rstrip(".") for name in given if name.strip()}

    def __str__(self) -> str:
        """Return the names for people, in order."""
        return ", ".join(sorted(self._names))

    def __contains__(self, host: object) -> bool:
        """Return whether a ``Host`` header names this server."""
        name = host_name(str(host))
        if not name:
            return False
        if ANY in self._names or name in self._names or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            above = name.partition(".")
            while above[2]:
                if f"*.{above[2]}" in self._names:
                    return True
                above = above[2].partition(".")
            return False
        return True


class OwnPages:
    """ASGI middleware: replies 403 to other hosts' names and to what other sites' pages send.

    Whether a page of this server has sent a request is noted in its scope, :data:`OWN_PAGE`.

    Parameters
    ----------
    app
        What comes after it.
    hosts
        Names of this server.
    origins
        Further sites whose pages may call it, ``*`` for all.
    """

    def __init__(self, app: ASGIApp, hosts: HostNames, origins: Iterable[str] = ()) -> None:
        self._app, self._hosts = app, hosts
        self._origins = {origin.strip().rstrip("/").lower() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            scope[OWN_PAGE] = self.own_page(headers)
            if reason := self.fault(scope["method"], headers):
                logger.info("%s %s: 403 %s", scope["method"], scope["path"][:200], reason)
                reply = JSONResponse({"error": "ForeignPageError", "detail": reason}, 403)
                await reply(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def fault(self, method: str, headers: Headers) -> str:
        """Return why a request is not answered, empty where it is."""
        host = headers.get("host", "")
        # Browsers always name a host; HTTP/1.0 needs none.
        if host and host not in self._hosts:
            name = host_name(host)[:80]
            return (
                f"this server is not known as {name!r}; open it by its address, or start it with "
                "--conf allowed_hosts and the names it has"
            )
        if method in READING:
            return ""
        origin = headers.get("origin")
        if origin is None:
            # Some browsers leave the origin out where a page is not to tell it.
            foreign = headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}
        else:
            may = ANY in self._origins or origin.lower() in self._origins
            foreign = not (may or self.own_page(headers))
        return "sent by a page of another site; open this server's own page" if foreign else ""

    def own_page(self, headers: Headers) -> bool:
        """Return whether the browser says that a page of this server has sent the request.

        A proxy that gives the server another host's name says the browser's in
        ``X-Forwarded-Host``, which pages of other sites cannot send; it counts where it is a name
        of this server.
        """
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is None:
            return site == "same-origin"
        if site in {"same-site", "cross-site"}:  # the origin may be of another scheme or port
            return False
        hosts = [headers.get("host", "")]
        forwarded = headers.get("x-forwarded-host", "").partition(",")[0]
        if forwarded in self._hosts:
            hosts.append(forwarded)
        where = origin.lower().partition("://")[2]
        return bool(where) and authority(where) in {authority(host) for host in hosts}
