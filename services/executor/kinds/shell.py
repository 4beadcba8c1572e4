"""``shell``: a command under bash."""

from typing import Final

from services.executor.kinds.tail import Tail
from taskloom.kinds import Context, Handler, Outcome, TaskError
from taskloom.kinds.inputs import ShellInput, read

RESULT_BYTES: Final = 16 * 1024
ERROR_BYTES: Final = 2 * 1024


class Shell(Handler):
    """Runs ``bash -c cmd`` in a process group of its own; its output is streamed in the order in which it was written.

    The result is the end of stdout (16 KiB; all of it is in the output), the response
    ``{exit_code, stdout_bytes, stderr_bytes, truncated}``. Anything but exit code 0 is a failure of type ``exit_code``.
    The attempt is over when the whole group is: what the command leaves running is killed a second after it.
    """

    kind = "shell"

    async def run(self, ctx: Context) -> Outcome:
        wished = read(ShellInput, ctx.input)
        process = await ctx.spawn(
            ["bash", "-c", wished.cmd],
            env=wished.env,
            cwd=wished.cwd,
            stdin=wished.stdin.encode(),
            limits=wished.limits,
        )
        stdout, stderr = Tail(RESULT_BYTES), Tail(ERROR_BYTES)
        async for stream, data in process.output():
            if stream == "stderr":
                stderr.add(data)
                await ctx.write(data, "stderr")
            else:
                stdout.add(data)
                await ctx.write(data)
        ended = await process.wait()
        if ended.code != 0:
            raise _failure(ended.code, stderr)
        response = {
            "exit_code": 0,
            "stdout_bytes": stdout.size,
            "stderr_bytes": stderr.size,
            "truncated": stdout.truncated,
        }
        return Outcome(result=stdout.text(), response=response, exit_code=0)


def _failure(code: int, stderr: Tail) -> TaskError:
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    last = stderr.text().rpartition("\n")[2].strip()
    message = f"the command ended with {how}" + (f": {last[:500]}" if last else "")
    return TaskError("exit_code", message, details={"exit_code": code, "stderr": stderr.text()}, exit_code=code)
