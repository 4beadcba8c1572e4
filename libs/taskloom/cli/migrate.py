"""``taskloom migrate``: bring the database's tables up to this release."""

from typing import Annotated

import typer


def migrate(
    dsn: Annotated[
        str,
        typer.Option(
            "--dsn", envvar="TASKLOOM_DATABASE_DSN", help="PostgreSQL DSN of the event store.", show_default=False
        ),
    ],
    shards: Annotated[
        int, typer.Option("--shards", envvar="TASKLOOM_SHARDS", min=1, max=64, help="Shards of the event store.")
    ] = 2,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=1.0, help="Seconds to wait for the database and for other migrations.")
    ] = 60.0,
) -> None:
    """Create and change tables; safe to run again, and by several processes at once."""
    from taskloom.errors import TaskloomError
    from taskloom.store.migrate import migrate as apply_migrations

    try:
        applied = apply_migrations(dsn, shards, timeout_s=timeout_s)
    except TaskloomError as error:
        typer.secho(f"taskloom migrate: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error
    for name in applied:
        typer.echo(f"applied {name}")
    if not applied:
        typer.echo("nothing to do: the tables are up to date")
