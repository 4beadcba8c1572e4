"""Free TCP ports for servers that must come back under the same address."""

import errno
import random
import socket
from typing import Final

from taskloom.local.errors import LocalError, PortBusy

# Below the range from which the kernel takes ports of outgoing connections (32768 and up). From within that range, a
# client that reconnects to a broker that is down may be given the broker's own port, connect to itself and keep the
# broker from coming back.
FIRST: Final = 20_000
LAST: Final = 31_999
TRIES: Final = 200


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    try:
        check_free(host, port)
    except PortBusy:
        return False
    return True


def check_free(host: str, port: int) -> None:
    """Returns when a server could listen on ``host:port``.

    Raises:
        PortBusy: somebody does already, or the address is not ours; says which.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((host, port))
            server.listen(1)
        except OSError as error:
            what = (
                "is taken by another process"
                if error.errno == errno.EADDRINUSE
                else f"cannot be used ({error.strerror})"
            )
            raise PortBusy(
                f"{host}:{port} {what}; choose another port with TASKLOOM_HTTP_PORT, or stop the one who has it"
            ) from error


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """``count`` different ports, free at this moment.

    Raises:
        LocalError: none found in 200 tries.
    """
    found: list[int] = []
    for _ in range(TRIES):
        port = random.randint(FIRST, LAST)
        if port not in found and is_free(host, port):
            found.append(port)
            if len(found) == count:
                return found
    raise LocalError(f"no {count} free ports between {FIRST} and {LAST} on {host}")
