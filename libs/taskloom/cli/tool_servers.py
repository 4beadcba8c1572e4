"""``taskloom tool-servers``: MCP servers whose tools tasks may call."""

import shlex
from typing import Annotated

import typer
from rich.text import Text

from taskloom.cli import completing
from taskloom.cli.listing import Column, print_listing
from taskloom.cli.remote import HERE, Json, Url, answer
from taskloom.cli.show import ago, console
from taskloom.client import tool_server_calls as calls
from taskloom.client.tool_server_calls import SecretName, ToolServer, ToolServerPage, ToolServerWish, ToolsOfServer

app = typer.Typer(help="MCP servers whose tools tasks may call.", no_args_is_help=True, add_completion=False)

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Its name.", show_default=False, autocompletion=completing.tool_servers),
]
_PAIR = "NAME=VALUE; may be repeated."
_SECRET = "NAME=SECRET, the name of a secret; may be repeated."


@app.command("list")
def list_tool_servers(
    limit: Annotated[int, typer.Option(min=1, max=100)] = 100,
    cursor: Annotated[str, typer.Option(help="Go on where the last page ended.")] = "",
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """List tool servers, by name."""
    answer(url, calls.list_tool_servers(cursor, limit), as_json, _show_page)


@app.command()
def put(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name: 1 to 64 of A-Z a-z 0-9 _ -")],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND...]", help="The command of a server over stdin and stdout."),
    ] = None,
    address: Annotated[str, typer.Option("--to", help="The address of a server over streamable HTTP.")] = "",
    env: Annotated[list[str] | None, typer.Option("--env", help=_PAIR)] = None,
    env_secret: Annotated[list[str] | None, typer.Option("--env-secret", help=_SECRET)] = None,
    header: Annotated[list[str] | None, typer.Option("--header", help=_PAIR)] = None,
    header_secret: Annotated[list[str] | None, typer.Option("--header-secret", help=_SECRET)] = None,
    tool: Annotated[
        list[str] | None, typer.Option("--tool", help="Only this can be called; may be repeated. Default: all.")
    ] = None,
    idempotent: Annotated[
        list[str] | None, typer.Option("--idempotent", help="A tool that may be called twice; may be repeated.")
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Of one call, in seconds.")] = 60.0,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    off: Annotated[bool, typer.Option("--off", help="Register it switched off.")] = False,
    as_json: Json = False,
    url: Url = HERE,
) -> None:
    """Register a tool server, or take the place of the one of that name: NAME -- COMMAND..., or NAME --to ADDRESS."""
    if bool(command) == bool(address):
        raise typer.BadParameter("give a command after --, or an address by --to")
    wish: ToolServerWish = {"transport": "stdio" if command else "http", "timeout_s": timeout_s, "enabled": not off}
    if command:
        wish |= {"transport": "stdio", "command": command, "env": _values(env, env_secret)}
    else:
        wish |= {"transport": "http", "url": address, "headers": _values(header, header_secret)}
    wish |= {"transport": wish["transport"], "tools": tool or None, "idempotent": idempotent or []}
    if description:
        wish["description"] = description
    answer(url, calls.put(name, wish), as_json, _show_one)


@app.command()
def get(name: Name, as_json: Json = False, url: Url = HERE) -> None:
    """Show a tool server."""
    answer(url, calls.get(name), as_json, _show_one)


@app.command()
def remove(name: Name, as_json: Json = False, url: Url = HERE) -> None:
    """Remove a tool server. Calls that run go on."""
    answer(url, calls.remove(name), as_json, lambda _: print(f"{name} is removed"))


@app.command()
def tools(name: Name, as_json: Json = False, url: Url = HERE) -> None:
    """Have an executor ask a tool server what it has; exit code 1 when it does not answer."""
    answer(url, calls.tools(name), as_json, _show_tools)


def _values(plain: list[str] | None, secrets: list[str] | None) -> dict[str, str | SecretName]:
    found: dict[str, str | SecretName] = dict(map(_pair, plain or []))
    return found | {name: SecretName(secret=secret) for name, secret in map(_pair, secrets or [])}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE")
    return name, value


def _reached(server: ToolServer) -> str:
    return shlex.join(server.command) if server.command else server.url


def _offered(server: ToolServer) -> str:
    return "all" if server.tools is None else ", ".join(server.tools) or "none"


def _show_page(page: ToolServerPage) -> None:
    columns = (Column("server"), Column("reached by", most=60), Column("tools", 2, most=40), Column("state"))
    rows = [
        (each.name, _reached(each), _offered(each), "enabled" if each.enabled else "off") for each in page.tool_servers
    ]
    print_listing(columns, rows, empty="no tool servers")
    if page.next_cursor:
        console().print(f"more: --cursor {page.next_cursor}", markup=False)


def _show_one(server: ToolServer) -> None:
    state = "enabled" if server.enabled else "off"
    console().print(Text(f"{server.name}: {_reached(server)}, tools: {_offered(server)}, {state}"))
    console().print(Text(f"version {server.version}, changed {ago(server.updated_at)}", style="dim"))


def _show_tools(found: ToolsOfServer) -> None:
    if not found.healthy:
        console(stderr=True).print(Text(f"{found.name} cannot be asked: {found.error} {found.task_id}".rstrip()))
        raise typer.Exit(1)
    columns = (Column("tool"), Column("arguments", 1, most=40), Column("description", 2, most=80))
    rows = [
        (each.name, ", ".join(each.schema.get("properties", {})), " ".join(each.description.split()))
        for each in found.tools
    ]
    print_listing(columns, rows, empty="no tools")
    console().print(f"answered within {found.latency_ms} ms", style="dim")
