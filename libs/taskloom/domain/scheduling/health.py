"""Which executors are not trusted for a while: a circuit breaker for each executor and kind, and quarantine.

What is learnt here is kept in memory only; an orchestrator that takes over starts with trust.
"""

from typing import Final

from msgspec import Struct

from taskloom.domain.scheduling.policy import DEFAULT, Policy

MAX_WATCHED: Final = 10_000
"""Breakers that count failures; beyond it counting begins anew, open ones stay."""

Circuit = tuple[str, str]
"""Executor id and kind."""


class Breaker(Struct):
    """Closed while ``failed`` is short; then open since ``opened_at``, then half open: one ``probe`` may go."""

    failed: set[str]
    open: bool = False
    opened_at: float | None = None
    probe: str = ""


class Quarantine(Struct):
    """``losses`` in a row; ``since`` is set once they are too many."""

    losses: int = 0
    held: bool = False
    since: float | None = None


class Health:
    """Follows how attempts end. Changes show in ``bars`` at once; what the clock ends, ends in ``settle``.

    To be read only, and to spare calls while all is well: ``barred`` circuits and ``quarantines`` (while both are empty
    nothing is kept away), ``half_open`` circuits wait for a probe (``assigned`` has to hear of tasks that go there),
    ``breakers`` count failures (while there are none ``succeeded`` need not be told).
    """

    def __init__(self, policy: Policy = DEFAULT) -> None:
        self._policy = policy
        self.breakers: dict[Circuit, Breaker] = {}
        self.quarantines: dict[str, Quarantine] = {}
        self.barred: set[Circuit] = set()
        self.half_open: set[Circuit] = set()

    def failed(self, executor_id: str, kind: str, task_id: str, who: str) -> None:
        """An attempt failed. ``who`` counts once: the task, or, where the executor did not say so itself, its
        incarnation, since all that it ran is lost together."""
        circuit = (executor_id, kind)
        breaker = self.breakers.get(circuit)
        if breaker is None:
            if len(self.breakers) >= MAX_WATCHED:
                self.breakers = {name: each for name, each in self.breakers.items() if each.open}
            breaker = self.breakers[circuit] = Breaker(set())
        if not breaker.open and len(breaker.failed) < self._policy.breaker_failures:
            breaker.failed.add(who)
        if breaker.probe == task_id or (not breaker.open and len(breaker.failed) >= self._policy.breaker_failures):
            breaker.open, breaker.opened_at, breaker.probe = True, None, ""
            self.barred.add(circuit)
            self.half_open.discard(circuit)

    def succeeded(self, executor_id: str, kind: str) -> None:
        circuit = (executor_id, kind)
        self.breakers.pop(circuit, None)
        self.barred.discard(circuit)
        self.half_open.discard(circuit)
        quarantine = self.quarantines.get(executor_id)
        if quarantine is not None and not quarantine.held:
            del self.quarantines[executor_id]

    def undecided(self, executor_id: str, kind: str, task_id: str) -> None:
        """An attempt ended without telling anything of its executor (declined, cancelled, forgotten)."""
        circuit = (executor_id, kind)
        breaker = self.breakers.get(circuit)
        if breaker is not None and breaker.probe == task_id:
            breaker.probe = ""
            self.barred.discard(circuit)
            self.half_open.add(circuit)

    def assigned(self, executor_id: str, kind: str, task_id: str) -> None:
        """A task goes there; where the circuit is half open it is the probe, and no other goes before its end."""
        circuit = (executor_id, kind)
        if circuit in self.half_open:
            self.half_open.discard(circuit)
            self.barred.add(circuit)
            self.breakers[circuit].probe = task_id

    def lost(self, executor_id: str) -> None:
        """Attempts of this executor were lost; those lost at one moment count once."""
        quarantine = self.quarantines.setdefault(executor_id, Quarantine())
        quarantine.losses += 1
        if quarantine.losses >= self._policy.quarantine_losses:
            quarantine.held = True
        if len(self.quarantines) > MAX_WATCHED:
            self.quarantines = {name: each for name, each in self.quarantines.items() if each.held}

    def registered(self, executor_id: str) -> None:
        """A new incarnation: what was lost by the one before says nothing about it."""
        self.quarantines.pop(executor_id, None)

    def settle(self, now: float) -> float | None:
        """Ends pauses that are over; gives when the next one is (Unix seconds), None when none runs."""
        ends = []
        for circuit in list(self.barred):
            breaker = self.breakers[circuit]
            if not breaker.probe:
                breaker.opened_at = now if breaker.opened_at is None else breaker.opened_at
                end = breaker.opened_at + self._policy.breaker_pause_s
                if end > now:
                    ends.append(end)
                else:
                    self.barred.discard(circuit)
                    self.half_open.add(circuit)
        for executor_id, quarantine in list(self.quarantines.items()):
            if quarantine.held:
                quarantine.since = now if quarantine.since is None else quarantine.since
                end = quarantine.since + self._policy.quarantine_pause_s
                if end > now:
                    ends.append(end)
                else:
                    del self.quarantines[executor_id]
        return min(ends, default=None)

    def bars(self, executor_id: str, kind: str) -> bool:
        """Whether nothing of this kind may go there now."""
        quarantine = self.quarantines.get(executor_id)
        return (executor_id, kind) in self.barred or (quarantine is not None and quarantine.held)

    def breaker(self, executor_id: str, kind: str) -> Breaker | None:
        """The breaker, where it keeps work away now."""
        return self.breakers[executor_id, kind] if (executor_id, kind) in self.barred else None

    def quarantine(self, executor_id: str) -> Quarantine | None:
        """The quarantine, where it keeps work away now."""
        found = self.quarantines.get(executor_id)
        return found if found is not None and found.held else None
