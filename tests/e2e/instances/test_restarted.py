"""Two of each service while they are stopped, killed and started again: keys of requests, streams, schedules go on as
if nothing had been. The long form: tests/chaos/test_instances.py."""

import asyncio
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from signal import SIGTERM

import httpx
import pytest

from taskloom.testing.eventually import eventually
from tests.chaos.workload import verify
from tests.e2e.instances.pair import QUEUES_PER_HOUR, Follower, Pair, Room, followed, hour_has, stored, turns
from tests.e2e.instances.ticking import Ticking
from tests.e2e.support import TASKS, Api, Json

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def talkative(until: Path) -> Json:
    """Writes ten lines a second until there is such a file."""
    loop = f"i=0; while [ ! -e {until} ]; do i=$((i+1)); echo $i; sleep 0.1; done"
    return {"kind": "shell", "input": {"cmd": loop}, "timeouts": {"start_to_close_s": 120}}


class Promises:
    """One key and body: the first answer to it, on whichever gateway, at any time."""

    def __init__(self) -> None:
        self.key = {"Idempotency-Key": uuid.uuid4().hex}
        self.body: Json = {"kind": "echo", "input": {"n": 1}, "session_id": f"s-{uuid.uuid4().hex[:8]}"}
        self.first = b""

    async def send(self, apis: Sequence[Api], times: int) -> list[httpx.Response]:
        posts = [apis[n % 2].http.post(TASKS, json=self.body, headers=self.key) for n in range(times)]
        answers = list(await asyncio.gather(*posts))
        assert {answer.status_code for answer in answers} == {200}
        self.first = self.first or answers[0].content
        assert {answer.content for answer in answers} == {self.first}, "the first answer, byte for byte"
        return answers

    async def cancelled_once(self, apis: Sequence[Api]) -> None:
        """Another call with a key: what would be refused the second time is answered like the first."""
        nap = await apis[0].submit(kind="sleep", input={"seconds": 60})
        path, key = f"{TASKS}/{nap}/cancel", {"Idempotency-Key": uuid.uuid4().hex}
        posts = [apis[n % 2].http.post(path, json={"reason": "enough"}, headers=key) for n in range(20)]
        answers = await asyncio.gather(*posts)
        assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}

    async def hold(self, apis: Sequence[Api]) -> None:
        for answer in await self.send(apis, 4):
            assert answer.headers["X-Idempotency-Cached"] == "true"
            assert answer.headers["X-Idempotency-Key"] == self.key["Idempotency-Key"]
        for api in apis:
            other = await api.http.post(TASKS, json={**self.body, "input": {"n": 2}}, headers=self.key)
            assert other.status_code == 409
            assert self.key["Idempotency-Key"] in other.json()["error"]
            listed = await api.get("/tasks", session_id=self.body["session_id"])
            assert listed["total_count"] == 1


async def test_what_holds_while_each_of_them_is_stopped_killed_and_started_again(pair: Pair, tmp_path: Path) -> None:
    issued, ticking = await pair.key("north"), [Ticking(pair, tenant) for tenant in ("north", "south")]
    key = issued["api_key"]
    await hour_has(60)
    room = Room(tmp_path)
    name, enough = f"s-{uuid.uuid4().hex[:8]}", tmp_path / "enough"
    for clock in ticking:
        await clock.begin(once=6)
    async with pair.doors(key) as apis:
        promises = Promises()
        answers = await promises.send(apis, 40)
        assert sum("x-idempotency-cached" not in answer.headers for answer in answers) == 1
        await promises.cancelled_once(apis)
        await turns(apis, QUEUES_PER_HOUR, "/queues")

        few = [await apis[n % 2].submit(kind="echo", session_id=name, tags=[name]) for n in range(4)]
        talking = await apis[0].submit(**talkative(enough), session_id=name, tags=[name])
        followers = [
            Follower(key, workflow_id=talking),
            Follower(key, socket=True, workflow_id=talking),
            Follower(key, session_id=name),
            Follower(key, socket=True, tag=name, last_event_id="0"),
        ]
        async with followed(pair.urls[1], *followers) as reading:
            await eventually(lambda: all(each.told for each in followers))
            visits = [await apis[n % 2].submit(**room.visit()) for n in range(8)]
            pair.system.kill_process("orchestrator-1", SIGTERM)
            await apis[1].until(talking, "running")
            await eventually(lambda: "10\n" in followers[0].text)
            assert await pair.second.stop(15.0), "it drained in time"
            await asyncio.gather(*reading)
        # A stream that is not over is cut, never finished, so that its reader knows that there is more.
        assert not any(each.ended for each in followers)
        assert [each.cut.rcvd.code for each in followers[1::2]] == [1012, 1012]  # type: ignore[union-attr]
        assert [type(each.cut) for each in followers[0::2]] == [httpx.RemoteProtocolError] * 2

        followers[3].query.pop("last_event_id")
        async with followed(pair.urls[0], *followers) as reading:
            pair.system.kill_process("projection-1")
            heard = len(followers[0].told)
            await pair.second.start()
            await eventually(lambda: len(followers[0].told) > heard)
            gateway = pair.system.kill_process("gateway")
            await asyncio.gather(*reading)
            assert all(each.cut is not None for each in followers)

        async with followed(pair.urls[1], *followers) as reading:
            pair.system.kill_process("orchestrator-2", SIGTERM)
            last = await apis[1].submit(kind="echo", session_id=name, tags=[name], depends_on=[talking])
            await eventually(lambda: (talking, "WATCHER_ADDED") in {told[:2] for told in followers[2].told})
            enough.touch()
            await asyncio.gather(*reading[:2])
            assert [each.ended for each in followers] == [True, True, False, False]
            await apis[1].ended(last, 40)
            wanted = await stored(apis[1], [*few, talking, last])
            for each in followers[2:]:
                await eventually(partial(each.told_of, len(wanted)))
                assert sorted(each.told) == wanted
                assert all(seqs == sorted(seqs) for seqs in map(each.seqs, (*few, talking, last)))
        of_task, lines = await stored(apis[1], [talking]), followers[0].text.count("\n")
        assert lines > 20
        for each in followers[:2]:
            assert each.text == "".join(f"{n}\n" for n in range(1, lines + 1))
            assert each.seqs(talking) == sorted(seq for _, _, seq in of_task)

        await pair.system.wait_replaced("gateway", gateway)
        await promises.hold(apis)
        for visit in visits:
            assert (await apis[1].ended(visit, 60))["state"] == "completed"
        room.check()
        for answer in await turns(apis, 2, "/queues"):
            assert answer.status_code == 429, "what was used up before is used up"
    await asyncio.gather(*(clock.check() for clock in ticking))


async def test_the_whole_history_of_both_folds_to_what_both_show(pair: Pair) -> None:
    await verify(pair.system)
