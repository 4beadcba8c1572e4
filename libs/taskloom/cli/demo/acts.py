"""The demo's tasks: each act sends some, waits for what should happen and checks it."""

import asyncio
import re
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil

from taskloom.cli.demo import goal, kafka_door
from taskloom.cli.demo.board import Row
from taskloom.cli.demo.findings import Batch, Cancelled, Findings, Held, Log, Overtaking
from taskloom.cli.demo.functions import MODULE
from taskloom.cli.demo.http_server import PRICES
from taskloom.cli.demo.stage import SESSION, Stage
from taskloom.cli.demo.waiting import until
from taskloom.client import Followed, Submission, Task
from taskloom.local.services import ServiceProcess
from taskloom.wire.topics import Topics

NARROW: Final = "one-at-a-time"
"""Queue of an executor with a single slot, so that tasks there wait for each other."""

BATCH_TASKS: Final = 1_000
GRACE_S: Final = 1.0
STUBBORN_CHILDREN: Final = 3

MACHINE: Final = """\
. /etc/os-release 2>/dev/null; echo "${PRETTY_NAME:-$(uname -s)}, kernel $(uname -r), $(uname -m)"
echo "$(nproc) cores: $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo)"
"""
MEMORY: Final = """\
df -h / | awk 'NR == 2 {print $4 " free of " $2 " on /"}'
awk '/MemTotal/ {total = $2} /MemAvailable/ {free = $2}
     END {printf "%.1f of %.1f GB memory available\\n", free / 1e6, total / 1e6}' /proc/meminfo
echo "load $(cut -d' ' -f1-3 /proc/loadavg), up $(awk '{print int($1 / 60)}' /proc/uptime) min"
"""
BY_SERVICE: Final = """awk '$2 == "ERROR" {n[$3]++} END {for (s in n) print n[s], s}' "$LOG" | sort -rn"""
TOP_MESSAGES: Final = """grep ' ERROR ' "$LOG" | cut -d' ' -f10- | LC_ALL=C sort | uniq -c | sort -rn | head -3"""
WORST_HOURS: Final = """\
awk '$2 == "ERROR" {bad[substr($1, 12, 2)]++} {all[substr($1, 12, 2)]++}
     END {for (h in all) printf "%s:00 %d errors in %d requests\\n", h, bad[h], all[h]}' "$LOG" | sort -k2,2rn | head -3
"""
# It and its children do not listen to SIGTERM, so only the escalation ends them.
STUBBORN: Final = f"""\
trap 'echo "SIGTERM: not now"' TERM
for n in $(seq {STUBBORN_CHILDREN}); do (trap '' TERM; while :; do sleep 0.5; done) & done
echo "process $$ has {STUBBORN_CHILDREN} children"
while :; do wait; done
"""


async def facts(stage: Stage, findings: Findings) -> None:
    """Shell steps that look at this machine."""
    rows = [
        await stage.submit("machine: system and cores", kind="shell", input={"cmd": MACHINE}),
        await stage.submit("machine: disk and memory", kind="shell", input={"cmd": MEMORY}),
    ]
    findings.facts = [await stage.ended(row) for row in rows]


async def log_file(stage: Stage, findings: Findings, path: Path) -> None:
    """A generated log file, then pipelines and a Python function over it, whose counts must agree."""
    generate: Submission = {
        "kind": "python",
        "input": {"function": f"{MODULE}:generate", "kwargs": {"path": str(path)}},
    }
    made = await stage.ended(await stage.submit("log: write 50 MB", **generate))
    findings.log_is_there.set()
    if not made.completed:
        return

    async def pipeline(title: str, cmd: str) -> Row:
        return await stage.submit(
            title, kind="shell", input={"cmd": f"set -o pipefail; {cmd}", "env": {"LOG": str(path)}}
        )

    rows = [
        await pipeline("log: errors by service", BY_SERVICE),
        await pipeline("log: most frequent errors", TOP_MESSAGES),
        await pipeline("log: worst hours", WORST_HOURS),
    ]
    statistics: Submission = {"kind": "python", "input": {"function": f"{MODULE}:latencies", "args": [str(path)]}}
    rows.append(await stage.submit("log: latency percentiles", **statistics))
    services, messages, hours, latency = [await stage.ended(row) for row in rows]
    if not all(task.completed for task in (services, messages, hours, latency)):
        return
    findings.log = Log(
        lines=made.response["lines"],
        size_bytes=made.response["bytes"],
        by_service=await output_of(stage, services),
        top_messages=await output_of(stage, messages),
        worst_hours=await output_of(stage, hours),
        statistics=latency.response,
    )
    counted = {service: int(count) for count, service in re.findall(r"(\d+) (\w+)", findings.log.by_service)}
    stage.check(
        counted == latency.response["errors"] and made.response["lines"] == latency.response["requests"],
        f"awk counted {counted}, Python {latency.response['errors']} errors in the same log",
    )


