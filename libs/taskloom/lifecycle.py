"""How a service lives: start within a time limit, run until SIGTERM or a fault, drain within a time limit.

::

    async def run(settings: Settings) -> None:
        async with Runtime("projection", settings) as runtime:
            publisher = await runtime.start("connect to Kafka", publisher.start())
            runtime.on_drain("close the producer", publisher.stop)
            runtime.background("apply events", loop(runtime.stopping))
            await runtime.run_until_stopped()

Draining undoes in reverse order: here the loop ends first, then the producer closes.
"""

import asyncio
import gc
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar

from taskloom import telemetry
from taskloom.errors import TaskloomError
from taskloom.settings import ServiceSettings, SettingsError, load

EXIT_FAULT: Final = 1
EXIT_SETTINGS: Final = 2
EXIT_START_UP: Final = 3

LEAST_DRAIN_S: Final = 0.25
"""What each step of a drain gets even when those before it took all the time, so that connections are still closed."""

T = TypeVar("T")
S = TypeVar("S", bound=ServiceSettings)
log = telemetry.get_logger(__name__)


class StartUpFailed(TaskloomError):
    """The service did not start in time."""


class BackgroundEnded(TaskloomError):
    """A background task ended although the service was not stopping."""


class Runtime:
    """One service's process. ``up`` is set when the start-up is over, ``stopping`` by SIGTERM, SIGINT, ``stop()`` or a
    background task's first fault."""

    def __init__(self, service: str, settings: ServiceSettings, *, signals: bool = True) -> None:
        self.service = service
        self.stopping = asyncio.Event()
        self.up = asyncio.Event()
        self._settings = settings
        self._start_by = time.monotonic() + settings.startup_timeout_s
        self._signals = signals
        self._undo: list[tuple[str, Callable[[float], Awaitable[None]]]] = []
        self._fault: BaseException | None = None

    async def start(self, what: str, coroutine: Awaitable[T]) -> T:
        """Result of a step of the start-up; all steps share ``startup_timeout_s``.

        Raises:
            StartUpFailed: the time is over, or the service was told to stop before it was up. Says which step it was.
        """
        step = asyncio.ensure_future(coroutine)
        stop = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait(
                {step, stop}, timeout=self._start_by - time.monotonic(), return_when=asyncio.FIRST_COMPLETED
            )
            if step.done():
                return step.result()
            if self.stopping.is_set():
                raise self._fault or StartUpFailed(f"{self.service}: told to stop during start-up, at: {what}")
            limit = self._settings.startup_timeout_s
            raise StartUpFailed(
                f"{self.service}: not started within TASKLOOM_STARTUP_TIMEOUT_S={limit:g} s, at: {what}"
            )
        finally:
            stop.cancel()
            step.cancel()
            await asyncio.gather(step, stop, return_exceptions=True)

    def background(self, what: str, coroutine: Coroutine[Any, Any, None], *, drains: bool = True) -> asyncio.Task[None]:
        """Runs a loop beside the others. Its exception, or its end before ``stopping``, stops the service with it.

        ``drains``: on a stop the loop ends by itself (it watches ``stopping``) and has the drain's time for it;
        otherwise it is cancelled at once.
        """
        task = asyncio.create_task(coroutine, name=what)
        task.add_done_callback(self._background_done)

        async def end(limit_s: float) -> None:
            if drains:
                _, late = await asyncio.wait({task}, timeout=limit_s)
                if late:
                    log.warning("not drained in time, cut off", task=what, waited_s=round(limit_s, 2))
            task.cancel()
            await asyncio.wait({task}, timeout=LEAST_DRAIN_S)

        self._undo.append((what, end))
        return task

    def on_drain(self, what: str, action: Callable[[], Awaitable[Any]]) -> None:
        """``action`` runs when the service stops, after everything that was started later has ended."""

        async def undo(limit_s: float) -> None:
            async with asyncio.timeout(limit_s):
                await action()

        self._undo.append((what, undo))

    def stop(self, fault: BaseException | None = None) -> None:
        """Begins the drain. The first fault given is raised when the drain is over."""
        if fault is not None and self._fault is None:
            self._fault = fault
        self.stopping.set()

    async def run_until_stopped(self) -> None:
        """Says that the service is up, and returns when it is to stop."""
        self.up.set()
        log.info("started", service=self.service)
        await self.stopping.wait()
        log.info("stopping", service=self.service, fault=repr(self._fault) if self._fault else "")

    async def __aenter__(self) -> Self:
        if self._signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self.stop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        until = time.monotonic() + self._settings.drain_timeout_s
        for what, undo in reversed(self._undo):
            try:
                await undo(max(LEAST_DRAIN_S, until - time.monotonic()))
            except Exception as failure:  # noqa: BLE001 - one step that fails must not keep the others from running
                log.warning("a step of the drain failed", step=what, error=repr(failure))
        if self._signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().remove_signal_handler(number)
        if error is None and self._fault is not None:
            raise self._fault

    def _background_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            if not self.stopping.is_set():
                self.stop(BackgroundEnded(f"{self.service}: background task {task.get_name()!r} was cancelled"))
        elif (error := task.exception()) is not None:
            log.error("a background task failed", task=task.get_name(), exc_info=error)
            self.stop(error)
        elif not self.stopping.is_set():
            self.stop(BackgroundEnded(f"{self.service}: background task {task.get_name()!r} ended by itself"))


def tame_garbage_collector() -> None:
    """What was made by importing is never looked at again, and the rest seldom: with many small live objects (states,
    rows, records) the default thresholds cost about 8 % of a busy service, and reference counting frees nearly all."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def main(service: str, settings_class: type[S], run: Callable[[S], Coroutine[Any, Any, None]]) -> NoReturn:
    """Runs a service as this process and exits: 0 after a drained stop, 1 on a fault, 2 on wrong settings, 3 when the
    start-up failed. Wrong settings and a failed start-up are one clear line on stderr, a fault is logged."""
    import uvloop

    try:
        settings = load(settings_class)
    except SettingsError as error:
        print(f"taskloom {service}: {error}", file=sys.stderr)  # noqa: T201 - logging is set up by the settings
        sys.exit(EXIT_SETTINGS)
    telemetry.configure_logging(
        service, level=settings.log_level, log_format=settings.log_format, instance=settings.instance
    )
    telemetry.configure_tracing(service, endpoint=settings.otlp_endpoint, instance=settings.instance)
    code = 0
    tame_garbage_collector()
    try:
        uvloop.run(run(settings))
    except StartUpFailed as error:
        log.error("start-up failed", reason=str(error), cause=repr(error.__cause__) if error.__cause__ else "")
        code = EXIT_START_UP
    except SettingsError as error:
        log.error("wrong settings", reason=str(error))
        code = EXIT_SETTINGS
    except Exception:
        log.exception("stopped by a fault", service=service)
        code = EXIT_FAULT
    finally:
        telemetry.shutdown_tracing()
    sys.exit(code)
