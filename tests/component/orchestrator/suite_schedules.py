"""Schedules: one run for each due time, whatever dies. Subclasses bring the ``rig``."""

from datetime import timedelta
from typing import Any

from taskloom.domain.entities.commands import (
    BackfillSchedule,
    PauseSchedule,
    RemoveSchedule,
    ResumeSchedule,
    SaveSchedule,
    ScheduleSpec,
    TriggerSchedule,
)
from taskloom.domain.entities.due import Timing
from taskloom.domain.entities.ids import entity_id
from taskloom.domain.task import commands as c
from taskloom.domain.task.events import TaskSubmitted
from taskloom.wire.recorded import unseal
from tests.component.orchestrator.rig import Node, Rig

NIGHTLY = entity_id("schedule", "default", "nightly")
EVERY_MINUTE_S = 60


def spec(**fields: Any) -> ScheduleSpec:
    task = {"kind": "shell", "input": {"cmd": "true"}, "tags": ["nightly"]}
    return ScheduleSpec(**{"name": "Nightly", "timing": Timing(interval_s=EVERY_MINUTE_S), "task": task, **fields})


async def sent(rig: Rig, node: Node, command: Any, name: str = NIGHTLY) -> Any:
    """The answer to a command."""
    rig.send(name, command, actor="ann")
    await node.round()
    [reply] = rig.replies()[-1:]
    return reply


async def pass_time(rig: Rig, node: Node, seconds: float) -> None:
    rig.clock.forward(seconds)
    node.hear()
    await node.rounds(4)


def runs(rig: Rig) -> list[str]:
    """Ids of the tasks that schedules submitted, in the order of their events' times."""
    events = [unseal(record.value or b"") for record in rig.bus.all(rig.topics.events)]
    submitted = [each for each in events if isinstance(each.event, TaskSubmitted)]
    return list(dict.fromkeys(each.task_id for each in sorted(submitted, key=lambda each: each.meta.at)))


async def end(rig: Rig, node: Node, run_id: str) -> None:
    rig.send(run_id, c.ReportStarted(1, "ex-1"))
    rig.send(run_id, c.ReportCompleted(1, "ex-1"))
    await node.rounds(4)


