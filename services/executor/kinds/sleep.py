"""``sleep``: takes a while, can be held at any moment."""

from typing import Final

from taskloom.kinds import Context, Handler, Outcome
from taskloom.kinds.inputs import SleepInput, read

STEPS: Final = 20
SHORTEST_STEP_S: Final = 0.5


class Sleep(Handler):
    """Sleeps ``seconds`` with a heartbeat that tells the progress; held time is not slept time."""

    kind = "sleep"

    async def run(self, ctx: Context) -> Outcome:
        seconds = read(SleepInput, ctx.input).seconds
        steps = max(1, min(STEPS, int(seconds / SHORTEST_STEP_S)))
        for step in range(steps):
            if step:
                await ctx.heartbeat(step / steps, f"slept {seconds * step / steps:.1f} of {seconds:g} s")
            await ctx.sleep(seconds / steps)
        return Outcome(result=f"slept {seconds:g} s", response={"seconds": seconds})
