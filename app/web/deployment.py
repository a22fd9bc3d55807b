"""The surroundings of the app: a machine of one's own, a proxy before it, or a Hugging Face Space."""

from __future__ import annotations

import ipaddress
import logging
import os

from starlette.requests import Request

log = logging.getLogger(__name__)


class SettingError(ValueError):
    """A setting of the process, an environment variable, that can't be used; the message names it and says what to do."""


def on_space() -> bool:
    """Tell whether this is a Hugging Face Space: reached through its proxy only, by https, inside a page of another site."""
    return bool(os.environ.get("SPACE_ID"))


def is_demo() -> bool:
    """Tell whether visitors get a sandbox and nobody leads (`DEMO=1`).

    Raises:
        SettingError: neither 1 nor 0.
    """
    value = os.environ.get("DEMO", "").strip()
    if value not in ("", "0", "1"):
        raise SettingError(f"DEMO is 1 for a demo, or is not set (got {value!r})")
    return value == "1"


def public_url(local_url: str) -> str:
    """Return the address that people use, without a slash at its end.

    Args:
        local_url: the address that the server listens on.
    """
    host = os.environ.get("SPACE_HOST")
    return f"https://{host}" if on_space() and host else local_url.rstrip("/")


def trust_no_proxy_unasked() -> None:
    """Let uvicorn believe `X-Forwarded-For` only from the proxies that `FORWARDED_ALLOW_IPS` names.

    Its own default is to believe this machine, so that any local program could come from any address.
    """
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")


def render_in_browsers() -> None:
    """Keep Gradio from rendering pages on the server, on a Space too, where only this variable counts.

    Its Node server would answer before this app, without the app's own addresses and without its security headers.
    """
    if os.environ.get("GRADIO_SSR_MODE", "").lower() == "true":
        log.warning("GRADIO_SSR_MODE=true is not possible with this app: pages are rendered in the browser")
    os.environ["GRADIO_SSR_MODE"] = "false"


def client_address(request: Request) -> str:
    """Return the IP address that a request comes from, as far as it can't be forged.

    A Space's proxy appends it to `X-Forwarded-For`, followed by none but private addresses of further proxies; entries
    before it come from the client. Elsewhere uvicorn has put it in place, if it trusts the proxy.
    """
    if on_space():
        for entry in reversed(request.headers.get("x-forwarded-for", "").split(",")):
            try:
                address = ipaddress.ip_address(entry.strip())
            except ValueError:
                break
            if address.is_global:
                return str(address)
    return request.client.host if request.client else "unknown"


def on_https(request: Request) -> bool:
    """Tell whether the browser came by https, perhaps to a proxy before this server. Only the browser can pretend it."""
    forwarded = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    return "https" in (request.url.scheme, forwarded) or request.headers.get("origin", "").startswith("https:")
