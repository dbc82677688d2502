"""Signs in whom a proxy in front has signed in, such as oauth2-proxy, by a header that it sets.

Anybody on this machine could send such a header. So the proxy also sends a secret that it shares with the service,
and a header without it is worth nothing. The service keeps only a digest of the secret.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

from tune_mentormix.config.settings import OWNER_PATTERN
from tune_mentormix.errors import RequestError
from tune_mentormix.service.auth import MIN_TOKEN_LENGTH, Principal, Role, digest

SECRET_HEADER = "X-Proxy-Secret"
SECRET_VARIABLE = "TUNE_MENTORMIX_PROXY_SECRET"


class SingleSignOn:
    """Who sends a request, by the word of the proxy in front.

    Attributes:
        sign_out: path of the proxy where a browser signs out, or None.
    """

    def __init__(self, header: str, secret: str, role: Role, admins: list[str], sign_out: str | None) -> None:
        """Takes the user from `header`; `admins` get the role admin, all others `role`.

        Raises RequestError if the secret is missing or too short.
        """
        if len(secret) < MIN_TOKEN_LENGTH:
            raise RequestError(
                f"sign_in_header takes a secret that the proxy sends as {SECRET_HEADER}: set {SECRET_VARIABLE} to "
                f"{MIN_TOKEN_LENGTH} characters at least, for the service and for the proxy"
            )
        self.sign_out = sign_out
        self._header = header
        self._secret = digest(secret)
        self._role, self._admins = role, frozenset(admins)

    def principal(self, headers: Mapping[str, str]) -> Principal | None:
        """Returns whom the proxy has signed in; None without its secret, or a name that an owner can have."""
        if not hmac.compare_digest(digest(headers.get(SECRET_HEADER, "")), self._secret):
            return None
        user = headers.get(self._header, "").strip()
        if not re.fullmatch(OWNER_PATTERN, user):
            return None
        return Principal(user, "admin" if user in self._admins else self._role)
