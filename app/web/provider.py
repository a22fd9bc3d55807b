"""Sign-in with an account elsewhere: the OpenID provider of a lab, or Hugging Face on a Space.

    provider = provider_here()          # from the settings of the process; None without any
    Auth(database, provider).routes()   # "/sign-in/provider" leads there, "/sign-in/provider/back" comes from there

The provider's word is checked by authlib: state, nonce, PKCE, the signature of the identity token and its claims. What has
to be remembered on the way is in a signed cookie of its own.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth, OAuthError
from joserfc.errors import JoseError
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from app.web.deployment import SettingError, on_https, on_space, public_url
from app.web.plain_pages import page
from storage.accounts.identities import Identity
from storage.schema import Role

log = logging.getLogger(__name__)

SETTINGS = ("DESCORE_OIDC_ISSUER", "DESCORE_OIDC_CLIENT_ID", "DESCORE_OIDC_CLIENT_SECRET")
# What a Space has whose README says `hf_oauth: true`.
SPACE_SETTINGS = ("OPENID_PROVIDER_URL", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET")
HUGGING_FACE = "https://huggingface.co"
START_PATH, BACK_PATH = "/sign-in/provider", "/sign-in/provider/back"
_ON_THE_WAY = "descore_provider"  # the cookie, for as long as somebody may take to sign in there
_LONGEST_WAY = 900  # seconds


class ProviderError(RuntimeError):
    """The provider did not vouch for anybody, or is not asked at all; the message is for the person."""


@dataclass(frozen=True)
class Provider:
    """Who vouches for people.

    Attributes:
        issuer: its address, under which it describes itself.
        owner: its name for the person who is made a lead, "" for nobody.
    """

    issuer: str
    client_id: str
    client_secret: str
    owner: str = ""

    @property
    def name(self) -> str:
        """What the sign-in page calls it."""
        return "Hugging Face" if self.issuer == HUGGING_FACE else urlsplit(self.issuer).netloc


def provider_here(environment: Mapping[str, str] = os.environ) -> Provider | None:
    """Return the provider that the settings name; on a Space without any, Hugging Face.

    Raises:
        SettingError: some of the three settings are missing, or the issuer is no https address.
    """
    given = [environment.get(name, "") for name in SETTINGS]
    if any(given):
        if not all(given):
            missing = ", ".join(name for name, value in zip(SETTINGS, given, strict=True) if not value)
            raise SettingError(f"sign-in with a provider needs {' and '.join(SETTINGS)}; {missing} is not set")
        issuer = given[0].rstrip("/")
        parts = urlsplit(issuer)
        if not parts.netloc or (parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost")):
            raise SettingError(f"{SETTINGS[0]} has to be an https address, not {issuer[:200]!r}")
        return Provider(issuer, *given[1:])
    issuer, client_id, client_secret = (environment.get(name, "") for name in SPACE_SETTINGS)
    if not (on_space() and issuer and client_id and client_secret):
        return None
    # A Space's owner is who made it; that only the owner has this name there is Hugging Face's word.
    return Provider(issuer.rstrip("/"), client_id, client_secret, environment.get("SPACE_AUTHOR_NAME", ""))


class ProviderSignIn:
    """The way to a provider and back."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self._client = OAuth().register(
            "provider",
            server_metadata_url=f"{provider.issuer}/.well-known/openid-configuration",
            client_id=provider.client_id,
            client_secret=provider.client_secret,
            client_kwargs={"scope": "openid profile", "code_challenge_method": "S256", "timeout": 15},
        )

    def routes(
        self,
        wanted_by: Callable[[Request], Awaitable[str]],
        welcome: Callable[[Request, Identity, Role, str], Response],
        refuse: Callable[[Request, str], Response],
    ) -> list[BaseRoute]:
        """Return both routes.

        Args:
            wanted_by: reads from the request that begins what the person wants to come back to, "" for nothing; raises
                `ProviderError` for a request that may not begin.
            welcome: answers somebody whom the provider vouches for; gets the identity, the role of a new account, and what
                `wanted_by` gave.
            refuse: answers somebody else, with the reason.
        """

        async def start(request: Request) -> Response:
            try:
                wanted = await wanted_by(request)
                await self._check_issuer()
                response: Response = await self._client.authorize_redirect(request, _back(request))
            except ProviderError as error:
                return await run_in_threadpool(refuse, request, str(error))
            except _FAILURES as error:
                return await run_in_threadpool(refuse, request, self._cannot(error))
            request.session["next"] = wanted
            if request.method == "GET":
                return response
            # The redirect of a form's answer has to stay on this site (`form-action`), so a page leads on.
            return page("plain/onwards.html", up="../", provider=self.provider.name, address=response.headers["location"])

        async def back(request: Request) -> Response:
            wanted = str(request.session.get("next", ""))
            try:
                identity, claims = await self._identity(request)
            except ProviderError as error:
                return await run_in_threadpool(refuse, request, str(error))
            except _FAILURES as error:
                return await run_in_threadpool(refuse, request, self._cannot(error))
            finally:
                request.session.clear()
            return await run_in_threadpool(welcome, request, identity, self._role(claims), wanted)

        # The key needs no setting of its own, and is the same for all processes of a lab.
        key = hashlib.sha256(f"descore way {self.provider.client_secret}".encode()).hexdigest()
        remember = partial(
            SessionMiddleware, secret_key=key, session_cookie=_ON_THE_WAY, max_age=_LONGEST_WAY, https_only=on_space()
        )
        way = [Middleware(remember)]
        return [
            Route(START_PATH, start, methods=["GET", "POST"], middleware=way),
            Route(BACK_PATH, back, methods=["GET"], middleware=way),
        ]

    async def _identity(self, request: Request) -> tuple[Identity, Mapping[str, Any]]:
        """Return whom the provider sends back, and all that it says of them.

        Raises:
            ProviderError: the person said no there.
            _FAILURES: what came back can't be believed.
        """
        if request.query_params.get("error") == "access_denied":
            raise ProviderError(f"{self.provider.name} did not sign you in: the request was declined there.")
        await self._check_issuer()
        token = await self._client.authorize_access_token(request)
        claims: dict[str, Any] = dict(token.get("userinfo") or {})
        if not claims:
            raise ValueError("there is no identity token in the answer")
        if not claims.get("preferred_username") and not claims.get("name"):
            more = await self._client.userinfo(token=token)
            if more.get("sub") != claims["sub"]:
                raise ValueError("the identity token and the user's description are of two people")
            claims = {**more, **claims}
        name = str(claims.get("preferred_username") or claims.get("name") or "")
        return Identity(self.provider.issuer, str(claims["sub"]), name), claims

    async def _check_issuer(self) -> None:
        """Refuse a provider that calls itself by another address: its tokens would be another's."""
        metadata = await self._client.load_server_metadata()
        named = str(metadata.get("issuer", "")).rstrip("/")
        if named != self.provider.issuer:
            raise ValueError(f"{self.provider.issuer} calls itself {named[:200]!r}")

    def _role(self, claims: Mapping[str, Any]) -> Role:
        owner = self.provider.owner
        return "lead" if owner and claims.get("preferred_username") == owner else "annotator"

    def _cannot(self, error: Exception) -> str:
        log.warning("sign-in with %s failed: %s: %s", self.provider.issuer, type(error).__name__, error)
        if isinstance(error, httpx2.HTTPError):
            return f"{self.provider.name} can't be reached now. Try again in a moment."
        if isinstance(error, OAuthError) and error.error == "mismatching_state":
            return "This sign-in was begun in another browser, or too long ago. Try again."
        return f"{self.provider.name} did not sign you in: its answer can't be used. The app's log says why."


# Whatever is wrong with a provider's answers: not reachable, not JSON, keys and claims that are missing or don't hold.
_FAILURES = (AuthlibBaseError, JoseError, httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError, RuntimeError)


def _back(request: Request) -> str:
    """Return the address to come back to, as the browser sees it."""
    scheme = "https" if on_https(request) else "http"
    here = f"{scheme}://{request.headers.get('host', '')}{request.scope.get('root_path', '')}"
    return public_url(here) + BACK_PATH
