"""The agent of the data processing example: extracts CSV files, transforms their rows, loads them into PostgreSQL.

An attempt may die at any line and be followed by another one. So what a step writes appears at once, by renaming a file
or by committing a transaction, and the load notes in the same transaction which task it was done for.

The files between the steps lie in one directory, which all agents must see.
"""

import asyncio
import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from examples.data_processing.warehouse import Loaded, Warehouse
from taskloom.client.tasks import Task
from taskloom.kinds import TaskError, current_context

Row = dict[str, str]


async def perform(task: Task, context: dict[str, Any]) -> dict[str, Any]:
    """What a step gives: its own result, and ``variables`` for the steps after it."""
    told, known = task.metadata, task.metadata["workflow_variables"]
    work = Path(told["workflow_context"]["work_directory"])
    if told["action"] == "extract":
        return await asyncio.to_thread(extract, Path(told["data_source"]), work)
    if told["action"] == "transform":
        return await asyncio.to_thread(transform, [Path(source) for source in told["sources"]], work)
    if told["action"] == "load":
        loaded = await asyncio.to_thread(load, context["task_id"], Path(known["clean_rows"]), told["workflow_context"])
        # Only for showing the worst moment to die: the rows are committed, the step has not reported it.
        await current_context().sleep(told["workflow_context"].get("linger_s", 0) if loaded.first_time else 0)
        return {"first_time": loaded.first_time, "variables": {"rows_loaded": loaded.rows}}
    raise TaskError("unknown_work", f"this agent does not know the action {told['action']!r}", retryable=False)


def extract(source: Path, work: Path) -> dict[str, Any]:
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    extracted = work / f"{source.stem}.extracted.jsonl"
    _write_at_once(extracted, rows)
    return {"rows": len(rows), "variables": {f"extracted_{source.stem}": len(rows)}}


def transform(sources: Iterable[Path], work: Path) -> dict[str, Any]:
    """Tidies what can be tidied, and sets aside what is wrong, with the reason."""
    clean: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    known: set[str] = set()
    for row in (row for source in sources for row in _read(work / f"{source.stem}.extracted.jsonl")):
        try:
            tidy = tidied(row)
            if tidy["order_id"] in known:
                raise ValueError("order seen before")
        except ValueError as error:
            rejected.append({"row": row, "reason": str(error)})
            continue
        known.add(tidy["order_id"])
        clean.append(tidy)
    _write_at_once(work / "clean.jsonl", clean)
    _write_at_once(work / "rejected.jsonl", rejected)
    reasons = dict(sorted(Counter(entry["reason"] for entry in rejected).items()))
    found = {"clean_rows": str(work / "clean.jsonl"), "rows_clean": len(clean), "rows_rejected": len(rejected)}
    return {"variables": found | {"rejected_for": reasons}}


def tidied(row: Row) -> dict[str, Any]:
    """
    Raises:
        ValueError: says what is wrong with the row.
    """
    try:
        day = date.fromisoformat(row["ordered_on"])
    except ValueError:
        raise ValueError("no such day") from None
    if not row["quantity"].isdecimal() or int(row["quantity"]) < 1:
        raise ValueError("bad quantity")
    try:
        price = Decimal(row["price"])
    except InvalidOperation:
        raise ValueError("bad price") from None
    if price < 0:
        raise ValueError("bad price")
    amount = price * int(row["quantity"])
    country = row["country"].strip().upper()
    return {"order_id": row["order_id"], "ordered_on": day.isoformat(), "country": country, "amount": str(amount)}


def load(task_id: str, clean: Path, context: dict[str, Any]) -> Loaded:
    with Warehouse(os.environ["TASKLOOM_DATABASE_DSN"], context["schema"]) as warehouse:
        return warehouse.load(task_id, _read(clean))


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as file:
        yield from map(json.loads, file)


def _write_at_once(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """A reader sees the whole file or none, also when another attempt writes the same."""
    own = path.with_name(f"{path.name}.{current_context().task_id}.{current_context().attempt}")
    with own.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    own.replace(path)
