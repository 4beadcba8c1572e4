"""Both clients' schedules against the gateway's own answers."""

import httpx

from taskloom.client import AsyncClient


async def test_the_client_makes_reads_changes_and_removes_schedules(client: httpx.AsyncClient) -> None:
    async with AsyncClient("http://127.0.0.1", transport=client._transport) as taskloom:
        made = await taskloom.schedules.create(name="n", cron_expression="0 3 * * *", task={"kind": "echo"}, jitter_s=5)
        assert made.next_run_at is not None
        await taskloom.schedules.update(made.schedule_id, description="new", overlap="allow")
        await taskloom.schedules.pause(made.schedule_id, "holidays")
        seen = await taskloom.schedules.get(made.schedule_id)
        assert (seen.status, seen.pause_reason, seen.description, seen.overlap) == (
            "PAUSED",
            "holidays",
            "new",
            "allow",
        )
        assert (await taskloom.schedules.resume(made.schedule_id)).next_run_at == made.next_run_at
        assert (await taskloom.schedules.upcoming(made.schedule_id, 2)).due[0] == made.next_run_at
        assert (await taskloom.schedules.page()).total_count == 1
        assert (await taskloom.schedules.runs(made.schedule_id)).runs == []
        await taskloom.schedules.remove(made.schedule_id)
        assert (await taskloom.schedules.page()).schedules == []