class SchedulesSuite:
    async def test_each_due_time_is_one_run_with_the_submission_of_the_schedule(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            reply = await sent(rig, node, SaveSchedule(spec()))
            for _ in range(3):
                await pass_time(rig, node, EVERY_MINUTE_S)
                await end(rig, node, runs(rig)[-1])
            state = node.memory.get(runs(rig)[0])
        assert reply.data["next_run_at"] is not None
        assert len(set(runs(rig))) == 3
        assert state is not None
        assert (state.spec.user_id, state.spec.tags, state.spec.metadata["schedule_id"]) == (
            "ann",
            ("nightly",),
            "nightly",
        )
        assert state.spec.context["trigger_type"] == "schedule"
        assert rig.published(NIGHTLY) == ["ScheduleSaved", *["RunTriggered", "RunEnded"] * 3]

    async def test_a_run_that_was_due_while_nobody_was_there_is_caught_up_once(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await sent(rig, node, SaveSchedule(spec()))
        rig.clock.forward(10 * EVERY_MINUTE_S)
        for number in range(3):
            async with rig.node(f"o-{number + 2}") as node:
                await node.own()
                node.hear()
                await node.rounds(3)
        # Eight were missed, the last of which is caught up; the two that are hardly late find it open.
        stored = [type(each.event).__name__ for each in rig.stored(NIGHTLY)]
        assert stored == ["ScheduleSaved", "RunsSkipped", "RunTriggered", "RunsSkipped", "RunsSkipped"]
        assert len(runs(rig)) == 1

    async def test_a_run_is_submitted_though_its_orchestrator_died_before_it_could_say_so(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            await sent(rig, node, SaveSchedule(spec()))
        async with rig.node("o-2", publishes=False) as node:
            await node.own()
            rig.clock.forward(EVERY_MINUTE_S)
            await node.round(publish=False)
        assert [type(each.event).__name__ for each in rig.stored(NIGHTLY)] == ["ScheduleSaved", "RunTriggered"]
        async with rig.node("o-3") as node:
            await node.own()
            node.hear()
            await node.rounds(3)
        assert len(runs(rig)) == 1

    async def test_an_open_run_holds_the_next_one_back_as_the_policy_says(self, rig: Rig) -> None:
        policies = ("skip", "buffer_one", "allow", "cancel_other")
        async with rig.node() as node:
            await node.own()
            node.hear(slots=100)
            for policy in policies:
                await sent(rig, node, SaveSchedule(spec(overlap=policy)), entity_id("schedule", "default", policy))
            for _ in range(3):
                await pass_time(rig, node, EVERY_MINUTE_S)
            facts = {policy: rig.published(entity_id("schedule", "default", policy))[1:] for policy in policies}
            first = {policy: next(run for run in runs(rig) if run.startswith(f"{policy}-")) for policy in policies}
            await end(rig, node, first["buffer_one"])
            buffered = rig.published(entity_id("schedule", "default", "buffer_one"))
            cancelled = node.memory.get(first["cancel_other"])
        assert facts["skip"] == ["RunTriggered", "RunsSkipped", "RunsSkipped"]
        assert facts["buffer_one"] == ["RunTriggered", "RunBuffered", "RunsSkipped"]
        assert facts["allow"] == ["RunTriggered"] * 3
        assert facts["cancel_other"].count("RunTriggered") == 3
        assert buffered[-2:] == ["RunEnded", "RunTriggered"]
        assert cancelled is not None
        assert cancelled.cancel is not None

    async def test_nothing_runs_while_it_is_paused_nor_for_the_time_of_the_pause(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            await sent(rig, node, SaveSchedule(spec(catch_up="all")))
            await sent(rig, node, PauseSchedule("holidays"))
            await pass_time(rig, node, 5 * EVERY_MINUTE_S)
            assert runs(rig) == []
            again = await sent(rig, node, ResumeSchedule())
            await pass_time(rig, node, EVERY_MINUTE_S)
        assert again.data["next_run_at"] is not None
        assert len(runs(rig)) == 1

    async def test_it_runs_now_and_for_times_past_when_asked(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear(slots=100)
            await sent(rig, node, SaveSchedule(spec()))
            await sent(rig, node, TriggerSchedule())
            start = rig.now
            rig.clock.forward(30)
            wrong = await sent(rig, node, BackfillSchedule(start, start + timedelta(hours=1)))
            many = await sent(rig, node, BackfillSchedule(start - timedelta(hours=10), start))
            right = await sent(rig, node, BackfillSchedule(start, rig.now))
            await node.rounds(3)
        assert (wrong.refusal.field, many.refusal) == ("end", None), "nothing lay before its anchor"
        assert right.refusal is None
        assert sorted(run.split("-")[2] for run in runs(rig)) == ["backfill", "manual"]

    async def test_a_removed_schedule_never_runs_again_and_has_no_timer(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            node.hear()
            await sent(rig, node, SaveSchedule(spec()))
            await sent(rig, node, RemoveSchedule())
            await pass_time(rig, node, 3 * EVERY_MINUTE_S)
            gone = await sent(rig, node, TriggerSchedule())
        async with rig.node("o-2") as node:
            await node.own()
            await pass_time(rig, node, 3 * EVERY_MINUTE_S)
        assert runs(rig) == []
        assert gone.refusal.code == "not_found"

    async def test_a_run_that_cannot_be_submitted_counts_as_failed_and_holds_nothing_back(self, rig: Rig) -> None:
        task = {"kind": "unknown-kind", "input": {}}
        async with rig.node() as node:
            await node.own()
            node.hear()
            await sent(rig, node, SaveSchedule(spec(task=task)))
            await pass_time(rig, node, EVERY_MINUTE_S)
            await pass_time(rig, node, EVERY_MINUTE_S)
        assert rig.published(NIGHTLY) == ["ScheduleSaved", *["RunTriggered", "RunEnded"] * 2]
        assert "unknown-kind" in rig.dead_letters()[0].reason

    async def test_a_bad_schedule_is_refused_with_the_field_at_fault(self, rig: Rig) -> None:
        async with rig.node() as node:
            await node.own()
            found = [
                await sent(rig, node, SaveSchedule(wrong))
                for wrong in (
                    spec(timing=Timing(cron_expression="61 * * * *")),
                    spec(timing=Timing(cron_expression="* * * * *", timezone="Mars/Olympus")),
                    spec(timing=Timing(at=rig.now)),
                    spec(task={"kind": "echo", "priority": 9}),
                    spec(task={"kind": "echo", "unknown": 1}),
                    spec(task={"query": " "}),
                )
            ]
        fields = [reply.refusal.field for reply in found]
        assert fields == ["cron_expression", "timezone", "at", "task.priority", "task", "task.query"]
        assert rig.published(NIGHTLY) == []
