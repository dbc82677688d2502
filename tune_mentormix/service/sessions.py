"""Who is signed in: random session cookies, kept in memory until they expire, each with its token against CSRF."""

from __future__ import annotations

import hmac
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

from tune_mentormix.service.tokens import Principal

COOKIE = "session"
MOST = 1_000  # of one server; the oldest is signed out for one more


@dataclass(frozen=True)
class Session:
    """One browser that signed in."""

    principal: Principal
    csrf: str  # stands in each form, and must come back with it
    expires: float  # by the monotonic clock


class Sessions:
    """All sessions of a server; a restart ends them."""

    def __init__(self, seconds: float) -> None:
        """Each session lasts so many seconds."""
        self._seconds = seconds
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def begin(self, principal: Principal) -> str:
        """Signs in, and returns the value of the cookie."""
        cookie = secrets.token_urlsafe(32)
        self._sessions[cookie] = Session(principal, secrets.token_urlsafe(32), time.monotonic() + self._seconds)
        while len(self._sessions) > MOST:
            self._sessions.popitem(last=False)
        return cookie

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie, if it is valid now."""
        session = self._sessions.get(cookie)  # 256 random bits: nobody finds one by timing a hash table
        if session and session.expires < time.monotonic():
            del self._sessions[cookie]
            return None
        return session

    def end(self, cookie: str) -> None:
        """Signs out."""
        self._sessions.pop(cookie, None)


def is_own_form(session: Session, csrf: str) -> bool:
    """Whether a form was one that this server gave to this session."""
    return hmac.compare_digest(session.csrf.encode(), csrf.encode("utf-8", "replace"))
