"""``taskloom webhooks``: who is told of tasks' ends, and what became of it."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from taskloom.cli import completing
from taskloom.cli.controlling import show_state
from taskloom.cli.listing import Column, print_listing
from taskloom.cli.remote import HERE, Json, Url, answer
from taskloom.cli.show import ago, console, moment, state_text
from taskloom.client import webhook_calls as calls
from taskloom.client.webhook_calls import Webhook, WebhookChanges, WebhookDeliveries, WebhookFilter, WebhookWish

app = typer.Typer(help="Who is told of tasks' ends.", no_args_is_help=True, add_completion=False)

Id = Annotated[
    str,
    typer.Argument(
        metavar="WEBHOOK", help="Id of the webhook.", show_default=False, autocompletion=completing.webhooks
    ),
]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", help="completed, failed, timed_out or cancelled; may be repeated. Default: all."),
]
Kind = Annotated[str, typer.Option(help="Only of tasks of this kind.", autocompletion=completing.kinds)]
Queue = Annotated[str, typer.Option(help="Only of tasks in this queue.", autocompletion=completing.queues)]
Tag = Annotated[str, typer.Option(help="Only of tasks with this tag.")]
Limit = Annotated[int, typer.Option(min=1, max=100)]
Offset = Annotated[int, typer.Option(min=0, help="Leave out so many.")]


@app.command("list")
def list_webhooks(as_json: Json = False, url: Url = HERE) -> None:
    """List webhooks, oldest first."""
    answer(url, calls.list_webhooks(), as_json, lambda found: _show_all(found.webhooks))


@app.command()
def add(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where to deliver: an https URL.")],
    event: Events = None,
    kind: Kind = "",
    queue: Queue = "",
    tag: Tag = "",
    webhook_id: Annotated[str, typer.Option("--id", help="An id of your own.")] = "",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Add a webhook and print its secret, which is shown only now; it signs as in Standard Webhooks."""
    wish: WebhookWish = {"url": address, "events": _events(event), "filter": _filter(kind, queue, tag)}
    if webhook_id:
        wish["webhook_id"] = webhook_id
    answer(url, calls.create(wish), as_json, _show_new)


@app.command()
def get(webhook: Id, as_json: Json = False, url: Url = HERE) -> None:
    """Show a webhook."""
    answer(url, calls.get(webhook), as_json, _show_one)


