"""``taskloom contracts``: make the files in contracts/, or check them."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from taskloom.errors import TaskloomError


def command(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 when something drifted or broke.")
    ] = False,
    release: Annotated[bool, typer.Option("--release", help="Keep today's schemas as this version's release.")] = False,
    directory: Annotated[Path, typer.Option(help="Where the files are.")] = Path("contracts"),
) -> None:
    """Make AsyncAPI, OpenAPI and JSON Schemas from the code; compare with the last release."""
    from taskloom.contracts import files as contracts

    if not directory.is_dir():
        raise TaskloomError(f"no directory {directory}: run this in Taskloom's repository, or give --directory")
    files = contracts.generate(gateway_document())
    broken = contracts.breaks(directory, files)
    if check:
        problems = contracts.drift(directory, files) + broken
        _tell(problems)
        if problems:
            print(
                "run `make contracts`; what breaks a release needs a new version (.v2) of the message", file=sys.stderr
            )
            raise typer.Exit(1)
        print(f"{len(files)} contracts are as the code says")
        return
    _tell(broken)
    changed = contracts.write(directory, files)
    print(f"{len(files)} contracts, {len(changed)} changed")
    if release:
        if broken:
            raise TaskloomError("not released: the contracts break with the last release")
        print(f"released in {contracts.release(directory, version('taskloom'), files)}")


def gateway_document() -> dict[str, Any]:
    """The OpenAPI document of the gateway's routes, without starting it."""
    from litestar.datastructures import State

    from services.gateway.openapi import document_of
    from services.gateway.routing import routed
    from services.gateway.settings import GatewaySettings

    return document_of(routed(GatewaySettings.model_fields["max_body_bytes"].default, State()))


def _tell(problems: list[str]) -> None:
    for problem in problems:
        print(problem, file=sys.stderr)
