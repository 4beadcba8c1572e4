"""Files through the front door: uploaded, used by a command, left by it, downloaded."""

import pytest

from taskloom.testing.processes import RunningSystem
from tests.e2e.support import TASKS, door

pytestmark = pytest.mark.e2e


async def test_a_command_gets_files_and_what_it_leaves_is_downloaded(running_system: RunningSystem) -> None:
    numbers = b"".join(b"%d\n" % number for number in range(300_000))
    async with door(running_system, "files") as api, door(running_system, "others") as others:
        put = await api.http.put("/api/v1/files/numbers", content=numbers)
        assert put.json() == {"success": True, "size_bytes": len(numbers)}
        assert [each["name"] for each in (await api.get("/files"))["files"]] == ["numbers"]
        assert (await others.get("/files"))["files"] == []
        given = {
            "cmd": "sort -rn in/numbers > sorted.txt; mkdir out; head -1 sorted.txt | cat head - > 'out/the first.txt'",
            "files": [{"path": "in/numbers", "file": "numbers"}, {"path": "head", "text": "größte: "}],
            "artifacts": ["*.txt", "out/**"],
        }
        task_id = await api.submit(kind="shell", input=given)
        done = await api.ended(task_id)
        kept = [{"path": "out/the first.txt", "size_bytes": 17}, {"path": "sorted.txt", "size_bytes": len(numbers)}]
        assert done["response"]["artifacts"] == kept
        listed = (await api.get(f"/tasks/{task_id}/artifacts"))["artifacts"]
        assert [(each["attempt"], each["path"]) for each in listed] == [(1, "out/the first.txt"), (1, "sorted.txt")]
        first = await api.http.get(f"{TASKS}/{task_id}/artifacts/out/the first.txt")
        assert first.text == "größte: 299999\n"
        assert first.headers["content-disposition"] == "attachment; filename*=UTF-8''the%20first.txt"
        whole = (await api.http.get(f"{TASKS}/{task_id}/artifacts/sorted.txt")).content
        assert whole == b"".join(reversed(numbers.splitlines(keepends=True)))
        for path in ("none", "sorted.txt?attempt=2"):
            assert (await api.http.get(f"{TASKS}/{task_id}/artifacts/{path}")).status_code == 404
        assert (await others.http.get(f"{TASKS}/{task_id}/artifacts")).status_code == 404
        assert (await api.http.delete("/api/v1/files/numbers")).status_code == 200
        assert (await api.http.get("/api/v1/files/numbers")).status_code == 404
