"""An MCP server as a process below the executor: one JSON message a line on its stdin and stdout.

Unlike the SDK's own transport it bounds the length of a line, keeps the end of stderr for errors, and starts the server
on a leash, so that nothing of it outlives the executor.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from services.executor import keeper
from services.executor.users import identity
from taskloom import telemetry

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""Of one message of a server; a longer one breaks the session."""

STDERR_BYTES: Final = 4 * 1024
CLOSE_S: Final = 2.0
"""What a server has to end after its stdin was closed; then it is killed with all that it started."""

_PLAIN: Final = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
"""What a server gets of the executor's environment, which holds passwords."""

_MAIN: Final = (
    f"import sys; sys.path.append({str(Path(keeper.__file__).parents[2])!r}); "
    "from services.executor.tools.leash import main; main()"
)
log = telemetry.get_logger(__name__)


class StdioServer:
    """Starts the server, and ends it with all that it started.

    ``async with`` gives the two streams that ``mcp.Client`` wants of a transport.
    """

    def __init__(self, argv: tuple[str, ...], env: Mapping[str, str], users: tuple[str, ...]) -> None:
        self._argv = argv
        self._env = env
        self._users = users
        self._stderr = b""
        self._running = contextlib.AsyncExitStack()
        self.ended = asyncio.Event()

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        return self._stderr.decode(errors="replace").strip()

    async def __aenter__(self) -> Any:
        return await self._running.enter_async_context(self._run())

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._running.__aexit__(*error)

    @contextlib.asynccontextmanager
    async def _run(self) -> AsyncIterator[Any]:
        import anyio  # with the SDK: both take long to import

        process = await self._start()
        incoming, read = anyio.create_memory_object_stream[Any](0)
        write, outgoing = anyio.create_memory_object_stream[Any](0)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._read, process, incoming)
                group.start_soon(_write, process, outgoing)
                group.start_soon(self._listen, process)
                try:
                    yield read, write
                finally:
                    with anyio.CancelScope(shield=True):
                        await _stop(process)
                    group.cancel_scope.cancel()
        finally:
            self.ended.set()
            for stream in (incoming, read, write, outgoing):
                stream.close()

    async def _start(self) -> asyncio.subprocess.Process:
        ids, environment = identity(None, self._users)
        order = json.dumps({"argv": self._argv, "user": ids, "parent": os.getpid()})
        plain = {name: os.environ[name] for name in _PLAIN if name in os.environ}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _MAIN, order),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**plain, **environment, **self._env},
            cwd="/",
            limit=MAX_MESSAGE_BYTES,
            start_new_session=True,
        )

    async def _read(self, process: asyncio.subprocess.Process, incoming: Any) -> None:
        from mcp.shared.message import SessionMessage
        from mcp_types import jsonrpc_message_adapter

        assert process.stdout is not None
        with contextlib.suppress(OSError):
            while True:
                try:
                    line = await process.stdout.readline()
                except ValueError:
                    log.warning("a tool server wrote too long a message", bytes=MAX_MESSAGE_BYTES)
                    break
                if not line:
                    break
                try:
                    message = SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
                except ValueError:
                    await asyncio.sleep(0)  # something that it prints, which is no message; others have their turn
                    continue
                if not await _hand_on(incoming, message):
                    return
        # The session sees the end, and fails what waits for an answer.
        self.ended.set()
        incoming.close()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while data := await process.stderr.read(4096):
            self._stderr = (self._stderr + data)[-STDERR_BYTES:]


async def _hand_on(incoming: Any, message: Any) -> bool:
    """Whether anybody takes it."""
    import anyio

    try:
        await incoming.send(message)
    except (anyio.ClosedResourceError, anyio.BrokenResourceError):
        return False
    return True


async def _write(process: asyncio.subprocess.Process, outgoing: Any) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        async for message in outgoing:
            told = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(told.encode() + b"\n")
            await process.stdin.drain()


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Closes stdin, waits, kills."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    for end in (None, process.terminate, process.kill):
        if end is not None:
            with contextlib.suppress(ProcessLookupError):
                end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await _gone(process)
                return


async def _gone(process: asyncio.subprocess.Process) -> None:
    """Not ``process.wait()``, which waits for the ends of the pipes too."""
    while process.returncode is None:  # noqa: ASYNC110 - nothing tells of the end alone
        await asyncio.sleep(0.01)
