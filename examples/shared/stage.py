"""What the programs have in common: where the server is, what is drawn, what is printed at the end."""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import uuid4

import typer
from rich.text import Text

from taskloom.cli.beside import use_running_home
from taskloom.cli.follow_run import follow_run
from taskloom.cli.show import console, state_text
from taskloom.cli.waterfall import waterfall
from taskloom.client.errors import ClientError, NotFound
from taskloom.client.tasks import TaskAPI
from taskloom.client.workflows import Workflow, WorkflowStatus
from taskloom.errors import TaskloomError

LIMIT_S: Final = 120.0
LOOK_S: Final = 0.05

AsJson = Annotated[bool, typer.Option("--json", help="Print what came out as JSON, and nothing else.")]
Keep = Annotated[bool, typer.Option(help="Leave the work directory behind, to look into it.")]


class NotCompleted(TaskloomError):
    """A workflow of the example did not complete."""


class Stage:
    """Where one program shows what it does; silent when its result is wanted as JSON."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.out = console(stderr=True) if as_json else console()
        self.out.quiet = as_json

    def act(self, title: str, said: str = "") -> None:
        self.out.print(f"\n[bold]{title}[/bold]")
        if said:
            self.out.print(said, soft_wrap=True)

    def say(self, *texts: Any) -> None:
        self.out.print("  ", *texts, sep="", soft_wrap=True)

    async def execute(self, api: TaskAPI, workflow: Workflow, *, redraw: bool = True) -> Workflow:
        """Runs a workflow to its end, at most 120 s, and draws its tree meanwhile. Without ``redraw`` it prints lines
        and has no limit, since somebody is asked. Cancelled, it cancels the run.

        Raises:
            NotCompleted: it ended otherwise.
        """
        try:
            ended, _ = await asyncio.gather(
                api.execute_workflow(workflow, timeout_s=LIMIT_S if redraw else None),
                follow_run(api.client, str(workflow.id), self.out, redraw=redraw),
            )
        except asyncio.CancelledError:
            with suppress(ClientError):  # the server may be what is away
                await api.cancel_workflow(workflow.id)
            raise
        if ended.status is not WorkflowStatus.COMPLETED:
            raise NotCompleted(f"workflow {ended.id} is {ended.status}: {ended.error_message or 'no reason given'}")
        return ended

    @asynccontextmanager
    async def executing(
        self, api: TaskAPI, workflow: Workflow, *, redraw: bool = True
    ) -> AsyncIterator["asyncio.Task[Workflow]"]:
        """As ``execute``, beside the block, which awaits what it gets; left early, it cancels the run."""
        running = asyncio.create_task(self.execute(api, workflow, redraw=redraw))
        try:
            yield running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def show_why(self, api: TaskAPI, task_id: str) -> list[str]:
        """Prints what holds a task, as ``taskloom why`` does; returns the gates' names."""
        why = await api.client.why(task_id)
        self.say(Text.assemble(("$ taskloom why ", "dim"), (task_id, "dim")))
        for gate in why.gates:
            held_by = f" ({', '.join(gate.held_by)})" if gate.held_by else ""
            self.say(Text.assemble(state_text(why.state), "  ", (gate.gate, "bold"), f": {gate.detail}{held_by}"))
        return [gate.gate for gate in why.gates]

    async def wait_for_gate(self, api: TaskAPI, task_id: str, running: "asyncio.Task[Workflow]") -> list[str]:
        """Shows what holds a step's task as soon as something does; nothing when the run ends before."""
        while not running.done():
            with suppress(NotFound):
                if (await api.client.why(task_id)).gates:
                    return await self.show_why(api, task_id)
            await asyncio.sleep(LOOK_S)
        return []

    async def show_timeline(self, api: TaskAPI, task_id: str) -> None:
        self.say(Text.assemble(("$ taskloom timeline ", "dim"), (task_id, "dim")))
        self.out.print(waterfall(await api.client.events(task_id)))

    def done(self, result: dict[str, Any]) -> None:
        if self.as_json:
            print(json.dumps(result, indent=2))


def agent_id(name: str) -> str:
    """An id that no other program's agent has."""
    return f"{name}-{uuid4().hex[:6]}"


@contextmanager
def work_directory(name: str, keep: bool) -> Iterator[Path]:
    """Gone after the block, unless it shall be kept."""
    path = Path(tempfile.mkdtemp(prefix=f"taskloom-{name}-"))
    try:
        yield path
    finally:
        if keep:
            print(f"the work directory is {path}", file=sys.stderr)
        else:
            shutil.rmtree(path, ignore_errors=True)


def start(main: Callable[..., None]) -> None:
    """Runs ``main`` with the command line's options."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()


def play(work: Coroutine[Any, Any, None]) -> None:
    """Runs the program; a fault that the reader can mend is one line on stderr and exit code 1."""
    try:
        asyncio.run(work)
    except TaskloomError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def beside_taskloom() -> None:
    """Finds the system that ``taskloom up`` runs in TASKLOOM_HOME; what the environment says wins."""
    use_running_home()