async def retried(stage: Stage, findings: Findings) -> None:
    """Fails twice, then succeeds."""
    row = await stage.submit(
        "fails twice, then succeeds",
        kind="echo",
        input={"fail_times": 2, "hello": "third time lucky"},
        retry={"max_attempts": 4, "initial_s": 1.0, "factor": 2.0},
    )
    findings.retried = await stage.ended(row)
    stage.check(findings.retried.attempt == 3, f"{row.title}: {findings.retried.attempt} attempts instead of 3")


async def http_call(stage: Stage, findings: Findings, url: str) -> None:
    """One request to a small server of ours."""
    wanted = {"loom": 1, "shuttle": 4, "thread": 10}
    row = await stage.submit(
        "HTTP: ask a price server",
        kind="http",
        input={"method": "POST", "url": url, "json": {"items": wanted}},
    )
    findings.priced = await stage.ended(row)
    due = {"total": sum(PRICES[name] * count for name, count in wanted.items())}
    got = (findings.priced.response or {}).get("body")
    stage.check(got == due, f"{row.title}: answered {got}, not {due}")


async def assistant(stage: Stage, findings: Findings) -> None:
    """A question to the offline assistant, with progress."""
    row = await stage.submit(
        "ask the offline assistant", query="Which thread holds when a loom stops?", context={"sleep_seconds": 4}
    )
    findings.answer = await stage.ended(row)


async def overtaking(stage: Stage, findings: Findings) -> None:
    """Three normal tasks for one slot, and an urgent one sent last that runs second."""

    async def send(name: str, priority: str) -> Row:
        return await stage.submit(
            f"one slot: {name}", kind="sleep", input={"seconds": 1.0}, queue=NARROW, priority=priority
        )

    with tempfile.TemporaryDirectory() as directory:
        gate = Path(directory) / "all-are-sent"
        hold = {"cmd": f"until [ -e '{gate}' ]; do sleep 0.1; done"}
        rows = [await stage.submit("one slot: first", kind="shell", input=hold, queue=NARROW)]
        await stage.reached(rows[0], "running")
        rows += [await send("second", "normal"), await send("third", "normal"), await send("urgent", "critical")]
        gate.touch()
        await stage.ended(rows[0])
    tasks = [await stage.ended(row) for row in rows]
    by_start = sorted((task for task in tasks if task.started_at), key=lambda task: str(task.started_at))
    findings.overtaking = Overtaking([task.name for task in tasks], [task.name for task in by_start])
    stage.check(
        findings.overtaking.started[1:2] == [rows[-1].title],
        f"the urgent task did not overtake: started were {', '.join(findings.overtaking.started)}",
    )


async def cancelled(stage: Stage, findings: Findings) -> None:
    """Cancels a shell task whose process group ignores SIGTERM; nothing of it may be left."""
    row = await stage.submit("a stubborn process group", kind="shell", input={"cmd": STUBBORN}, expect="cancelled")

    async def family() -> list[psutil.Process]:
        told = re.search(r"process (\d+) has", row.followed.last_line)
        if told is None:
            return []
        try:
            main = psutil.Process(int(told[1]))
            children = main.children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [main, *children] if len(children) >= STUBBORN_CHILDREN else []

    processes = await until(family, f"{row.title}: it and its children run")
    await stage.client.cancel(row.task_id, "the demo has seen enough of it", grace_s=GRACE_S)
    await stage.ended(row)
    left = [process for process in processes if _runs(process)]
    findings.cancelled = Cancelled(await stage.client.events(row.task_id), len(processes), len(left))
    stage.check(not left, f"{row.title}: {len(left)} of its processes outlived it: {left}")
    types = [event.type for event in findings.cancelled.events]
    for wanted in ("WORKFLOW_CANCELLING", "CANCEL_SIGNALLED", "CANCEL_ESCALATED", "WORKFLOW_CANCELLED"):
        stage.check(wanted in types, f"{row.title}: no {wanted} in its history")


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def sent_by_kafka(stage: Stage, findings: Findings, bootstrap: str, topics: Topics) -> None:
    """A plain producer sends two tasks and hears the replies."""
    tasks: dict[str, Submission] = {
        f"kafka-{uuid.uuid4()}": {"name": title, "session_id": SESSION, "kind": "shell", "input": {"cmd": cmd}}
        for title, cmd in (
            ("by Kafka: date", "date -u"),
            ("by Kafka: who am I", 'echo "$(id -un) on $(hostname)"'),
        )
    }
    findings.replies = await kafka_door.send(bootstrap, topics, tasks)
    for task_id, task in tasks.items():
        reply = findings.replies[task_id]
        stage.check(not reply.get("refusal"), f"{task['name']}: refused: {reply.get('refusal')}")
    for row in [stage.follow(task["name"], task["kind"], task_id) for task_id, task in tasks.items()]:
        await stage.ended(row)


