"""What the chat orchestrator's calls do: they make the platform's commands and read the platform's views."""

import asyncio
from contextlib import aclosing
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from services.gateway.chat.settings import ChatSettings
from services.gateway.chat.shapes import (
    NEWEST_TRACES,
    STATUSES,
    ChatAnswer,
    Orchestrated,
    OrchestrationCancelled,
    OrchestrationStatus,
    seconds_of,
    status_of,
    strategy_of,
)
from services.gateway.chat.threads import Threads, answer_of
from services.gateway.chat.wishes import OrchestrateGoal, SendMessage, Wish, checked_thread, goal_input
from services.gateway.control import Controller
from services.gateway.feed import Feed, Position
from services.gateway.problems import BadRequest, Conflict, Forbidden, NotFound, Unavailable
from services.gateway.read import Reader
from services.gateway.security import Caller
from services.gateway.streaming import Streams
from services.gateway.submission import Origin
from services.gateway.submit import Accepted, Submitter
from taskloom import telemetry
from taskloom.domain.envelope import Recorded
from taskloom.domain.goals.events import GoalPlanned
from taskloom.domain.ids import is_task_id
from taskloom.domain.task import events as e
from taskloom.domain.task.commands import CancelTask
from taskloom.errors import TaskloomError
from taskloom.views.goals.fold import KIND, fold_all
from taskloom.views.goals.rows import GoalStep

QUEUED: Final = "queued"
CANCELLED: Final = "Task cancelled by user"
DETECTION: Final = "detect"
ANSWER: Final = "answer"
MODELS: Final = "llm"
"""The kind of task that asks a model."""

_log = telemetry.get_logger(__name__)


class Answering(Struct, frozen=True):
    """The task that answers a message, and where its output and end come from."""

    caller: Caller
    accepted: Accepted
    feed: Feed

    @property
    def task_id(self) -> str:
        return self.accepted.task_id

    @property
    def message_id(self) -> str:
        return f"msg-{self.task_id}"


