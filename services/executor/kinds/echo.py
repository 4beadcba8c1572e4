"""``echo``: gives the input back."""

from typing import Final

import msgspec

from taskloom.kinds import Context, Handler, Outcome, TaskError
from taskloom.kinds.inputs import EchoInput, read

_encoder: Final = msgspec.json.Encoder()


class Echo(Handler):
    """The result is the input as JSON text, the response the input itself. The first ``fail_times`` attempts fail."""

    kind = "echo"
    immediate = True

    async def run(self, ctx: Context) -> Outcome:
        if "fail_times" in ctx.input:
            wished = read(EchoInput, ctx.input).fail_times
            if ctx.attempt <= wished:
                raise TaskError("echo_failed", f"attempt {ctx.attempt} fails, as the first {wished} were asked to")
        return Outcome(result=_encoder.encode(ctx.input).decode(), response=ctx.input)