async def held(stage: Stage, findings: Findings) -> None:
    """A task that no executor may run, and the answer of /why."""
    row = await stage.submit(
        "wants a GPU: held", expect="", kind="shell", input={"cmd": "nvidia-smi"}, capabilities=["gpu"]
    )
    await stage.reached(row, "ready")
    why = await stage.client.why(row.task_id)
    row.note = "; ".join(gate.detail for gate in why.gates)
    stage.board.changed(row)
    findings.held = Held(row, why)
    stage.check([gate.gate for gate in why.gates] == ["capability"], f"{row.title}: /why says {why}")


async def batch(stage: Stage, findings: Findings) -> None:
    """1,000 echo tasks in one request, until all are visible as completed in the read tables."""
    followed = Followed(state="running", progress=0.0, began_at=datetime.now(UTC))
    row = Row(f"batch: {BATCH_TASKS:,} echo tasks", "echo", followed=followed, place=stage.place)
    stage.board.add(row)
    stage.board.changed(row)
    session = f"demo-batch-{uuid.uuid4()}"
    tasks: list[Submission] = [
        {"kind": "echo", "input": {"number": number, "text": "x" * 160}, "session_id": session}
        for number in range(BATCH_TASKS)
    ]
    began = time.monotonic()
    answer = await stage.client.submit_batch(tasks)
    accepted_s = time.monotonic() - began
    stage.check(answer.accepted == BATCH_TASKS, f"{answer.rejected} tasks of the batch were refused")

    async def all_completed() -> bool:
        page = await stage.client.list_tasks(session_id=session, status="COMPLETED", limit=1)
        row.followed.progress = page.total_count / BATCH_TASKS
        row.note = f"{page.total_count:,} completed"
        return page.total_count >= answer.accepted

    await until(all_completed, "all tasks of the batch are completed", within_s=60.0)
    findings.batch = Batch(answer.accepted, accepted_s, time.monotonic() - began)
    row.followed.state, row.followed.changed_at = "completed", datetime.now(UTC)
    row.note = f"all visible: {findings.batch.per_s:,.0f} tasks/s"
    stage.board.changed(row)


async def output_of(stage: Stage, task: Task) -> str:
    """Everything the task wrote to stdout."""
    pieces = [chunk.data async for chunk in stage.client.output(task.task_id, streams=["stdout"])]
    return b"".join(pieces).decode(errors="replace")


async def play(
    stage: Stage,
    findings: Findings,
    *,
    bootstrap: str,
    topics: Topics,
    prices: str,
    log: Path,
    analyst: ServiceProcess,
) -> None:
    """All acts at once; then the batch, alone, so that its rate is not shared."""
    parts = [stage.part(place) for place in range(11)]
    async with asyncio.TaskGroup() as acts:
        for act in (
            facts(parts[0], findings),
            log_file(parts[1], findings, log),
            http_call(parts[2], findings, prices),
            sent_by_kafka(parts[3], findings, bootstrap, topics),
            assistant(parts[4], findings),
            retried(parts[5], findings),
            overtaking(parts[6], findings),
            cancelled(parts[7], findings),
            goal.achieved(parts[8], findings, analyst, log),
            held(parts[9], findings),
        ):
            acts.create_task(act)
    await batch(parts[10], findings)