class ChatDesk:
    """``reply_s``: how long a submission waits to hear that it was not refused."""

    def __init__(
        self,
        submitter: Submitter,
        controller: Controller,
        reader: Reader,
        streams: Streams,
        threads: Threads,
        settings: ChatSettings,
        *,
        reply_s: float,
    ) -> None:
        self._submitter = submitter
        self._controller = controller
        self._reader = reader
        self._streams = streams
        self._threads = threads
        self._settings = settings
        self._reply_s = reply_s

    @property
    def answer_s(self) -> float:
        """Longest answer to a message, in seconds."""
        return self._settings.chat_answer_wait_s

    async def orchestrate(self, wish: OrchestrateGoal, origin: Origin) -> tuple[Orchestrated, Accepted]:
        """A goal in its thread, with the plan that was made of it. Waits for that, for a bounded time.

        Raises:
            BadRequest: something in the wish is wrong.
            Forbidden: the thread is another user's.
        """
        return await self._begin(checked_thread(wish.thread_id), wish.goal, wish, origin)

    async def _begin(self, thread_id: str, goal: str, wish: Wish, origin: Origin) -> tuple[Orchestrated, Accepted]:
        session = await self._threads.find(origin.caller, thread_id)
        history = await self._threads.history(origin.caller, session)
        given = goal_input(goal, wish, self._settings.toolkit, history)
        fields = {"kind": KIND, "query": goal, "session_id": thread_id, "input": given}
        accepted = await self._submit({**fields, "queue": self._settings.chat_queue}, origin)
        if session is None:
            await self._threads.title(thread_id, goal, origin)
        steps = await self._plan_of(accepted.task_id)
        strategy = strategy_of(steps)
        told = f"Task created with {_steps(len(steps))}" if steps else "Task created; its plan is being made"
        return Orchestrated(accepted.task_id, QUEUED, strategy, seconds_of(strategy), told), accepted

    async def _submit(self, fields: dict[str, Any], origin: Origin) -> Accepted:
        waiting = structs.replace(origin, wait_s=max(origin.wait_s, self._reply_s))
        return await self._submitter.submit(msgspec.json.encode(fields), waiting)

    async def _plan_of(self, task_id: str) -> list[GoalStep]:
        """The steps of its first plan; none when the goal ended without one, or it takes longer than we wait."""
        history: list[Recorded] = []
        try:
            async with asyncio.timeout(self._settings.chat_plan_wait_s), aclosing(self._feed(task_id).items()) as items:
                async for item in items:
                    if isinstance(item, Recorded):
                        history.append(item)
                        if isinstance(item.event, GoalPlanned):
                            break
        except TimeoutError:
            _log.info("answered without a plan", task_id=task_id)
        found = fold_all(history)
        return [] if found is None else list(found.steps.values())

    def _feed(self, task_id: str) -> Feed:
        return self._streams.feed_of(task_id, Position())

    async def status(self, caller: Caller, task_id: str) -> OrchestrationStatus:
        """Raises NotFound, Forbidden."""
        row = await self._row(caller, task_id)
        view = await self._reader.views.goal(caller.tenant_id, task_id, traces=NEWEST_TRACES)
        if view is None:
            raise NotFound("Task not found")
        return status_of(row, view)

    async def _row(self, caller: Caller, task_id: str) -> Any:
        if not is_task_id(task_id):
            raise NotFound("Task not found")
        row = await self._reader.row(caller, task_id)
        if row.kind != KIND:
            raise NotFound("Task not found")
        if row.user_id != caller.user_id:
            raise Forbidden("this task is another user's")
        return row

    async def cancel(self, task_id: str, origin: Origin) -> OrchestrationCancelled:
        """Returns when the cancel was taken: nothing new begins, and what runs is stopped.

        Raises:
            BadRequest: it has ended.
            NotFound, Forbidden: as ``status``.
        """
        await self._row(origin.caller, task_id)
        try:
            await self._controller.control(task_id, CancelTask(reason=CANCELLED), origin)
        except Conflict as conflict:
            word = STATUSES.get(str(conflict.more.get("status", "")), "failed")
            raise BadRequest(f"Cannot cancel task with status: {word}") from conflict
        return OrchestrationCancelled(task_id, "cancelled", CANCELLED)

    async def chat(self, wish: SendMessage, origin: Origin) -> ChatAnswer | Answering:
        """What becomes of a message: a goal, whose answer is here, or an answer that is on its way.

        Raises:
            BadRequest: something in the wish is wrong.
            Forbidden: the thread is another user's.
        """
        thread_id, text = checked_thread(wish.id), wish.message.text
        if not text.strip():
            raise BadRequest("the message has no part of type text that says anything", field="message.parts")
        session = await self._threads.find(origin.caller, thread_id)
        judged = wish.may_be_a_goal and await self._has_models(origin.caller)
        if judged and await self._is_complex(thread_id, text, origin):
            created, accepted = await self._begin(thread_id, text, wish, origin)
            return ChatAnswer(
                wish.message.id or accepted.task_id, announced(created), created.task_id, orchestrated=True
            )
        history = await self._threads.history(origin.caller, session)
        accepted = await self._answer(thread_id, text, wish, history, origin)
        if session is None:
            await self._threads.title(thread_id, text, origin)
        return Answering(origin.caller, accepted, self._feed(accepted.task_id))

    async def _is_complex(self, thread_id: str, text: str, origin: Origin) -> bool:
        """The model's judgement; whatever goes wrong with it means no."""
        fields = {
            "kind": MODELS,
            "name": DETECTION,
            "session_id": thread_id,
            "input": {"op": DETECTION, "message": text},
            "retry": {"max_attempts": 1},
            "timeouts": {"start_to_close_s": max(1.0, self._settings.chat_detect_wait_s)},
        }
        asked = structs.replace(origin, key=f"{origin.key}:{DETECTION}" if origin.key else "")
        try:
            accepted = await self._submit(fields, asked)
            ended = await self._end_of(accepted.task_id, self._settings.chat_detect_wait_s)
            if ended is None:
                await self._controller.control(
                    accepted.task_id, CancelTask(reason="nobody waits for it any more"), asked
                )
        except (TaskloomError, TimeoutError) as error:
            _log.warning("not known whether a message is work for a goal", reason=str(error))
            return False
        return isinstance(ended, e.TaskCompleted) and says_yes(ended.response)

    async def _end_of(self, task_id: str, within_s: float) -> e.Event | None:
        feed = self._feed(task_id)
        try:
            async with asyncio.timeout(within_s), aclosing(feed.items()) as items:
                async for _ in items:
                    continue
        except TimeoutError:
            return None
        return None if feed.end is None else feed.end.event

    async def _answer(
        self, thread_id: str, text: str, wish: SendMessage, history: list[dict[str, str]], origin: Origin
    ) -> Accepted:
        """By a model with the thread's history; where no executor has one, by whatever answers queries."""
        fields = self._answering(thread_id, text, wish, history)
        if not await self._has_models(origin.caller):
            kept = {name: value for name, value in fields.items() if name not in ("kind", "input")}
            fields = {**kept, "kind": "query"}
        return await self._submit(fields, origin)

    async def _has_models(self, caller: Caller) -> bool:
        """Whether an executor that serves the tenant asks models."""
        return MODELS in (await self._reader.views.known()).of(caller.tenant_id).kinds

    def _answering(self, thread_id: str, text: str, wish: SendMessage, history: list[dict[str, str]]) -> dict[str, Any]:
        model = wish.chat_model
        given: dict[str, Any] = {"op": ANSWER, "message": text, "context": {"messageHistory": history}}
        if model is not None:
            given["model"] = {"provider": model.provider, "model": model.model}
        fields: dict[str, Any] = {
            "kind": MODELS,
            "query": text,
            "session_id": thread_id,
            "input": given,
            "timeouts": {"start_to_close_s": self._settings.chat_answer_wait_s},
        }
        return fields | ({"context": {"attachments": wish.attachments}} if wish.attachments else {})

    async def whole(self, answering: Answering) -> ChatAnswer:
        """The answer when it is there.

        Raises:
            Unavailable: it failed, or takes longer than we wait; the task tells more.
        """
        task_id = answering.task_id
        ended = await self._end_of(task_id, self._settings.chat_answer_wait_s)
        if not isinstance(ended, e.TaskCompleted):
            why = "is not there yet" if ended is None else f"failed: {why_ended(ended)}"
            raise Unavailable(f"the answer {why}; it is task {task_id}")
        return ChatAnswer(answering.message_id, await self.text_of(answering), task_id)

    async def text_of(self, answering: Answering) -> str:
        """The whole text of an answer that has ended."""
        [*_, last] = await self._reader.histories.events(answering.task_id)
        self._reader.promise(answering.caller, answering.task_id, last.version)
        row = await self._reader.row(answering.caller, answering.task_id)
        return answer_of(await self._reader.with_values(row))


def announced(created: Orchestrated) -> str:
    """What the chat says of a goal that was begun."""
    lines = [f"{number}. {step.description}" for number, step in enumerate(created.strategy.steps, start=1)]
    plan = f" It has {_steps(len(lines))}:\n\n" + "\n".join(lines) if lines else ""
    return f"I'll work on this as a long-running task.{plan}\n\nTask ID: {created.task_id}"


def says_yes(response: Any) -> bool:
    return isinstance(response, dict) and response.get("orchestrate") is True


def why_ended(event: Any) -> str:
    """Why a task has no answer."""
    if isinstance(event, e.TaskFailed):
        return event.error.message
    if isinstance(event, e.TaskTimedOut):
        return f"the time limit of {event.limit_s:g} s was reached"
    return getattr(event, "reason", "") or "it was cancelled"


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"
