"""``raddino app``: the page on this machine's own address, for one browser."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse

from raddino.app.guard import COOKIE, HEADERS, Guard
from raddino.app.state import Absent, Looker
from raddino.app.views import UPLOAD_MIB, TooLarge, views
from raddino.errors import RaddinoError
from raddino.images.errors import ImageError

STATIC = {path.name: path for path in (Path(__file__).parent / "static").iterdir()}
ADDRESS = "127.0.0.1"


def build(looker: Looker, guard: Guard) -> FastAPI:
    """The page: its files, what it asks for, and who may ask."""
    page = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @page.middleware("http")
    async def guarded(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = _refused(request, guard) or await answer(request)
        response.headers.update(HEADERS)
        return response

    @page.get("/", response_model=None)
    def index() -> Response:
        return FileResponse(STATIC["index.html"])

    @page.get("/static/{name}", response_model=None)
    def static(name: str) -> Response:
        if name not in STATIC:
            raise Absent("no such file")
        return FileResponse(STATIC[name])

    for error, status, words in (
        (Absent, 404, None),
        (ImageError, 422, None),
        (RequestValidationError, 422, "not understood"),
        (TooLarge, 413, f"more than {UPLOAD_MIB} MiB"),
        (RaddinoError, 500, "this failed; raddino's terminal may say why"),
        (Exception, 500, "this failed; raddino's terminal may say why"),
    ):
        page.add_exception_handler(error, _told(status, words))
    page.include_router(views(looker))
    return page


def _refused(request: Request, guard: Guard) -> Response | None:
    reason = guard.refusal(request.headers)
    if reason is not None:
        return _error(403, reason)
    if request.url.path == "/" and "token" in request.query_params and request.method == "GET":
        session = guard.exchange(request.query_params["token"])
        if session is None:
            return _error(403, "this token is wrong or was used; start raddino app again")
        opened = RedirectResponse("/", 303)
        opened.set_cookie(COOKIE, session, httponly=True, samesite="strict")
        return opened
    if not guard.knows(request.cookies.get(COOKIE)):
        return _error(403, "open the address that raddino app printed")
    size = request.headers.get("content-length", "0")
    if not size.isdecimal() or int(size) > UPLOAD_MIB << 20:
        return _error(413, f"more than {UPLOAD_MIB} MiB")
    return None


def _told(status: int, words: str | None) -> Callable[[Request, Exception], Response]:
    return lambda request, error: _error(status, words or str(error))


def _error(status: int, words: str) -> Response:
    return JSONResponse({"error": words}, status, headers=HEADERS)


def serve(looker: Looker, port: int = 0) -> None:
    """Serve until Ctrl-C; prints the address with its token.

    Args:
        port: 0 for a free one.

    Raises:
        RaddinoError: the port is taken.
    """
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((ADDRESS, port))
        except OSError as error:
            raise RaddinoError(
                f"port {port} cannot be had ({error.strerror}); leave --port out for a free one"
            ) from None
        port = listening.getsockname()[1]
        guard = Guard(port)
        print(f"app: http://{ADDRESS}:{port}/?token={guard.token}", flush=True)
        settings = uvicorn.Config(
            build(looker, guard), log_level="error", access_log=False, server_header=False, proxy_headers=False
        )
        uvicorn.Server(settings).run(sockets=[listening])
