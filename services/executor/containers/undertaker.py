"""The undertaker: a small process that removes the executor's containers should the executor die, however it dies.

It runs as a script with nothing but the standard library, and waits at its stdin. A byte says that all is well; an end
without one that the executor is gone: every container with the label is then removed.
"""

import http.client
import json
import os
import signal
import socket
import ssl
import sys
import time
import urllib.parse
from pathlib import Path

GIVE_UP_S = 60.0
QUIET_S = 1.5
"""A request to create one may be under way: it is over when none was seen for this long."""

_CALL_S = 20


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_CALL_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_CALL_S)
        self.sock.connect(self._path)


def connection(host: str) -> http.client.HTTPConnection:
    if host.startswith("unix://"):
        return UnixConnection(host.removeprefix("unix://"))
    scheme, _, address = host.partition("://")
    if scheme == "https" or os.environ.get("DOCKER_TLS_VERIFY", "") not in ("", "0"):
        folder = Path(os.environ.get("DOCKER_CERT_PATH", "~/.docker")).expanduser()
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(str(folder / "cert.pem"), str(folder / "key.pem"))
        return http.client.HTTPSConnection(address, timeout=_CALL_S, context=context)
    return http.client.HTTPConnection(address, timeout=_CALL_S)


def ask(host: str, method: str, path: str) -> tuple[int, bytes]:
    to = connection(host)
    try:
        to.request(method, path)
        answer = to.getresponse()
        return answer.status, answer.read()
    finally:
        to.close()


def bury(host: str, label: str) -> int:
    """Removes all containers with the label; how many there were."""
    filters = urllib.parse.quote(json.dumps({"label": [label]}))
    status, body = ask(host, "GET", f"/containers/json?all=1&filters={filters}")
    if status != 200:
        raise OSError(f"the engine answered {status}")
    found = [each["Id"] for each in json.loads(body)]
    for number in found:
        ask(host, "DELETE", f"/containers/{number}?force=1&v=1")
    return len(found)


def main() -> None:
    host, label = sys.argv[1:3]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its executor, not before
    if sys.stdin.buffer.read(1):
        return
    until, seen_at = time.monotonic() + GIVE_UP_S, time.monotonic()
    while time.monotonic() < min(until, seen_at + QUIET_S):
        try:
            if bury(host, label):
                seen_at = time.monotonic()
        except (OSError, http.client.HTTPException, ValueError):
            seen_at = time.monotonic()  # the engine is away, perhaps for a moment
        time.sleep(0.1)


if __name__ == "__main__":
    main()
