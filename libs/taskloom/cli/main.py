"""The `taskloom` command. Each verb lives in a module of its own, which is imported when the verb is used."""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from taskloom.cli.beside import VERBS_BESIDE, use_running_home
from taskloom.errors import TaskloomError

VERBS: Final = {
    "up": "Start everything on this machine in the foreground",
    "demo": "Start everything, run real tasks and show them live",
    "submit": "Submit a task",
    "get": "Show a task, now or as of an earlier moment",
    "list": "List tasks, newest first",
    "watch": "Follow a task until its end",
    "output": "Write what a task wrote",
    "cancel": "Cancel a task",
    "pause": "Pause a task",
    "resume": "Let a paused task go on",
    "retry": "Let a task that ended badly begin anew",
    "fork": "Make a new task of one as it was, with changes",
    "diff": "Show two tasks or runs side by side",
    "update": "Change a task",
    "delete": "Take a task out of all lists",
    "timeline": "Draw a task's history",
    "goal": "Begin a goal, or draw its plan and how each step is",
    "steps": "Draw a workflow's steps, and how each of them is",
    "sessions": "Show, name and remove sessions",
    "approvals": "Show what waits for a decision, and decide",
    "why": "Say what holds a task that does not run",
    "workflows": "Store, look at and run workflows; templates",
    "schedules": "Tasks that run by the clock",
    "executors": "List executors",
    "agents": "List agents; let one in, drain it, turn it away",
    "queues": "List queues",
    "report": "Draw what the system has done, hour by hour",
    "usage": "Draw what a tenant used: tokens, money, tasks",
    "quotas": "Show and change what a tenant may use",
    "keys": "Make, list and revoke API keys",
    "webhooks": "Who is told of tasks' ends, and what became of it",
    "audit": "List who changed what, or wanted to",
    "secrets": "Store, list and remove secrets that tasks refer to",
    "tool-servers": "MCP servers whose tools tasks may call",
    "mcp": "Serve Taskloom to models, as an MCP server",
    "verify": "Check stored history and read tables against each other",
    "retention": "Show what is old in the read tables, take it out, bring it back",
    "dead-letters": "Show and redrive records that could not be applied",
    "config": "Print every setting with default, unit and value",
    "contracts": "Generate AsyncAPI, OpenAPI and JSON Schemas",
    "migrate": "Bring the database's tables up to date",
    "topics": "Make the Kafka topics that are missing",
    "gateway": "Run the gateway service",
    "orchestrator": "Run the orchestrator service",
    "executor": "Run the executor service",
    "agent": "Run an agent: an executor that only needs a way to a gateway",
    "projection": "Run the projection service",
}


def module_of(verb: str) -> str:
    return f"taskloom.cli.{verb.replace('-', '_')}"


class LazyVerbs(TyperGroup):
    """Lists the verbs without importing their modules; imports the one that runs."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return [verb for verb in VERBS if find_spec(module_of(verb)) is not None]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | None:  # type: ignore[override]
        """Name and summary only: what the list of verbs needs."""
        return TyperCommand(cmd_name, help=VERBS[cmd_name]) if cmd_name in self.list_commands(ctx) else None

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        name, _, rest = super().resolve_command(ctx, args)
        if name in VERBS_BESIDE:
            use_running_home()
        return name, load_verb(str(name)), rest

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except TaskloomError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(1) from error


def load_verb(verb: str) -> TyperCommand | TyperGroup:
    """The command of a verb: its module's Typer ``app``, or the function ``command`` or named like the verb."""
    module = import_module(module_of(verb))
    if hasattr(module, "app"):
        command = get_command(module.app)
    else:
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(name=verb)(getattr(module, "command", None) or getattr(module, verb.replace("-", "_")))
        command = get_command(alone)
    command.name = verb
    return cast("TyperCommand | TyperGroup", command)


app = typer.Typer(name="taskloom", cls=LazyVerbs, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def root() -> None:
    """Durable tasks on Kafka and PostgreSQL, every one of them replayable."""


if __name__ == "__main__":
    app()
