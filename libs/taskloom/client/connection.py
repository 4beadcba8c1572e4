"""What both clients' connections have in common."""

import os
from typing import Final
from urllib.parse import urlsplit

import httpx

DEFAULT_URL: Final = "http://127.0.0.1:8080"
URL_VARIABLE: Final = "TASKLOOM_URL"
KEY_VARIABLE: Final = "TASKLOOM_API_KEY"

CALL_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
STREAM_TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0)
"""The server sends a comment every 10 s, so this long a silence means that it is gone."""

PATIENCE_S: Final = 30.0
"""How long a stream that was cut is asked for again while the server does not answer."""

FIRST_LOOK_S: Final = 0.02
LONGEST_LOOK_S: Final = 0.5


def url_of(base_url: str | None) -> str:
    """Where the server is: as given, else from TASKLOOM_URL, else on this machine."""
    return (base_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")


def key_headers(api_key: str | None) -> dict[str, str]:
    """What shows the server who calls: the key as given, else that of TASKLOOM_API_KEY; nothing without one."""
    key = os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key
    return {"x-api-key": key.strip()} if key.strip() else {}


def reads_environment(url: str) -> bool:
    """Whether a proxy of the environment may be used: never for a server on this machine."""
    return urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1")


def timeout_for(wait_s: int) -> httpx.Timeout:
    return httpx.Timeout(CALL_TIMEOUT.read + wait_s if CALL_TIMEOUT.read else None, connect=CALL_TIMEOUT.connect)
