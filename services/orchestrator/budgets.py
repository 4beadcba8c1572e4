"""What attempts used, counted with their ends; and what all used, looked up while tenants wait to start."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog

from services.orchestrator.memory import Memory
from taskloom.domain.envelope import Recorded
from taskloom.domain.ids import placing_key
from taskloom.domain.scheduling.quotas import Scope, Use, periods_of, uses_of
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.domain.task.events import AttemptFailed, TaskCompleted
from taskloom.errors import TaskloomError

LOOK_EVERY_S: Final = 0.5
"""How long what other orchestrators' attempts used may be unseen."""

FIRST_LOOK_S: Final = 0.02
"""The same for a tenant that has not started anything lately: it waits for this look."""

_log = structlog.get_logger(__name__)


class UsageStore(Protocol):
    """Part of ``ShardStore``."""

    def uses(self, scopes: Sequence[Scope], periods: Sequence[str]) -> list[Use]: ...


def uses_in(events: Iterable[Recorded], memory: Memory) -> list[Use]:
    """What the attempts that ended in a batch used; nothing for the most, which use no tokens."""
    sums: dict[tuple[str, str, str], tuple[int, float, int]] = {}
    for recorded in events:
        event = recorded.event
        if not isinstance(event, TaskCompleted | AttemptFailed):
            continue
        usage, meta = event.usage, recorded.meta
        tokens = usage.input_tokens + usage.output_tokens
        if not tokens and not usage.cost_usd:
            continue
        state = memory.get(meta.task_id)
        session = "" if state is None else state.spec.session_id
        for use in uses_of(meta.tenant_id, session, meta.at, tokens, usage.cost_usd, _key_of(meta.task_id, memory)):
            before = sums.get(use[:3], (0, 0.0, 0))
            sums[use[:3]] = (before[0] + use.tokens, before[1] + use.cost_usd, before[2] + use.attempts)
    return [Use(*place, *used) for place, used in sums.items()]


def _key_of(task_id: str, memory: Memory) -> str:
    """The key that a task, or the run whose step it is, was submitted with."""
    state = memory.get(placing_key(task_id))
    return "" if state is None else state.spec.key_id


class Budgets:
    """Keeps the scheduler's ledger fresh. ``look``: called when tasks that waited for it may go."""

    def __init__(self, scheduler: Scheduler, store: UsageStore, look: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._store = store
        self._look = look

    async def run(self, stopping: asyncio.Event) -> None:
        """Until ``stopping``; does nothing while no quotas are set."""
        looked, clock = 0.0, asyncio.get_running_loop().time
        while not stopping.is_set():
            ledger = self._scheduler.ledger
            if ledger is not None and (ledger.unknown or clock() - looked >= LOOK_EVERY_S):
                looked = clock()
                await self.refresh(datetime.now(UTC))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S if ledger is None else FIRST_LOOK_S):
                    await stopping.wait()

    async def refresh(self, now: datetime) -> None:
        """Looks up the scopes that somebody waits for, or did within the last minute."""
        ledger = self._scheduler.ledger
        scopes = [] if ledger is None else ledger.wanted(now.timestamp())
        if not scopes:
            return
        try:
            uses = await asyncio.to_thread(self._store.uses, scopes, periods_of(now))
        except TaskloomError as error:
            _log.warning("what was used so far is not known; tenants with budgets wait", error=str(error))
            return
        self._scheduler.learn_usage(scopes, uses)
        self._look()
