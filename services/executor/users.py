"""Users of the host that commands may run as."""

import os
import pwd
from typing import Any

from taskloom.kinds.api import TaskError


def identity(wished: str | None, allowed: tuple[str, ...]) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """Ids and groups to take, and the environment that goes with them; None and nothing for the executor's own user.

    ``allowed``: names that may be asked for, the first without asking.

    Raises:
        TaskError: the user may not be, or there is none (``user_denied``, not retryable).
    """
    name = wished or (allowed[0] if allowed else None)
    if name is None:
        return None, {}
    if name not in allowed:
        known = ", ".join(allowed) or "none"
        raise _denied(f"{name} is not among this executor's users for commands (TASKLOOM_SHELL_USERS): {known}")
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise _denied(f"this executor's host has no user {name}") from None
    if found.pw_uid == os.geteuid():
        return None, {}
    if os.geteuid() != 0:
        raise _denied(f"this executor does not run as root, so it cannot run commands as {name}")
    ids = {"uid": found.pw_uid, "gid": found.pw_gid, "groups": os.getgrouplist(name, found.pw_gid)}
    return ids, {"HOME": found.pw_dir, "USER": name, "LOGNAME": name}


def _denied(message: str) -> TaskError:
    return TaskError("user_denied", f"input.user: {message}", retryable=False, details={"field": "input.user"})
