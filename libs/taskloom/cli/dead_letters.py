"""``taskloom dead-letters``: what could not be applied, why, and sending it again."""

import asyncio
import re
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from taskloom.bus import dead_letters
from taskloom.bus.dead_letters import Filed
from taskloom.bus.publish import Publisher
from taskloom.cli.listing import Column, print_listing
from taskloom.cli.show import print_json
from taskloom.errors import TaskloomError
from taskloom.settings import ServiceSettings, load
from taskloom.telemetry import configure_logging
from taskloom.wire.topics import Topics

app = typer.Typer(
    help="Records that could not be applied: list them, look at one, send them again.", no_args_is_help=True
)
console = Console()
T = TypeVar("T")

SINCE = Annotated[str, typer.Option(help="Only from this long ago (90s, 30m, 2h, 7d), or from this RFC 3339 time, on.")]
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@app.command("list")
def list_letters(
    since: SINCE = "",
    redriven: Annotated[bool, typer.Option("--all", help="Also those that were sent again.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False,
) -> None:
    """Lists dead letters, oldest first, with their PLACE."""
    letters = [filed for filed in _run(_read(since)) if redriven or filed.redriven_at is None]
    if as_json:
        print_json([_told(filed) for filed in letters[-limit:]])
        return
    columns = (
        *(Column("place"), Column("at", 2), Column("topic", 3), Column("key", 1), Column("field", 4)),
        *(Column("reason"), Column("redriven", 5)),
    )
    print_listing(columns, [_row(filed) for filed in letters[-limit:]], empty="no dead letters")
    console.print(f"{len(letters)} dead letters")


@app.command()
def show(place: Annotated[str, typer.Argument(help="PARTITION:OFFSET, as list shows it.")]) -> None:
    """Shows one dead letter whole, with the record's headers and value."""
    filed = _pick(_run(_read("")), [place])[0]
    letter = filed.letter
    console.print(
        f"[bold]{letter.topic}[/bold] partition {letter.partition} offset {letter.offset}, dead since {letter.at}"
    )
    console.print(f"reason: {letter.reason}" + (f" (field {letter.field})" if letter.field else ""), markup=False)
    console.print(f"key: {letter.key}", markup=False)
    for name, content in letter.headers:
        console.print(f"{name}: {content.decode('utf-8', 'backslashreplace')}", markup=False)
    console.print(letter.value.decode("utf-8", "backslashreplace"), markup=False)


@app.command()
def redrive(
    places: Annotated[list[str] | None, typer.Argument(help="PARTITION:OFFSET of each, as list shows it.")] = None,
    since: SINCE = "",
    everything: Annotated[bool, typer.Option("--all", help="All that were not sent again yet.")] = False,
) -> None:
    """Sends dead letters' records to their topics again: those named, or all since a time that were not yet."""
    if not (places or since or everything):
        raise TaskloomError("say which: PARTITION:OFFSET …, --since TIME or --all")
    letters = _run(_read("" if places else since))
    chosen = _pick(letters, places) if places else [filed for filed in letters if filed.redriven_at is None]
    count = _run(_redrive(chosen)) if chosen else 0
    console.print(f"{count} records sent again")


def _row(filed: Filed) -> tuple[str, ...]:
    letter = filed.letter
    at, topic = f"{letter.at:%Y-%m-%d %H:%M:%S}", letter.topic.rpartition(".")[2]
    again = f"{filed.redriven_at:%Y-%m-%d %H:%M:%S}" if filed.redriven_at else ""
    return (filed.place, at, topic, letter.key, letter.field, letter.reason, again)


def _told(filed: Filed) -> dict[str, Any]:
    letter = filed.letter
    return {
        "place": filed.place,
        "at": letter.at,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "key": letter.key,
        "field": letter.field,
        "reason": letter.reason,
        "value": letter.value.decode("utf-8", "backslashreplace"),
        "redriven_at": filed.redriven_at,
    }


async def _read(since: str) -> list[Filed]:
    settings = load(ServiceSettings)
    start = _moment(since) if since else None
    return await dead_letters.read(
        settings.kafka_bootstrap, Topics(settings.topic_prefix), settings.partitions, since=start
    )


async def _redrive(letters: list[Filed]) -> int:
    settings = load(ServiceSettings)
    publisher = Publisher(settings.kafka_bootstrap, "taskloom-redrive")
    await publisher.start()
    try:
        return await dead_letters.redrive(publisher, letters, Topics(settings.topic_prefix))
    finally:
        await publisher.stop()


def _pick(letters: list[Filed], places: list[str]) -> list[Filed]:
    by_place = {filed.place: filed for filed in letters}
    missing = [place for place in places if place not in by_place]
    if missing:
        raise TaskloomError(
            f"no dead letter at {', '.join(missing)}; `taskloom dead-letters list --all` shows their places"
        )
    return [by_place[place] for place in dict.fromkeys(places)]


def _moment(text: str) -> datetime:
    if found := _DURATION.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: float(found[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise TaskloomError(
            f"--since {text!r} is neither a duration (90s, 30m, 2h, 7d) nor an RFC 3339 time"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    configure_logging("dead-letters", level="error", log_format="console")
    return asyncio.run(coroutine)
