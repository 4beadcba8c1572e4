"""Secrets for agents: of its own tenant, and only what the attempt that the agent has now refers to in its input.

What counts is the event store, not what this gateway has seen: any gateway can answer, and an attempt that has ended or
was given to somebody else gets nothing. The values go into the link and nowhere else.
"""

from collections.abc import Iterator
from typing import Any, Final

from psycopg import OperationalError

from services.gateway.links.door import Guest
from services.gateway.readside import Histories, Values
from services.gateway.secrets import SecretTexts
from taskloom import telemetry
from taskloom.domain.ids import is_task_id
from taskloom.domain.task.evolve import fold
from taskloom.domain.task.snapshot import decode_state
from taskloom.domain.task.state import TaskState
from taskloom.secrets import Unreadable, Vault
from taskloom.store.errors import ClaimCorrupt, ClaimMissing, StoreUnavailable
from taskloom.views.reading import TooSlow
from taskloom.wire.link import MAX_NAMES, Ask, Problem, Told

REFERENCE: Final = "secret"
"""The one key of an object that stands for a secret (``taskloom.kinds.SecretRef``)."""

_log = telemetry.get_logger(__name__)
_asked = telemetry.counter("gateway_agent_secrets", "Questions of agents for secrets, by their answer", ["answer"])


class _Refused(Exception):
    """Has the problem and the words for it."""

    def __init__(self, problem: Problem, message: str) -> None:
        super().__init__(message)
        self.problem, self.message = problem, message


class AgentSecrets:
    """``vault`` and ``table`` are None where this installation has no secrets."""

    def __init__(self, vault: Vault | None, table: SecretTexts | None, histories: Histories, values: Values) -> None:
        self._vault = vault
        self._table = table
        self._histories = histories
        self._values = values

    async def tell(self, guest: Guest, incarnation: str, ask: Ask) -> Told:
        """The secrets asked for, all or none."""
        try:
            told = Told(ask.seq, await self._find(guest, incarnation, ask))
        except _Refused as refused:
            told = Told(ask.seq, problem=refused.problem, message=refused.message)
        except (StoreUnavailable, OperationalError, TooSlow, ClaimMissing, ClaimCorrupt) as fault:
            told = Told(ask.seq, problem="secret_unavailable", message=f"the gateway cannot look them up now: {fault}")
        except Exception as fault:  # noqa: BLE001 - a link that ended here would be asked the same as soon as it is back
            _log.error("secrets were not looked up", task_id=ask.task_id[:200], error=repr(fault))
            told = Told(ask.seq, problem="secret_unavailable", message="the gateway could not look them up")
        if told.problem == "secret_refused":
            _log.warning(
                "an agent asked for secrets that it does not get",
                agent=guest.executor_id, task_id=ask.task_id[:200], attempt=ask.attempt, reason=told.message,
            )  # fmt: skip
        _asked.labels(told.problem or "told").inc()
        return told

    async def _find(self, guest: Guest, incarnation: str, ask: Ask) -> dict[str, str]:
        names = set(ask.names)
        if len(names) > MAX_NAMES:
            raise _Refused("secret_refused", f"{len(names)} secrets at once, {MAX_NAMES} are allowed")
        await self._check(guest, incarnation, ask, names)
        if self._vault is None or self._table is None:
            raise _Refused("secret_missing", "this installation has no secrets: TASKLOOM_SECRETS_KEY is not set")
        sealed = await self._table.find(guest.tenant_id, sorted(names))
        if missing := sorted(names - sealed.keys()):
            raise _Refused(
                "secret_missing", f"there is no secret {', '.join(missing)}; put it with PUT /api/v1/secrets/NAME"
            )
        try:
            return {name: self._vault.open(guest.tenant_id, name, each) for name, each in sealed.items()}
        except Unreadable as error:
            raise _Refused("secret_missing", str(error)) from error

    async def _check(self, guest: Guest, incarnation: str, ask: Ask, names: set[str]) -> None:
        """
        Raises:
            _Refused: the attempt is not the agent's now, or does not refer to one of them.
        """
        state = await self._state(ask.task_id) if is_task_id(ask.task_id) else None
        live = None if state is None or state.spec.tenant_id != guest.tenant_id else state.live
        mine = (ask.attempt, guest.executor_id, incarnation)
        if state is None or live is None or (live.number, live.executor_id, live.incarnation) != mine:
            raise _Refused("secret_refused", "the agent does not have this attempt now")
        given = [await self._values.resolve(each) for each in (state.spec.input, state.spec.context)]
        if others := sorted(names - set(referred(given))):
            raise _Refused("secret_refused", f"the input does not refer to {', '.join(others)[:500]}")

    async def _state(self, task_id: str) -> TaskState | None:
        stored = await self._histories.snapshot(task_id)
        state = None if stored is None else decode_state(stored[1])
        return fold(await self._histories.events(task_id, after=0 if state is None else state.version), state)


def referred(value: Any) -> Iterator[str]:
    """Names of secrets that a JSON value refers to, as ``{"secret": NAME}`` wherever it stands."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            name = each.get(REFERENCE)
            if len(each) == 1 and isinstance(name, str):
                yield name
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
