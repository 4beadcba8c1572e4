"""Schedules of one second, and some that are due once: what became of each due time."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, Final

from taskloom.domain.entities.events import RunsSkipped, RunTriggered
from taskloom.testing.eventually import eventually
from tests.e2e.instances.pair import Pair, token
from tests.e2e.support import Api, Json

SCHEDULES: Final = "/api/v1/schedules"
ONE_SECOND: Final = timedelta(seconds=1)


class Ticking:
    """A tenant's schedules. ``tick`` has the same id in each tenant."""

    def __init__(self, pair: Pair, tenant: str) -> None:
        self._pair = pair
        self._tenant = tenant
        self._token = token(tenant, f"clock-{uuid.uuid4().hex[:8]}")
        self.name = f"tick-{pair.system.run['supervisor_pid']}"
        self.once: dict[str, datetime] = {}

    async def begin(self, *, once: int) -> None:
        """``once`` further ones are due a second after each other, from the third second on."""
        wish: Json = {"name": "Tick", "task": {"kind": "echo", "input": {}}, "overlap": "allow"}
        now = datetime.now(UTC)
        async with self._pair.doors(self._token) as apis:
            await _made(apis[0], {**wish, "schedule_id": self.name, "interval_s": 1})
            for number in range(once):
                at = now + timedelta(seconds=3 + number)
                name = f"once-{uuid.uuid4().hex[:8]}"
                await _made(apis[number % 2], {**wish, "schedule_id": name, "at": at.isoformat()})
                self.once[name] = at

    async def check(self) -> None:
        """Ends it. Each due time from the first to the last was one run, which ran once; its id is the due time's."""
        async with self._pair.doors(self._token) as (api, other):
            for name in self.once:
                await eventually(partial(_total, api, name), 60.0)
            paused = await other.http.post(f"{SCHEDULES}/{self.name}/pause")
            assert paused.status_code == 200, paused.text
            facts = self._facts(self.name)
            assert not [fact for fact in facts if isinstance(fact, RunsSkipped)], "nobody was away for a minute"
            triggered = [fact for fact in facts if isinstance(fact, RunTriggered)]
            due = [fact.due_at for fact in triggered]
            assert len(due) > 5
            assert [later - earlier for earlier, later in pairwise(due)] == [ONE_SECOND] * (len(due) - 1)
            ids = [fact.run_id for fact in triggered]
            assert [run_id.removeprefix(f"{self.name}-")[:15] for run_id in ids] == [
                f"{at:%Y%m%dT%H%M%S}" for at in due
            ]
            await self._ran_once(api, self.name, ids)
            for name, at in self.once.items():
                [only] = [fact for fact in self._facts(name) if isinstance(fact, RunTriggered | RunsSkipped)]
                assert isinstance(only, RunTriggered)
                assert only.due_at == at
                await self._ran_once(other, name, [only.run_id])

    async def _ran_once(self, api: Api, name: str, ids: Sequence[str]) -> None:
        async def all_ended() -> bool:
            schedule = await api.get(f"/schedules/{name}")
            told = {key: schedule[key] for key in ("total_runs", "successful_runs", "skipped_runs", "open_runs")}
            assert told == {
                "total_runs": len(ids), "successful_runs": len(ids), "skipped_runs": 0, "open_runs": []
            }  # fmt: skip
            return True

        await eventually(all_ended, 60.0, 0.1)
        assert sorted(await _runs(api, name)) == sorted(ids)
        for task_id in ids:
            types = [type(event).__name__ for event in self._pair.facts(task_id)]
            assert (types.count("TaskSubmitted"), types.count("TaskCompleted")) == (1, 1), types

    def _facts(self, name: str) -> list[Any]:
        return self._pair.facts(f"@schedule/{self._tenant}/{name}")


def most_at_once(intervals: Sequence[tuple[datetime, ...]]) -> int:
    """Of starts and ends; ends count before starts of the same moment."""
    at_once, most = 0, 0
    for _, step in sorted(step for start, end in intervals for step in ((start, 1), (end, -1))):
        at_once += step
        most = max(most, at_once)
    return most


async def _made(api: Api, wish: Json) -> None:
    answer = await api.http.post(SCHEDULES, json=wish)
    assert answer.status_code == 201, answer.text


async def _total(api: Api, name: str) -> bool:
    return bool((await api.get(f"/schedules/{name}"))["total_runs"])


async def _runs(api: Api, name: str) -> list[str]:
    """Ids of all runs, page by page."""
    found: list[str] = []
    page = 1
    while runs := (await api.get(f"/schedules/{name}/runs", page=page, page_size=100))["runs"]:
        found += [run["workflow_id"] for run in runs]
        page += 1
    return found
