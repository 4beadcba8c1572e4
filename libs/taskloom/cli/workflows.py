"""``taskloom workflows``: stored workflows, their runs, and templates."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from taskloom.cli import completing
from taskloom.cli.listing import Column, print_listing
from taskloom.cli.remote import HERE, Json, Reason, Url, answer, connected, exit_for
from taskloom.cli.show import ago, console, moment, print_json
from taskloom.cli.submit import read_input
from taskloom.cli.task_view import show_task
from taskloom.cli.watch import watch
from taskloom.client import workflow_answers as w
from taskloom.client import workflow_calls
from taskloom.client.workflow_calls import Execution
from taskloom.errors import TaskloomError

app = typer.Typer(
    help="Stored workflows: save, look at, run, remove them; templates.", no_args_is_help=True, add_completion=False
)

INVALID = 1
Id = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="Id of the stored workflow.", show_default=False, autocompletion=completing.workflows
    ),
]
File = Annotated[str, typer.Argument(metavar="FILE|-", help="JSON of the definition; - is stdin.", show_default=False)]


@app.command("list")
def list_workflows(
    after: Annotated[str, typer.Option(help="Ids that come after this one.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100)] = 50,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """List stored workflows, by id, each in its newest revision."""
    answer(url, workflow_calls.list_workflows(after, limit), as_json, _show_page)


@app.command()
def show(
    name: Id,
    revision: Annotated[int | None, typer.Option(min=1, help="This revision.")] = None,
    version: Annotated[str, typer.Option(help="The newest revision of this version.")] = "",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Show a stored workflow: its revisions, and the definition of the newest or the one asked for."""
    call = workflow_calls.get(name, revision, version)
    if as_json:
        answer(url, call, True, print_json)
        return
    with connected(url) as client:
        _show_revisions(client.call(workflow_calls.revisions(name)))
        print_json(client.call(call).definition)


