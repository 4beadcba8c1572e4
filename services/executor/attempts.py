"""All attempts of an executor: which run, which wait, how each one ends. Every attempt taken is reported to its end."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from services.executor.attempt import Attempt, Key, Stop, Tools
from services.executor.claims import Values, follow, is_claim, shrink
from services.executor.failures import error_info, executor_stopped, not_json
from services.executor.masking import Masker
from taskloom import telemetry
from taskloom.domain.task.commands import ReportStopped, ReportTimedOut
from taskloom.domain.task.directives import (
    RECALLED,
    Directive,
    PauseAttempt,
    RecallAttempt,
    ResumeAttempt,
    RunAttempt,
    StopAttempt,
)
from taskloom.domain.values import ErrorInfo, OutputSummary, ResourceUse
from taskloom.kinds.api import Handler, Outcome, TaskError
from taskloom.wire.messages import LiveAttempt

REMEMBER_PER_SLOT: Final = 8
END_S: Final = 2.5
"""What stopped attempts have at most, grace time included, before a drain gives up on them."""

log = telemetry.get_logger(__name__)


class Attempts:
    """Takes directives, runs at most ``slots`` attempts, lets ``prefetch`` more wait, declines what comes above."""

    def __init__(
        self,
        tools: Tools,
        handlers: Mapping[str, Handler],
        values: Values,
        *,
        slots: int,
        prefetch: int,
        pid: int = 0,
        on_end: Callable[[str, str], None] = lambda kind, how: None,
        refuses: Callable[[], str] = lambda: "",
    ) -> None:
        self._tools = tools
        self._reporter = tools.reporter
        self._handlers = handlers
        self._values = values
        self._slots = slots
        self._prefetch = prefetch
        self._pid = pid
        self._on_end = on_end
        self._refuses = refuses
        self._running: dict[Key, Attempt] = {}
        self._waiting: OrderedDict[Key, Attempt] = OrderedDict()
        self._unreported: set[Key] = set()
        self._ended: set[Key] = set()
        self._ended_order: deque[Key] = deque()
        self._remembered = max(4096, REMEMBER_PER_SLOT * (slots + prefetch))
        self._draining = ""
        self._stops: set[asyncio.Task[None]] = set()
        self._all_ended = asyncio.Event()
        self._all_ended.set()

    @property
    def running(self) -> Mapping[Key, Attempt]:
        return self._running

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def live(self) -> tuple[LiveAttempt, ...]:
        """All attempts held here: running, waiting, and those whose end Kafka does not have yet."""
        keys = {*self._running, *self._waiting, *self._unreported}
        return tuple(LiveAttempt(task_id, attempt) for task_id, attempt in sorted(keys))

    def handle(self, directive: Directive) -> None:
        """Carries out one directive, or begins to."""
        if isinstance(directive, RunAttempt):
            self._take(directive)
        elif isinstance(directive, StopAttempt):
            self._stop(directive)
        elif isinstance(directive, PauseAttempt):
            self._pause(directive)
        elif isinstance(directive, RecallAttempt):
            waiting = self._waiting.get((directive.task_id, directive.attempt))
            if waiting is not None:
                self._hand_back(waiting, RECALLED)
        elif isinstance(directive, ResumeAttempt):
            attempt = self._running.get((directive.task_id, directive.attempt))
            if attempt is not None:
                attempt.resume()

    async def drain(self, timeout_s: float, end_s: float = END_S) -> None:
        """Hands back what waits, gives what runs ``timeout_s``, then stops it and reports it as failed (retryable).

        ``end_s``: what the stopped attempts have, grace time included, before they are given up.
        """
        self._draining = "draining"
        for attempt in list(self._waiting.values()):
            self._hand_back(attempt, "draining")
        try:
            async with asyncio.timeout(timeout_s):
                await self._all_ended.wait()
        except TimeoutError:
            log.warning("attempts are still running and are stopped", attempts=len(self._running))
            stop = Stop("drain", min(1.0, self._tools.stop_grace_s))
            ends = [asyncio.create_task(attempt.end(stop)) for attempt in self._running.values()]
            _, late = await asyncio.wait([*ends, asyncio.create_task(self._all_ended.wait())], timeout=end_s)
            for task in late:
                task.cancel()
            self._abandon()

    def _abandon(self) -> None:
        """What did not end is a thread that nothing can stop but the end of this process, which comes next."""
        for attempt in list(self._running.values()):
            del self._running[attempt.key]
            self._fail(attempt, executor_stopped())
        self._all_ended.set()

    # Directives.

    def _take(self, order: RunAttempt) -> None:
        key = (order.task_id, order.attempt)
        if key in self._running or key in self._waiting or key in self._ended:
            if order.paused and key in self._running:
                self._running[key].pause()
            return
        handler = self._handlers.get(order.kind)
        if handler is None:
            self._refuse_kind(order)
        elif reason := self._draining or self._refuses():
            self._decline(order, reason)
        elif order.paused:
            self._decline(order, "paused")
        elif len(self._running) >= self._slots and len(self._waiting) >= self._prefetch:
            self._decline(order, "full")
        else:
            attempt = Attempt(order, handler, self._tools)
            if handler.immediate and not self._needs_a_task(order):
                self._run_now(attempt)
            elif len(self._running) < self._slots:
                self._start(attempt)
            else:
                self._waiting[key] = attempt

    @staticmethod
    def _needs_a_task(order: RunAttempt) -> bool:
        """Claims are waited for, and a recorded span costs more than a task does."""
        return is_claim(order.input) or is_claim(order.context) or telemetry.enabled()

    def _refuse_kind(self, order: RunAttempt) -> None:
        known = ", ".join(sorted(self._handlers))
        message = f"this executor does not run the kind {order.kind!r}; it runs {known}"
        self._reporter.failed(order, ErrorInfo("unknown_kind", message, retryable=False, fault=True))
        self._remember((order.task_id, order.attempt))
        self._on_end("unknown", "failed")

    def _decline(self, order: RunAttempt, reason: str) -> None:
        self._reporter.declined(order, reason)
        self._remember((order.task_id, order.attempt))

    def _hand_back(self, attempt: Attempt, reason: str) -> None:
        del self._waiting[attempt.key]
        self._decline(attempt.order, reason)

    def _pause(self, order: PauseAttempt) -> None:
        key = (order.task_id, order.attempt)
        if key in self._waiting:
            # It has not started: the orchestrator holds it better than a slot here would.
            self._hand_back(self._waiting[key], "paused")
        elif key in self._running:
            self._running[key].pause()

    def _stop(self, order: StopAttempt) -> None:
        key = (order.task_id, order.attempt)
        attempt = self._running.get(key)
        if attempt is not None:
            if attempt.running or attempt.stop is None:
                self._spawn(attempt.end(Stop("cancel", order.grace_s)))
            return
        waiting = self._waiting.pop(key, None)
        answered = waiting.order if waiting is not None else order
        if key not in self._unreported:
            self._reporter.send(answered, ReportStopped(order.attempt, self._reporter.executor_id), "stopped")
            self._remember(key)

    # Running.

    def _run_now(self, attempt: Attempt) -> None:
        """Runs a handler that never waits on the spot: no task, no timer, one turn of the loop for many."""
        order = attempt.order
        self._reporter.started(order, self._pid)
        coroutine = attempt.handler.run(attempt)
        try:
            coroutine.send(None)
        except StopIteration as stopped:
            outcome: Outcome = stopped.value
            self._complete_now(attempt, outcome)
        except Exception as error:  # noqa: BLE001 - a handler may raise anything; it becomes the attempt's error
            self._fail(attempt, error)
        else:
            coroutine.close()
            message = f"the handler of {order.kind!r} says it is immediate, but waits"
            self._fail(attempt, TaskError("broken_handler", message, retryable=False, fault=True))

    def _complete_now(self, attempt: Attempt, outcome: Outcome) -> None:
        order = attempt.order
        try:
            sealed = self._reporter.completed(
                order,
                result=outcome.result,
                response=outcome.response,
                exit_code=outcome.exit_code,
                usage=outcome.usage,
            )
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            self._fail(attempt, not_json(error))
            return
        if sealed.fits:
            self._ending(attempt.key)
            self._reporter.put(sealed, partial(self._unreported.discard, attempt.key))
            self._on_end(order.kind, "completed")
        else:
            self._running[attempt.key] = attempt
            self._all_ended.clear()
            attempt.task = asyncio.create_task(self._close(attempt, outcome))

    def _start(self, attempt: Attempt) -> None:
        self._running[attempt.key] = attempt
        self._all_ended.clear()
        attempt.on_timeout = self._time_out
        self._reporter.started(attempt.order, self._pid)
        attempt.begin()
        attempt.task = asyncio.create_task(self._run(attempt))

    async def _run(self, attempt: Attempt) -> None:
        result: Outcome | BaseException
        try:
            result = await self._call(attempt)
        except asyncio.CancelledError as error:
            result = error
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a handler raises is its attempt's error
            result = error
        finally:
            attempt.finish()
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()  # the handler is over; what follows must reach its end
        await self._close(attempt, result)

    async def _call(self, attempt: Attempt) -> Outcome:
        attempt.input = await follow(self._values, attempt.input, "input")
        attempt.context = await follow(self._values, attempt.context, "context")
        attempt.check_rules()
        order = attempt.order
        name = f"attempt {order.kind}"
        with (
            telemetry.bind_task(order.task_id, order.traceparent),
            telemetry.span(
                name, order.traceparent, kind="consumer", task_id=order.task_id, attempt=order.attempt
            ) as span,
        ):
            if span.traceparent != order.traceparent:
                # What is reported from here on belongs to this span.
                attempt.order = msgspec.structs.replace(order, traceparent=span.traceparent)
            return await attempt.handler.run(attempt)

    async def _close(self, attempt: Attempt, result: Outcome | BaseException) -> None:
        """Nothing of it runs, its output is in Kafka, its end is reported: in this order."""
        try:
            code = await attempt.bury()
            use = await attempt.use()
            summary = await attempt.output()
            if self._running.get(attempt.key) is not attempt:
                return
            if isinstance(result, Outcome) and attempt.stop is None:
                if attempt.masker:
                    result = _masked(result, attempt.masker)
                await self._complete(attempt, result, summary, use)
            elif attempt.stop is not None:
                self._report_stop(attempt, attempt.stop, code, summary, use)
            else:
                assert isinstance(result, BaseException)
                self._fail(attempt, result, output=summary, resources=use)
        finally:
            self._running.pop(attempt.key, None)
            self._next()

    async def _complete(self, attempt: Attempt, outcome: Outcome, summary: OutputSummary, use: ResourceUse) -> None:
        try:
            sealed = self._completed(attempt, outcome, summary, use)
            if not sealed.fits:
                sealed = self._completed(attempt, await shrink(self._values, outcome), summary, use)
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            self._fail(attempt, not_json(error), output=summary, resources=use)
            return
        except TaskError as error:
            self._fail(attempt, error, output=summary, resources=use)
            return
        self._ending(attempt.key)
        self._reporter.put(sealed, partial(self._unreported.discard, attempt.key))
        self._on_end(attempt.kind, "completed")

    def _completed(self, attempt: Attempt, outcome: Outcome, summary: OutputSummary, use: ResourceUse) -> Any:
        return self._reporter.completed(
            attempt.order,
            result=outcome.result,
            response=outcome.response,
            exit_code=outcome.exit_code,
            output=summary,
            resources=use,
            usage=outcome.usage,
        )

    def _fail(self, attempt: Attempt, error: BaseException, **fields: Any) -> None:
        if isinstance(error, TaskError):
            fields.update(exit_code=error.exit_code, usage=error.usage)
        self._ending(attempt.key)
        done = partial(self._unreported.discard, attempt.key)
        told = error_info(error)
        if attempt.masker:
            mask = attempt.masker
            told = msgspec.structs.replace(told, message=mask.text(told.message), details=mask.value(told.details))
        self._reporter.failed(attempt.order, told, done, **fields)
        self._on_end(attempt.kind, "failed")

    def _report_stop(
        self, attempt: Attempt, stop: Stop, code: int | None, output: OutputSummary, resources: ResourceUse
    ) -> None:
        executor_id, number = self._reporter.executor_id, attempt.attempt
        if stop.why == "drain":
            self._fail(attempt, executor_stopped(code), output=output, resources=resources)
            return
        self._ending(attempt.key)
        done = partial(self._unreported.discard, attempt.key)
        if stop.why == "timeout":
            late = ReportTimedOut(number, executor_id, stop.timeout, stop.limit_s, output, resources)
            self._reporter.send(attempt.order, late, "timed-out", done)
            self._on_end(attempt.kind, "timed_out")
        else:
            stopped = ReportStopped(number, executor_id, code, output, resources)
            self._reporter.send(attempt.order, stopped, "stopped", done)
            self._on_end(attempt.kind, "stopped")

    def _time_out(self, attempt: Attempt, stop: Stop) -> None:
        self._spawn(attempt.end(stop))

    def _next(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            _, attempt = self._waiting.popitem(last=False)
            self._start(attempt)
        if not self._running:
            self._all_ended.set()

    def _ending(self, key: Key) -> None:
        self._unreported.add(key)
        self._remember(key)

    def _remember(self, key: Key) -> None:
        """So that a repeated assignment is recognised; no more can be repeated than credit was given for."""
        if key in self._ended:
            return
        self._ended.add(key)
        self._ended_order.append(key)
        if len(self._ended_order) > self._remembered:
            self._ended.discard(self._ended_order.popleft())

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._stops.add(task)
        task.add_done_callback(self._stops.discard)


def _masked(outcome: Outcome, masker: Masker) -> Outcome:
    # What a handler gave back as a struct is masked as the JSON that it will be.
    response = masker.value(msgspec.to_builtins(outcome.response))
    return msgspec.structs.replace(outcome, result=masker.text(outcome.result), response=response)
