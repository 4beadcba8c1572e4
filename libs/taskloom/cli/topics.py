"""``taskloom topics``: make the Kafka topics that are missing."""

from typing import Annotated

import typer


def command(
    bootstrap: Annotated[
        str,
        typer.Option(
            "--bootstrap", envvar="TASKLOOM_KAFKA_BOOTSTRAP", help="Kafka brokers, host:port, comma-separated."
        ),
    ] = "127.0.0.1:9092",
    prefix: Annotated[
        str, typer.Option("--prefix", envvar="TASKLOOM_TOPIC_PREFIX", help="First part of every topic's name.")
    ] = "taskloom",
    partitions: Annotated[
        int, typer.Option("--partitions", envvar="TASKLOOM_PARTITIONS", min=1, max=64, help="Partitions of each topic.")
    ] = 8,
    replication: Annotated[
        int, typer.Option("--replication", min=1, help="Copies of each partition; 3 on a cluster.")
    ] = 1,
    min_insync_replicas: Annotated[
        int,
        typer.Option("--min-insync-replicas", min=1, help="Copies that must have a record before it is acknowledged."),
    ] = 1,
    timeout_s: Annotated[float, typer.Option("--timeout-s", min=1.0, help="Seconds to wait for Kafka.")] = 60.0,
) -> None:
    """Make the topics that are missing; safe to run again, and by several processes at once."""
    import asyncio

    from taskloom.bus.admin import ensure_topics

    if min_insync_replicas > replication:
        raise typer.BadParameter(f"cannot be more than --replication {replication}", param_hint="--min-insync-replicas")
    made = asyncio.run(
        ensure_topics(
            bootstrap,
            prefix,
            partitions,
            replication=replication,
            overrides={"min.insync.replicas": str(min_insync_replicas)},
            timeout_s=timeout_s,
        )
    )
    for name in made:
        typer.echo(f"made {name}")
    if not made:
        typer.echo(f"nothing to do: the topics {prefix}.* are there")
