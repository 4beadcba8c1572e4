"""The demo's goal: planned by rules, done with tools over the log, while its executor is killed in the middle."""

import sys
from pathlib import Path
from typing import Final

from taskloom.cli.demo.findings import Achieved, Findings
from taskloom.cli.demo.stage import Stage
from taskloom.cli.demo.waiting import until
from taskloom.client.goal_answers import Goal, GoalStep
from taskloom.local.services import ServiceProcess

QUEUE: Final = "analysis"
SERVER: Final = "logs"
COMMAND: Final = (sys.executable, "-m", "taskloom.cli.demo.log_tools")
"""The server; importing it here would take two seconds."""

REPORT: Final = "errors.md"
GOAL: Final = "Find the five most frequent errors in {log}, group them by hour, and write a report to {report}"
TOOLS: Final = ["frequent_errors", "group_by_hour", "write_report"]


async def achieved(stage: Stage, findings: Findings, analyst: ServiceProcess, log: Path) -> None:
    """A goal over the log that another act writes. ``analyst`` serves its queue, and is killed in its first step."""
    await findings.log_is_there.wait()
    await stage.client.tool_servers.put(
        SERVER, transport="stdio", command=[*COMMAND, str(log.parent)], idempotent=TOOLS
    )
    words = GOAL.format(log=log.name, report=REPORT)
    row = await stage.submit(
        "goal: a report of errors",
        kind="goal",
        queue=QUEUE,
        query=words,
        input={"tools": {SERVER: {"idempotent": TOOLS}}},
    )
    killed_in = ""

    async def step_runs() -> bool:
        nonlocal killed_in
        running = [step for step in steps_of(await stage.client.goal(row.task_id)) if step.status == "running"]
        killed_in = running[0].description if running else ""
        return bool(running) or row.followed.ended

    await until(step_runs, f"{row.title}: a step runs", within_s=60.0)
    analyst.kill()
    row.note = "its executor was killed; another one takes over"
    stage.board.changed(row)
    await analyst.start()
    row.note = ""
    await stage.ended(row)
    goal, report = await stage.client.goal(row.task_id), log.parent / REPORT
    stage.check(report.is_file(), f"{row.title}: no report was written")
    stage.check(bool(goal.achieved), f"{row.title}: it was not achieved: {goal.last_error}")
    tasks = (await stage.client.list_tasks(workflow_id=row.task_id)).tasks
    attempts = sum(task.attempt for task in tasks)
    stage.check(attempts > len(tasks), f"{row.title}: the kill hit nothing, {attempts} attempts for {len(tasks)} tasks")
    text = report.read_text() if report.is_file() else ""
    findings.achieved = Achieved(goal, killed_in, len(tasks), attempts, text)


def steps_of(goal: Goal) -> list[GoalStep]:
    """Those of the plan that holds."""
    return [step for plan in goal.plans if plan.version == goal.plan for step in plan.steps]