@app.command()
def update(
    webhook: Id,
    address: Annotated[str, typer.Option("--to", help="Deliver to this https URL from now on.")] = "",
    event: Events = None,
    kind: Kind = "",
    queue: Queue = "",
    tag: Tag = "",
    everything: Annotated[bool, typer.Option("--all-tasks", help="Take kind, queue and tag away.")] = False,
    new_secret: Annotated[bool, typer.Option("--new-secret", help="Make and print a new secret.")] = False,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Change a webhook; what is not given stays, except that --kind, --queue and --tag go together."""
    changes: WebhookChanges = {"rotate_secret": new_secret}
    if address:
        changes["url"] = address
    if event:
        changes["events"] = _events(event)
    if everything or (narrow := _filter(kind, queue, tag)):
        changes["filter"] = {} if everything else narrow
    answer(url, calls.update(webhook, changes), as_json, _show_new if new_secret else _show_one)


@app.command()
def pause(webhook: Id, as_json: Json = False, url: Url = HERE) -> None:
    """Deliver nothing until it is resumed. What ends meanwhile is not told later."""
    answer(url, calls.update(webhook, {"enabled": False}), as_json, _show_one)


@app.command()
def resume(webhook: Id, as_json: Json = False, url: Url = HERE) -> None:
    """Deliver again."""
    answer(url, calls.update(webhook, {"enabled": True}), as_json, _show_one)


@app.command()
def remove(webhook: Id, as_json: Json = False, url: Url = HERE) -> None:
    """Remove a webhook. Deliveries that are due already go on."""
    answer(url, calls.remove(webhook), as_json, lambda _: print(f"{webhook} is removed"))


@app.command("test")
def send_test(webhook: Id, as_json: Json = False, url: Url = HERE) -> None:
    """Send a delivery of the event webhook.test."""
    answer(url, calls.test(webhook), as_json, show_state)


@app.command()
def deliveries(
    webhook: Annotated[
        str,
        typer.Argument(metavar="[WEBHOOK]", help="Id of the webhook.", autocompletion=completing.webhooks),
    ] = "",
    task: Annotated[str, typer.Option(help="Of this task's end instead.", autocompletion=completing.tasks)] = "",
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """List the deliveries of a webhook, or those that a task's end led to, newest first."""
    if bool(webhook) == bool(task):
        raise typer.BadParameter("name a webhook, or a task by --task")
    of = calls.deliveries_of_task if task else calls.deliveries
    answer(url, of(task or webhook, limit=limit, offset=offset), as_json, _show_deliveries)


@app.command()
def redeliver(
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="Its id, as deliveries shows it.")],
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Send a delivery again that was made or given up."""
    answer(url, calls.redeliver(delivery), as_json, show_state)


@app.command()
def secret(as_json: Json = False, url: Url = HERE) -> None:
    """Print the secret that signs the deliveries to the callback_url of tasks."""
    answer(url, calls.callback_secret(), as_json, lambda found: print(found.secret))


def _events(given: list[str] | None) -> list[str]:
    return [each if each.startswith("task.") else f"task.{each}" for each in given or []]


def _filter(kind: str, queue: str, tag: str) -> WebhookFilter:
    narrow: WebhookFilter = {}
    if kind:
        narrow["kind"] = kind
    if queue:
        narrow["queue"] = queue
    if tag:
        narrow["tag"] = tag
    return narrow


def _narrowed(webhook: Webhook) -> str:
    named = (("kind", webhook.filter.kind), ("queue", webhook.filter.queue), ("tag", webhook.filter.tag))
    return ", ".join(f"{name} {value}" for name, value in named if value) or "all"


def _told(webhook: Webhook) -> str:
    return ", ".join(each.removeprefix("task.") for each in webhook.events) or "all"


def _show_all(found: list[Webhook]) -> None:
    columns = (Column("webhook"), Column("delivers to"), Column("events", 2), Column("tasks", 3), Column("state"))
    rows = [
        (each.webhook_id, each.url, _told(each), _narrowed(each), "enabled" if each.enabled else "paused")
        for each in found
    ]
    print_listing(columns, rows, empty="no webhooks")


def _show_one(webhook: Webhook) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (
        ("webhook", webhook.webhook_id),
        ("delivers to", webhook.url),
        ("events", _told(webhook)),
        ("tasks", _narrowed(webhook)),
        ("state", "enabled" if webhook.enabled else "paused"),
        ("secret", f"the {webhook.secret_serial}. one"),
    ):
        table.add_row(name, Text(value))
    console().print(table)


def _show_new(webhook: Webhook) -> None:
    note = console(stderr=True)
    note.print(f"{webhook.webhook_id}: tells {webhook.url} of {_told(webhook)} ends, tasks: {_narrowed(webhook)}")
    note.print("This is the only time the secret is shown:")
    print(webhook.secret)


def _show_deliveries(found: WebhookDeliveries) -> None:
    columns = (
        *(Column("delivery"), Column("event"), Column("state"), Column("tries", 2, right=True), Column("made", 1)),
        *(Column("next try", 4), Column("task", 3), Column("webhook", 5), Column("error", 6, most=60)),
    )
    rows = [
        (
            *(each.delivery_id, each.event.removeprefix("task."), state_text(each.state), str(each.attempts)),
            *(ago(each.created_at), moment(each.next_attempt_at), each.task_id, each.webhook_id, each.error),
        )
        for each in found.deliveries
    ]
    print_listing(columns, rows, empty="no deliveries")
    if found.total_count > len(found.deliveries):
        console().print(f"{found.total_count:,} in all; --offset goes on", style="dim")
