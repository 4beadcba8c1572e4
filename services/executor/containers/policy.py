"""What a container may have on this executor, and the request to the Docker Engine that follows from it."""

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from msgspec import Struct

from taskloom.kinds.api import TaskError
from taskloom.kinds.containers import WORKSPACE, DockerInput, DockerLimits, DockerMount

DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
EXECUTOR, INCARNATION, TENANT = "taskloom.executor", "taskloom.incarnation", "taskloom.tenant"
TASK, ATTEMPT = "taskloom.task", "taskloom.attempt"
SECRETS: Final = "taskloom.secrets"
"""Names of the environment's variables that have secrets, as JSON: they are masked in the container's log."""

ATTACHED: Final = "taskloom.attached"
"""On containers that end with their attempt; what else is found with it is a leftover."""

LOG_FILE_MB: Final = 50
MIB: Final = 1024 * 1024


class ContainerPolicy(Struct, frozen=True):
    """``mounts``: directories of the host that may be mounted, read-only, or ``/path:rw`` for both ways. ``networks``:
    modes that may be asked for, the first without asking. A limit of 0 is none. ``init``: a small first process passes
    signals on and reaps. ``touchable``: patterns of names of containers not started by tasks that operations may name.
    """

    mounts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ("none",)
    cpu: float = 0.0
    memory_mb: int = 0
    pids: int = 1024
    init: bool = True
    touchable: tuple[str, ...] = ()

    def request(self, wished: DockerInput, env: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, Any]:
        """The body of ``POST /containers/create``.

        Raises:
            TaskError: a mount or network is not allowed here (``mount_denied``, ``network_denied``, not retryable).
        """
        return {
            "Image": wished.image,
            **_given(Cmd=_command(wished.command), Entrypoint=wished.entrypoint),
            **_given(WorkingDir=wished.cwd or (WORKSPACE if wished.has_workspace else None), User=wished.user),
            "Env": [f"{name}={value}" for name, value in env.items()],
            "Labels": dict(labels),
            "AttachStdout": not wished.detach,
            "AttachStderr": not wished.detach,
            **(dict.fromkeys(("AttachStdin", "OpenStdin", "StdinOnce"), True) if wished.stdin else {}),
            "HostConfig": self._host(wished),
        }

    def may_touch(self, name: str, labels: Mapping[str, str], tenant_id: str) -> bool:
        """True for containers that this tenant's tasks started, and for names that the settings allow."""
        if TENANT in labels:
            return labels[TENANT] == tenant_id
        return any(fnmatchcase(name, pattern) for pattern in self.touchable)

    def _host(self, wished: DockerInput) -> dict[str, Any]:
        # What is attached is in the task's output; a copy in a file of Docker's would only fill the disk.
        log = {"Type": "json-file", "Config": {"max-size": f"{LOG_FILE_MB}m", "max-file": "1"}}
        return {
            "NetworkMode": self._network(wished.network),
            "Mounts": [self._mount(mount, place) for place, mount in enumerate(wished.mounts)],
            "LogConfig": log if wished.detach else {"Type": "none", "Config": {}},
            "SecurityOpt": ["no-new-privileges"],
            "Init": self.init,
            **self._limits(wished.limits),
        }

    def _limits(self, wished: DockerLimits) -> dict[str, Any]:
        cpu, memory_mb = _least(wished.cpu, self.cpu), _least(wished.memory_mb, self.memory_mb)
        pids = _least(wished.pids, self.pids)
        memory = int(memory_mb * MIB)
        found = {"NanoCpus": int(cpu * 1e9), "Memory": memory, "MemorySwap": memory, "PidsLimit": int(pids)}
        return {name: value for name, value in found.items() if value}

    def _network(self, wished: str | None) -> str:
        if wished is None:
            return self.networks[0]
        if wished not in self.networks:
            known = ", ".join(self.networks)
            message = (
                f"input.network: {wished} is not among this executor's networks (TASKLOOM_DOCKER_NETWORKS): {known}"
            )
            raise TaskError("network_denied", message, retryable=False, details={"field": "input.network"})
        return wished

    def _mount(self, wished: DockerMount, place: int) -> dict[str, Any]:
        # The real path is both checked and mounted, so a link within an allowed directory leads nowhere else.
        source = os.path.realpath(wished.source)
        allowed = [where for where, writable in _places(self.mounts) if writable or wished.read_only]
        if not any(source == where or source.startswith(where.rstrip("/") + "/") for where in allowed):
            how = "read-only" if wished.read_only else "writable"
            field = f"input.mounts[{place}].source"
            message = f"{field}: {wished.source} may not be mounted {how} on this executor (TASKLOOM_DOCKER_MOUNTS)"
            raise TaskError("mount_denied", message, retryable=False, details={"field": field})
        return {"Type": "bind", "Source": source, "Target": wished.target, "ReadOnly": wished.read_only}


def _places(mounts: Sequence[str]) -> list[tuple[str, bool]]:
    return [(os.path.realpath(entry.removesuffix(":rw")), entry.endswith(":rw")) for entry in mounts]


def _command(command: str | list[str] | None) -> list[str] | None:
    return ["/bin/sh", "-c", command] if isinstance(command, str) else command


def _least(wished: float | None, allowed: float) -> float:
    return min(wished or allowed, allowed) if allowed else wished or 0


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
