"""Who runs below whom: by the kernel's lists and by the whole table, and killed to the last."""

import os
import subprocess
import sys

import pytest

from services.executor import proctable
from taskloom.testing.eventually import eventually

TREE = "sleep 30 & (setsid sleep 30 & wait) & setsid bash -c 'sleep 30 & wait' & wait"


@pytest.mark.parametrize("lists", [True, False])
async def test_all_that_lives_below_is_found_and_killed(lists: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if lists and not proctable._LISTS_CHILDREN:
        pytest.skip("this kernel lists no children")
    monkeypatch.setattr(proctable, "_LISTS_CHILDREN", lists)
    with subprocess.Popen(["bash", "-c", TREE], start_new_session=True) as root:
        await eventually(lambda: len(proctable.descendants(root.pid)) == 5)
        assert proctable.kill_below(root.pid) == 5
        assert root.wait(10) == 0
    assert proctable.descendants(root.pid) == []


def test_zombies_and_processes_that_are_gone_do_not_count() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert child.pid not in proctable.descendants(os.getpid())
        assert child.pid in proctable.children(os.getpid())
    assert proctable.send([child.pid], 0) == 0
