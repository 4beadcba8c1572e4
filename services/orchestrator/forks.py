"""Forks: the task that a new one is made of is read from the event store, whoever owns it, and the submission made."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import structs

from services.orchestrator.ports import Store
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.task.evolve import fold
from taskloom.domain.task.forking import MAX_FORKED_EVENTS, forked
from taskloom.domain.task.submission import Invalid
from taskloom.domain.values import Fork
from taskloom.kinds.inputs import InvalidInput
from taskloom.rules import RuleBroken
from taskloom.wire.commands import Envelope
from taskloom.wire.topics import partition_of, shard_of

NEWEST: Final = 2**31 - 1
Check = Callable[[SubmitTask, str], None]


class Forks:
    """``stores`` are all shards, those of others' partitions too. ``check`` raises for what nobody could run."""

    def __init__(self, stores: Sequence[Store], partitions: int, check: Check) -> None:
        self._stores = stores
        self._partitions = partitions
        self._check = check

    async def made(self, envelope: Envelope, fork: Fork) -> Envelope | Refusal:
        """The whole submission of the fork."""
        tenant = envelope.attributes.tenant_id
        made = await asyncio.to_thread(self._read, fork, tenant, envelope.task_id)
        if isinstance(made, Refusal):
            return made
        try:
            self._check(made, tenant)
        except (Invalid, InvalidInput, RuleBroken) as invalid:
            return Refusal("invalid", invalid.message, f"fork.overrides.{invalid.field}")
        return structs.replace(envelope, command=made)

    def _read(self, fork: Fork, tenant_id: str, task_id: str) -> SubmitTask | Refusal:
        store = self._stores[shard_of(partition_of(fork.task_id, self._partitions), len(self._stores))]
        history = store.events(fork.task_id, fork.at or NEWEST, MAX_FORKED_EVENTS + 1)
        if not history or history[0].meta.tenant_id != tenant_id:
            return Refusal("not_found", f"task {fork.task_id} does not exist", "fork.task_id")
        if len(history) > MAX_FORKED_EVENTS:
            few = f"a fork is made of at most {MAX_FORKED_EVENTS} events; choose an earlier version"
            return Refusal("invalid", few, "fork.at")
        if fork.at is not None and history[-1].meta.version < fork.at:
            found = f"task {fork.task_id} has no version {fork.at} yet; its newest is {history[-1].meta.version}"
            return Refusal("not_found", found, "fork.at")
        state = fold(history)
        assert state is not None
        if state.deleted:
            return Refusal("not_found", f"task {fork.task_id} was deleted", "fork.task_id")
        return forked(state, fork, task_id)
