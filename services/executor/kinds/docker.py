"""``docker``: containers by the Docker Engine's API."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import aiohttp
from aiodocker import Docker as Client
from aiodocker import DockerError
from aiodocker.containers import DockerContainer

from services.executor.containers import archive, daemon, undertaker
from services.executor.containers import policy as naming
from services.executor.containers.container import Container
from services.executor.containers.daemon import told
from services.executor.containers.policy import ContainerPolicy
from services.executor.kinds.tail import Tail
from services.executor.workspace import Workspace, directory
from taskloom import telemetry
from taskloom.filestore import FileStore
from taskloom.kinds import Context, Handler, Outcome, TaskError
from taskloom.kinds.containers import DockerInput
from taskloom.kinds.inputs import check_docker, read

LOOK_S: Final = 2.0
RESULT_BYTES: Final = 16 * 1024
ERROR_BYTES: Final = 2 * 1024
MIB: Final = 1024 * 1024
log = telemetry.get_logger(__name__)


class Docker(Handler):
    """Runs a container and streams its output; starts, stops and reads one that a task left running.

    The result of ``run`` is the end of stdout (16 KiB), the response ``{container_id, exit_code, stdout_bytes,
    stderr_bytes, truncated}``; anything but exit code 0 is a failure of type ``exit_code``, or ``out_of_memory``. The
    container is removed when the attempt ends, however it ends. Announced only while the engine answers.
    """

    kind = "docker"

    def __init__(
        self,
        executor_id: str,
        host: str,
        policy: ContainerPolicy,
        files: FileStore | None = None,
        max_file_mb: int = 1024,
    ) -> None:
        self._executor_id = executor_id
        self._host = host
        self._policy = policy
        self._files = files
        self._max_file_bytes = max_file_mb * MIB
        self._incarnation = uuid4().hex
        self._docker: Client | None = None
        self._answers = self._swept = False
        self._looking: asyncio.Task[None] | None = None
        self._undertaker: subprocess.Popen[bytes] | None = None

    @property
    def available(self) -> bool:
        return self._answers

    async def open(self) -> None:
        self._docker = daemon.connect(self._host)
        await self._look()
        self._looking = asyncio.create_task(self._keep_looking())

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        if self._undertaker is not None:
            await asyncio.to_thread(_dismiss, self._undertaker)
        if self._docker is not None:
            await daemon.close(self._docker)

    async def run(self, ctx: Context) -> Outcome:
        wished = read(DockerInput, ctx.input)
        check_docker(wished)
        if wished.operation == "run":
            return await (self._run_detached(ctx, wished) if wished.detach else self._run(ctx, wished))
        container = await self._named(ctx, wished.id or "")
        if wished.operation == "logs":
            return await self._logs(ctx, container, wished)
        doing = "starting" if wished.operation == "start" else "stopping"
        with told(f"{doing} the container {wished.id}", self._host):
            if wished.operation == "start":
                await container.start()
            else:
                await container.stop(t=wished.grace_s)
            return _state_of(wished.operation, await container.show())

    async def _run(self, ctx: Context, wished: DockerInput) -> Outcome:
        assert self._docker is not None
        request = await self._request(ctx, wished)
        self._mind()
        container = Container(self._docker, _new_name(), self._host)
        async with self._given(ctx, wished) as files:
            ctx.supervise(container)
            await container.start(request, files, wished.stdin.encode())
        stdout, stderr = Tail(RESULT_BYTES), Tail(ERROR_BYTES)
        async for stream, data in ctx.masked(container.output()):
            if stream == "stderr":
                stderr.add(data)
                await ctx.write(data, "stderr")
            else:
                stdout.add(data)
                await ctx.write(data)
        state = await container.finish()
        left = {"artifacts": await self._collected(ctx, wished, container)} if wished.has_workspace else {}
        await container.remove()
        if state["code"] != 0:
            raise _failure(state["code"], state, stderr, left)
        response = {
            "container_id": state["id"],
            "exit_code": 0,
            "stdout_bytes": stdout.size,
            "stderr_bytes": stderr.size,
            "truncated": stdout.truncated,
            **left,
        }
        return Outcome(result=stdout.text(), response=response, exit_code=0)

    @asynccontextmanager
    async def _given(self, ctx: Context, wished: DockerInput) -> AsyncIterator[Path | None]:
        """A directory with the files of the input, while it is needed; None when there is no workspace."""
        if not wished.has_workspace:
            yield None
            return
        async with directory(None, None) as root:
            await Workspace(root, self._files, None, self._max_file_bytes).put(ctx.tenant_id, wished.files)
            yield root

    async def _collected(self, ctx: Context, wished: DockerInput, container: Container) -> list[dict[str, Any]]:
        if not wished.artifacts:
            return []
        async with directory(None, None) as root:
            space = Workspace(root, self._files, None, self._max_file_bytes)
            space.ready()
            await container.take(wished.artifacts, space, self._max_file_bytes)
            return await space.collect(ctx, wished.artifacts)

    async def _run_detached(self, ctx: Context, wished: DockerInput) -> Outcome:
        assert self._docker is not None
        request = await self._request(ctx, wished)
        with told("creating the container", self._host):
            container = await self._docker.containers.create(request, name=_new_name())
            try:
                async with self._given(ctx, wished) as files:
                    if files is not None:
                        await archive.put(self._docker, container.id, files)
                await container.start()
                return _state_of("run", await container.show())
            except BaseException:
                with contextlib.suppress(DockerError):
                    await container.delete(force=True, v=True)
                raise

    async def _logs(self, ctx: Context, container: DockerContainer, wished: DockerInput) -> Outcome:
        assert self._docker is not None
        about = container._container
        tail = "all" if wished.tail is None else str(wished.tail)
        size = 0
        ctx.conceal(_secrets_of(about["Config"]))
        with told(f"reading the log of the container {wished.id}", self._host):
            parameters = {"follow": wished.follow, "tail": tail}
            tty = bool(about["Config"]["Tty"])
            async with aclosing(daemon.logs(self._docker, container.id, tty=tty, **parameters)) as lines:
                async for stream, data in lines:
                    size += len(data)
                    await ctx.write(data, "stderr" if stream == 2 else "stdout")
        done = _state_of("logs", await container.show())
        return Outcome(done.result, {**done.response, "bytes": size})

    async def _named(self, ctx: Context, name: str) -> DockerContainer:
        """The container with this id or name. One that the tenant may not touch is as one that is not there."""
        assert self._docker is not None
        absent = TaskError(
            "no_such_container",
            f"input.id: no container {name} that a task of yours started is on this executor's host",
            retryable=False,
            details={"field": "input.id"},
        )
        with told(f"looking for the container {name}", self._host):
            try:
                container = await self._docker.containers.get(name)
            except DockerError as error:
                if error.status == 404:
                    raise absent from error
                raise
        labels = container["Config"].get("Labels") or {}
        if not self._policy.may_touch(container["Name"].removeprefix("/"), labels, ctx.tenant_id):
            raise absent
        return container

    async def _request(self, ctx: Context, wished: DockerInput) -> dict[str, Any]:
        assert self._docker is not None
        if wished.stdin and daemon.uses_tls(self._host):
            message = "input.stdin: a connection to the engine by TLS cannot tell its end; give it as a file"
            raise TaskError("stdin_unavailable", message, retryable=False, details={"field": "input.stdin"})
        secret = sorted(name for name, value in wished.env.items() if not isinstance(value, str))
        labels = {
            naming.EXECUTOR: self._executor_id,
            naming.INCARNATION: self._incarnation,
            naming.TENANT: ctx.tenant_id,
            naming.TASK: ctx.task_id,
            naming.ATTEMPT: str(ctx.attempt),
            **({} if wished.detach else {naming.ATTACHED: self._incarnation}),
            **({naming.SECRETS: json.dumps(secret)} if secret else {}),
        }
        request = self._policy.request(wished, await ctx.reveal(wished.env), labels)
        await ctx.heartbeat(message=f"looking for the image {wished.image}")
        await daemon.have_image(self._docker, wished.image or "", wished.pull, self._host)
        return request

    # Leftovers.

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        assert self._docker is not None
        answers = await daemon.answers(self._docker)
        if answers != self._answers:
            log.info("the Docker Engine came or went", answers=answers, host=self._host)
        if answers and not self._swept:
            self._swept = await self._sweep()
        self._answers = answers

    async def _sweep(self) -> bool:
        """Removes what an earlier run of this executor left; whether that could be done."""
        assert self._docker is not None
        filters = f'{{"label": ["{naming.EXECUTOR}={self._executor_id}", "{naming.ATTACHED}"]}}'
        try:
            for container in await self._docker.containers.list(all=True, filters=filters):
                if container["Labels"].get(naming.INCARNATION) != self._incarnation:
                    log.warning("removing a container that an earlier run left", container=container.id)
                    await _remove(container)
        except (DockerError, aiohttp.ClientError, OSError) as error:
            log.warning("containers of earlier runs are not removed yet", reason=str(error))
            return False
        return True

    def _mind(self) -> None:
        """Has the undertaker at hand, which removes containers should this process be killed."""
        if self._undertaker is None or self._undertaker.poll() is not None:
            label = f"{naming.ATTACHED}={self._incarnation}"
            self._undertaker = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(undertaker.__file__)), self._host, label],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )


async def _remove(container: DockerContainer) -> None:
    try:
        await container.delete(force=True, v=True)
    except DockerError as error:
        if error.status not in (404, 409):  # gone, or going
            raise


def _new_name() -> str:
    return f"taskloom-{uuid4().hex[:16]}"


def _dismiss(minding: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        minding.communicate(b"done")


def _secrets_of(config: dict[str, Any]) -> list[str]:
    """Values of the variables that its task got as secrets."""
    named = json.loads((config.get("Labels") or {}).get(naming.SECRETS, "[]"))
    pairs = (entry.partition("=") for entry in config.get("Env") or ())
    return [value for name, _, value in pairs if value and name in named]


def _failure(code: int, state: dict[str, Any], stderr: Tail, left: dict[str, Any]) -> TaskError:
    last = stderr.text().rpartition("\n")[2].strip()
    details = {"exit_code": code, "stderr": stderr.text(), **left}
    if state.get("OOMKilled"):
        message = "the container was killed for its memory; raise input.limits.memory_mb, or the executor's limit"
        return TaskError("out_of_memory", message, details=details, exit_code=code)
    message = f"the container ended with exit code {code}" + (f": {last[:500]}" if last else "")
    return TaskError("exit_code", message, details=details, exit_code=code)


def _state_of(operation: str, about: dict[str, Any]) -> Outcome:
    state = about["State"]
    response = {
        "operation": operation,
        "container_id": about["Id"],
        "name": about["Name"].removeprefix("/"),
        "image": about["Config"]["Image"],
        "status": state["Status"],
        "container_exit_code": None if state["Running"] else state["ExitCode"],
    }
    return Outcome(result=about["Id"], response=response)
