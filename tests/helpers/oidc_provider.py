"""A small OpenID provider in this process: it describes itself, signs people in without asking, and hands out tokens.

with oidc_provider() as provider:
    Provider(provider.url, CLIENT_ID, CLIENT_SECRET)       # of app.web.provider
    provider.person = {"sub": "17", "preferred_username": "ada"}
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.helpers.http_server import http_server

if TYPE_CHECKING:
    from starlette.requests import Request

CLIENT_ID, CLIENT_SECRET = "descore", "a secret of the tests"
KEY = RSAKey.generate_key(2048, parameters={"kid": "1"}, private=True)
ANOTHER_KEY = RSAKey.generate_key(2048, parameters={"kid": "1"}, private=True)


@dataclass
class OidcProvider:
    """Who signs in next, and what is wrong with this provider."""

    url: str = ""
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "17", "preferred_username": "ada"})
    only_at_userinfo: tuple[str, ...] = ()  # claims that the identity token leaves out
    declines: bool = False
    down: bool = False
    key: RSAKey = field(default_factory=lambda: KEY)  # that tokens are signed with, whatever is published
    instead: dict[str, Any] = field(default_factory=dict)  # claims of the identity token that are not as they should be
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def routes(self) -> list[Route]:
        """The addresses of a provider."""
        return [
            Route("/.well-known/openid-configuration", self._describe),
            Route("/authorize", self._authorize),
            Route("/token", self._token, methods=["POST"]),
            Route("/userinfo", self._userinfo),
            Route("/keys", self._keys),
        ]

    async def _describe(self, _request: Request) -> Response:
        if self.down:
            return Response(status_code=503)
        addresses = {"authorization_endpoint": "authorize", "token_endpoint": "token"}
        addresses |= {"userinfo_endpoint": "userinfo", "jwks_uri": "keys"}
        described = {name: f"{self.url}/{path}" for name, path in addresses.items()}
        return JSONResponse({"issuer": self.url, "id_token_signing_alg_values_supported": ["RS256"], **described})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert asked["client_id"] == CLIENT_ID
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        answer = {"state": asked["state"]}
        if self.declines:
            answer["error"] = "access_denied"
        else:
            answer["code"] = secrets.token_hex(8)
            self._codes[answer["code"]] = asked
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", status_code=302)

    async def _token(self, request: Request) -> Response:
        sent = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET.replace(' ', '+')}".encode()).decode()
        plain = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        assert request.headers["authorization"].removeprefix("Basic ") in (basic, plain)
        asked = self._codes.pop(sent["code"])
        challenge = base64.urlsafe_b64encode(hashlib.sha256(sent["code_verifier"].encode()).digest()).decode().rstrip("=")
        assert challenge == asked["code_challenge"]
        assert sent["redirect_uri"] == asked["redirect_uri"]
        now = int(time.time())
        claims = {name: value for name, value in self.person.items() if name not in self.only_at_userinfo}
        claims |= {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 600, "nonce": asked["nonce"], **self.instead}
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)
        return JSONResponse({"access_token": "of the tests", "token_type": "Bearer", "expires_in": 600, "id_token": token})

    async def _userinfo(self, request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer of the tests"
        return JSONResponse(self.person)

    async def _keys(self, _request: Request) -> Response:
        return JSONResponse({"keys": [KEY.as_dict(private=False)]})


@contextmanager
def oidc_provider() -> Iterator[OidcProvider]:
    """Serve a provider at a free port."""
    provider = OidcProvider()
    with http_server(provider.routes()) as provider.url:
        yield provider
