"""The leash of a tool server: a small process between the executor and the server that it starts.

It is a subreaper, so whatever the server starts stays below it. When the executor ends, however that happens, or asks
with SIGTERM, or the server's main process has ended, everything below is killed, and only then the leash ends. Should
the leash itself be killed, the kernel kills the server with it.

It runs with nothing but the standard library.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

from services.executor import keeper, proctable


def main() -> None:
    """``argv[1]``: JSON with ``argv``, ``user`` (as in ``users.identity``) and ``parent``, the executor's process."""
    order = json.loads(sys.argv[1])
    keeper.become(order["user"])
    keeper.prctl(keeper.PR_SET_CHILD_SUBREAPER, 1)
    keeper.prctl(keeper.PR_SET_PDEATHSIG, signal.SIGTERM)
    signals = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    if os.getppid() != order["parent"]:
        return
    try:
        server = subprocess.Popen(
            order["argv"],
            start_new_session=True,
            preexec_fn=_tie(os.getpid()),  # noqa: PLW1509 - there are no threads here
        )
    except OSError as error:
        print(f"cannot be started: {error}", file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(127)
    for fd in (0, 1, 2):
        os.close(fd)  # the server alone holds them, so their end is seen
    code = _watch(server, signals)
    while proctable.kill_below(os.getpid()):
        pass
    os._exit(code if code >= 0 else 128 - code)


def _watch(server: subprocess.Popen[bytes], signals: set[signal.Signals]) -> int:
    """Returns when the server has ended (its code), or when all shall."""
    while True:
        if signal.sigwait(signals) != signal.SIGCHLD:
            return 0
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 0
            if pid == 0:
                break
            if pid == server.pid:
                return os.waitstatus_to_exitcode(status)


def _tie(leash: int) -> Callable[[], None]:
    def tie() -> None:
        keeper.prctl(keeper.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != leash:
            os._exit(127)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())

    return tie
