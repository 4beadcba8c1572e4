"""``shell``: a command under bash."""

from typing import Final

import msgspec

from services.executor.kinds.tail import Tail
from services.executor.users import identity
from services.executor.workspace import Workspace, directory
from taskloom.filestore import FileStore
from taskloom.kinds import Context, Exit, Handler, Outcome, TaskError
from taskloom.kinds.inputs import ShellInput, check_shell, read

RESULT_BYTES: Final = 16 * 1024
ERROR_BYTES: Final = 2 * 1024
MIB: Final = 1024 * 1024


class Shell(Handler):
    """Runs ``bash -c cmd`` in a process group of its own; its output is streamed in the order in which it was written.

    The result is the end of stdout (16 KiB; all of it is in the output), the response
    ``{exit_code, stdout_bytes, stderr_bytes, truncated}``. Anything but exit code 0 is a failure of type ``exit_code``.
    The attempt is over when nothing of it runs: what the command leaves running, in its group or in a session of its
    own (``setsid``, ``nohup``, a double fork), is killed a second after it.
    """

    kind = "shell"

    def __init__(self, users: tuple[str, ...] = (), files: FileStore | None = None, max_file_mb: int = 1024) -> None:
        self._users = users
        self._files = files
        self._max_file_bytes = max_file_mb * MIB

    async def run(self, ctx: Context) -> Outcome:
        wished = read(ShellInput, ctx.input)
        check_shell(wished)
        if not wished.files and not wished.artifacts:
            return await self._run(ctx, wished, wished.cwd)
        ids, _ = identity(wished.user, self._users)
        owner = None if ids is None else (ids["uid"], ids["gid"])
        async with directory(wished.cwd, owner) as root:
            space = Workspace(root, self._files, owner, self._max_file_bytes)
            await space.put(ctx.tenant_id, wished.files)
            try:
                done = await self._run(ctx, wished, str(root))
            except TaskError as error:
                # What a failing command left is often why one looks.
                error.details["artifacts"] = await space.collect(ctx, wished.artifacts) if wished.artifacts else []
                raise
            kept = await space.collect(ctx, wished.artifacts) if wished.artifacts else []
            return msgspec.structs.replace(done, response={**done.response, "artifacts": kept})

    async def _run(self, ctx: Context, wished: ShellInput, cwd: str | None) -> Outcome:
        process = await ctx.spawn(
            ["bash", "-c", wished.cmd],
            env=await ctx.reveal(wished.env),
            cwd=cwd,
            stdin=wished.stdin.encode(),
            limits=wished.limits,
            user=wished.user,
        )
        stdout, stderr = Tail(RESULT_BYTES), Tail(ERROR_BYTES)
        async for stream, data in ctx.masked(process.output()):
            if stream == "stderr":
                stderr.add(data)
                await ctx.write(data, "stderr")
            else:
                stdout.add(data)
                await ctx.write(data)
        ended = await process.wait()
        if ended.code != 0:
            raise _failure(ended, stderr)
        response = {
            "exit_code": 0,
            "stdout_bytes": stdout.size,
            "stderr_bytes": stderr.size,
            "truncated": stdout.truncated,
        }
        return Outcome(result=stdout.text(), response=response, exit_code=0)


def _failure(ended: Exit, stderr: Tail) -> TaskError:
    code = ended.code
    if ended.out_of_memory:
        message = "the command was killed for its memory; raise input.limits.total_memory_mb"
        return TaskError("out_of_memory", message, details={"exit_code": code, "stderr": stderr.text()}, exit_code=code)
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    last = stderr.text().rpartition("\n")[2].strip()
    message = f"the command ended with {how}" + (f": {last[:500]}" if last else "")
    return TaskError("exit_code", message, details={"exit_code": code, "stderr": stderr.text()}, exit_code=code)
