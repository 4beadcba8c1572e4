"""``taskloom secrets``: values that tasks refer to by name."""

import sys
from typing import Annotated

import typer
from rich.table import Table

from taskloom.cli.remote import HERE, Json, Url, answer
from taskloom.cli.show import ago, console
from taskloom.client import secret_calls as calls
from taskloom.client.secret_calls import SecretPage

app = typer.Typer(help="Values that tasks refer to by name.", no_args_is_help=True, add_completion=False)

Name = Annotated[str, typer.Argument(metavar="NAME", help='As tasks name it: {"secret": "NAME"}.')]


@app.command("list")
def list_secrets(
    limit: Annotated[int, typer.Option(min=1, max=100)] = 100,
    cursor: Annotated[str, typer.Option(help="Go on where the last page ended.")] = "",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """List their names; values are never told."""
    answer(url, calls.list_secrets(cursor, limit), as_json, _show)


@app.command()
def put(name: Name, as_json: Json = False, url: Url = HERE) -> None:
    """Store a secret: asked for, or read from a pipe, never an argument, which others could see."""
    piped = not sys.stdin.isatty()
    value: str = sys.stdin.read().removesuffix("\n") if piped else typer.prompt("Value", hide_input=True)
    answer(url, calls.put(name, value), as_json, lambda seen: print(f"{seen.name} is stored"))


@app.command()
def remove(name: Name, as_json: Json = False, url: Url = HERE) -> None:
    """Remove a secret; attempts that need it fail from then on."""
    answer(url, calls.remove(name), as_json, lambda _: print(f"{name} is removed"))


def _show(page: SecretPage) -> None:
    table = Table("secret", "made", "changed", box=None)
    for each in page.secrets:
        table.add_row(each.name, ago(each.created_at), ago(each.updated_at))
    console().print(table if page.secrets else "there are no secrets")
    if page.next_cursor:
        console().print(f"more: --cursor {page.next_cursor}", markup=False)
