"""A guard of every route of a ComfyUI that the bridge supervises, and not of our routes alone.

ComfyUI itself answers whoever reaches its port, and a page of any website reaches the ports of the
machine that its reader sits at. So the bridge has its own ComfyUI guarded, by COMFY2MQTT_GUARD=1
beside the secret in the environment: a request has to bring

- the secret, in a header; the bridge does, and a page cannot know it; or
- the cookie of a browser that was let in by a link, from a page of this very ComfyUI, under a name
  of this machine.

    POST /comfy2mqtt/links        with the secret: a new link, good once and for a minute
    GET  /comfy2mqtt/open?link=   sets the cookie, and leads to the page
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.typedefs import Middleware

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)

SECRET_HEADER = "X-Comfy2MQTT-Secret"  # noqa: S105 - the header's name
OPEN = "/comfy2mqtt/open"
LINKS = "/comfy2mqtt/links"

LINK_S = 60.0
SESSION_S = 12 * 3600.0
# The oldest makes room: nobody has so many browsers, or so many links in a minute.
MOST = 16

_REFUSED = (
    "This ComfyUI belongs to comfy2mqtt and answers nobody else. "
    "`comfy2mqtt comfyui open`, on this machine, gives a link to its page."
)
# No script, so that a policy without scripts lets it pass. The browser continues by itself: a
# redirect would count as coming from wherever the link was clicked, and the cookie stay behind.
_WELCOME = (
    "<!doctype html><meta charset=utf-8><title>ComfyUI</title>"
    "<meta http-equiv=refresh content='0;url=/'><p><a href=/>ComfyUI</a>"
)


class Tokens:
    """Random tokens that are good for `lasts_s` seconds; compared in constant time."""

    def __init__(self, lasts_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._lasts_s = lasts_s
        self._now = now
        self._until: dict[str, float] = {}

    def draw(self) -> str:
        """A new one."""
        self._forget()
        while len(self._until) >= MOST:
            del self._until[next(iter(self._until))]
        token = secrets.token_urlsafe(32)
        self._until[token] = self._now() + self._lasts_s
        return token

    def knows(self, token: str) -> bool:
        """True if this token is valid."""
        self._forget()
        return self._find(token) is not None

    def spend(self, token: str) -> bool:
        """Return True if this token was valid, and make it invalid."""
        self._forget()
        found = self._find(token)
        if found is not None:
            del self._until[found]
        return found is not None

    def _find(self, token: str) -> str | None:
        offered, found = token.encode(errors="surrogateescape"), None
        for each in self._until:
            if hmac.compare_digest(each.encode(), offered):
                found = each
        return found

    def _forget(self) -> None:
        now = self._now()
        self._until = {token: until for token, until in self._until.items() if until > now}


class Guard:
    """The guard of one ComfyUI process; `name` tells its cookie from those on other ports."""

    def __init__(self, secret: str, name: str, now: Callable[[], float] = time.monotonic) -> None:
        self._secret = secret.encode()
        self._cookie = f"comfy2mqtt-{name[:12]}"
        self._links = Tokens(LINK_S, now)
        self._sessions = Tokens(SESSION_S, now)

    def install(self, app: web.Application, table: web.RouteTableDef) -> bool:
        """Put it before everything that ComfyUI serves; False, and a line in the log, if not.

        Custom nodes are imported before the server starts: until then its middlewares can be added
        to, and the first one is asked first, for static files and unknown paths too.
        """
        try:
            app.middlewares.insert(0, self._middleware())
        except (AttributeError, RuntimeError) as error:
            log.warning("comfy2mqtt: ComfyUI is not guarded, any program may use it: %s", error)
            return False
        table.post(LINKS)(self.new_link)
        table.get(OPEN)(self.open)
        return True

    def lets_in(self, path: str, headers: Mapping[str, str]) -> bool:
        """Return True if a request may pass, by its path and headers."""
        offered = headers.get(SECRET_HEADER)
        if offered is not None:
            return hmac.compare_digest(offered.encode(errors="surrogateescape"), self._secret)
        if not _is_of_this_machine(headers):
            return False
        return path == OPEN or self._sessions.knows(self._session_of(headers))

    async def new_link(self, request: web.Request) -> web.Response:
        """Answer with the path of a new link. A browser that was let in cannot let in another."""
        if SECRET_HEADER not in request.headers:
            return _refusal()
        return web.json_response({"path": f"{OPEN}?link={self._links.draw()}", "lasts_s": LINK_S})

    async def open(self, request: web.Request) -> web.Response:
        """Set the cookie of a browser that comes with a link."""
        if not self._links.spend(request.query.get("link", "")):
            return _refusal()
        response = web.Response(text=_WELCOME, content_type="text/html")
        response.set_cookie(
            self._cookie, self._sessions.draw(), path="/", httponly=True, samesite="Strict"
        )
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    def _session_of(self, headers: Mapping[str, str]) -> str:
        try:
            found = SimpleCookie(headers.get("Cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return found.value if found is not None else ""

    def _middleware(self) -> Middleware:
        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not self.lets_in(request.path, request.headers):
                return _refusal()
            return await handler(request)

        return guarded


def _is_of_this_machine(headers: Mapping[str, str]) -> bool:
    """Return True if the request is to a loopback name, and not from a page of another place.

    A foreign name that resolves to this machine is none. The port may be another: a tunnel's.
    """
    host = headers.get("Host", "").lower()
    if not _is_loopback(host):
        return False
    origin = headers.get("Origin")
    if origin is not None and _host_of(origin) != host:
        return False
    return headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _refusal() -> web.Response:
    return web.json_response({"error": _REFUSED}, status=403)
