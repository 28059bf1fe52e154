"""Who may ask the page: one browser on this machine, that came with the token."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping

COOKIE = "raddino_session"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer."""


class Guard:
    """The one-time token and the one session that it opens.

    Attributes:
        token: stands in the address that is printed; worthless once it was used.
    """

    def __init__(self, port: int) -> None:
        self.token = secrets.token_urlsafe(32)
        self._session = secrets.token_urlsafe(32)
        self._used = False
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    def refusal(self, headers: Mapping[str, str]) -> str | None:
        """Why a request is not even looked at: it came by a foreign name, or from a foreign page; None if neither."""
        host = headers.get("host", "")
        if host not in self._hosts:
            return "this page answers to its own address alone"
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            return "a foreign page asked"
        return None

    def exchange(self, token: str) -> str | None:
        """The session for the token; None for a wrong or used one."""
        if self._used or not hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        self._used = True
        return self._session

    def knows(self, cookie: str | None) -> bool:
        """Whether the session's cookie came along."""
        return hmac.compare_digest((cookie or "").encode(), self._session.encode())