@app.command()
def save(
    file: File,
    name: Annotated[str, typer.Option("--id", help="Its id; default: made of its name.")] = "",
    expected: Annotated[
        int | None, typer.Option(min=0, help="Refuse unless this is the newest revision; 0: there is none.")
    ] = None,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Store a workflow, or a revision of it; what is the newest already stays it."""
    definition = read_definition(file)
    answer(url, workflow_calls.save(definition, name, expected), as_json, _show_saved)


@app.command()
def run(
    name: Id,
    var: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A variable: JSON, or else text; may be repeated.")
    ] = None,
    revision: Annotated[int | None, typer.Option(min=1, help="This revision, not the newest.")] = None,
    version: Annotated[str, typer.Option(help="The newest revision of this version.")] = "",
    task_id: Annotated[str, typer.Option(help="The run's id; the same again is the same run.")] = "",
    key: Annotated[str, typer.Option(help="Idempotency key: the same again is the same run.")] = "",
    follow: Annotated[bool, typer.Option("--watch", "-w", help="Follow it until its end.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end and show it.")] = False,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Run a stored workflow and print the run's id. With --watch or --wait exit 1 when it did not complete."""
    wish: Execution = {"variables": read_variables(var or [])}
    if revision is not None:
        wish["revision"] = revision
    if version:
        wish["version"] = version
    if task_id:
        wish["task_id"] = task_id
    with connected(url) as client:
        call = workflow_calls.execute(name, wish, idempotency_key=key)
        content = client.raw(call)
        run_id = call.read(content).task_id
        if follow:
            exit_for(watch(client, run_id))
        elif wait:
            ended = client.wait(run_id)
            show_task(ended)
            exit_for(ended)
        elif as_json:
            print_json(content)
        else:
            print(run_id)


@app.command()
def remove(name: Id, reason: Reason = "", as_json: Json = False, url: Url = HERE) -> None:
    """Remove a stored workflow. Its runs go on."""
    answer(url, workflow_calls.remove(name, reason), as_json, lambda done: print(f"{done.id} is removed"))


@app.command()
def validate(file: File, as_json: Json = False, url: Url = HERE) -> None:
    """Check a workflow without storing it. Exit 1 when it is not valid."""
    verdict = answer(url, workflow_calls.validate(read_definition(file)), as_json, _show_verdict)
    if not verdict.valid:
        raise typer.Exit(INVALID)


@app.command()
def templates(as_json: Json = False, url: Url = HERE) -> None:
    """List templates and their parameters."""
    answer(url, workflow_calls.templates(), as_json, _show_templates)


@app.command("from-template")
def from_template(
    template: Annotated[str, typer.Argument(help="Name of the template.", show_default=False)],
    value: Annotated[
        str, typer.Option("--parameters", "-p", metavar="JSON|@FILE|-", help="JSON, @file, or - for stdin.")
    ] = "{}",
    save_as: Annotated[str, typer.Option(help="Store it under this id.")] = "",
    execute: Annotated[bool, typer.Option("--run", help="Run it.")] = False,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Make a workflow from a template: print its definition, or store or run it."""
    wish: Execution | None = {} if execute else None
    call = workflow_calls.instantiate(template, read_input(value), save_as, wish)
    answer(url, call, as_json, _show_instantiated)


def read_definition(file: str) -> dict[str, Any]:
    """The definition in a file, or on stdin for ``-``.

    Raises:
        TaskloomError: it cannot be read, or is no JSON object.
    """
    if file != "-" and not Path(file).is_file():
        raise TaskloomError(f"{file}: there is no such file; give the JSON of a definition, or - for stdin")
    return read_input(file if file == "-" else f"@{file}")


def read_variables(texts: list[str]) -> dict[str, Any]:
    """``KEY=VALUE``: the value as JSON where it is some, else as text.

    Raises:
        TaskloomError: there is no ``=``.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise TaskloomError(f"--var {text!r}: write KEY=VALUE")
        try:
            found[name] = msgspec.json.decode(value)
        except msgspec.MsgspecError:
            found[name] = value
    return found


def _show_page(page: w.WorkflowPage) -> None:
    columns = (
        *(Column("id"), Column("name", 1, most=40), Column("revision", right=True), Column("version", 2)),
        *(Column("steps", 3, right=True), Column("saved", 4), Column("by", 5)),
    )
    rows = [
        (
            each.id,
            each.name,
            str(each.revision),
            each.version,
            str(each.steps),
            ago(each.saved_at),
            each.saved_by or "-",
        )
        for each in page.workflows
    ]
    print_listing(columns, rows, empty="no workflow is stored")
    if page.next_cursor:
        console().print(f"{page.total_count:,} in all; go on with --after {page.next_cursor}", markup=False)


def _show_revisions(found: w.WorkflowRevisions) -> None:
    columns = (
        *(Column("revision", right=True), Column("version"), Column("steps", right=True)),
        *(Column("saved", 1), Column("by", 2)),
    )
    rows = [
        (str(each.revision), each.version, str(each.steps), moment(each.saved_at)[:-4], each.saved_by or "-")
        for each in found.revisions
    ]
    print_listing(columns, rows, empty="no revisions")


def _show_saved(saved: w.SavedWorkflow) -> None:
    told = "is" if saved.changed else "was already"
    print(f"{saved.id} {told} at revision {saved.revision} (version {saved.version})")


def _show_verdict(verdict: w.Verdict) -> None:
    for fault in verdict.faults:
        print(f"{fault.path}: {fault.message}")
    for warning in verdict.warnings:
        print(f"warning: {warning.path}: {warning.message}")
    for number, phase in enumerate(verdict.phases, start=1):
        print(f"phase {number}: {', '.join(phase)}")


def _show_templates(found: w.Templates) -> None:
    table = _table("template", "does", "needs", "takes")
    for each in found.templates:
        required = each.parameters.get("required", [])
        optional = [name for name in each.parameters.get("properties", {}) if name not in required]
        table.add_row(each.name, each.description, ", ".join(required), ", ".join(optional))
    console().print(table)


def _show_instantiated(made: w.Instantiated) -> None:
    if made.saved is None and made.run is None:
        print_json(made.definition)
    if made.saved is not None:
        _show_saved(made.saved)
    if made.run is not None:
        print(made.run.task_id)


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in names:
        table.add_column(name, overflow="fold")
    return table
