"""Cgroups: what is written where, in a directory that stands for the kernel's; and a real one where it can be made."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from services.executor import cgroups
from services.executor.cgroups import Cgroups, Unsupported
from taskloom.testing.eventually import eventually


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroups, "_REMOVE_S", 0.0)
    for folder in (tmp_path, tmp_path / f"taskloom-{os.getpid()}"):
        folder.mkdir(exist_ok=True)
        for name, text in (("procs", ""), ("controllers", ""), ("subtree_control", "memory")):
            (folder / f"cgroup.{name}").write_text(text)
    return tmp_path


def test_limits_are_written_for_those_controllers_that_are_handed_on(parent: Path) -> None:
    groups = Cgroups(parent, hands_on=False)
    assert groups.abilities == {"memory"}
    made = groups.make("7", memory_mb=10)
    assert (made.folder / "memory.max").read_text() == str(10 * 2**20)
    assert (made.folder / "memory.swap.max").read_text() == "0"
    assert (made.folder / "memory.oom.group").read_text() == "1"
    with pytest.raises(Unsupported, match="pids"):
        groups.make("8", pids=5)
    assert not made.out_of_memory()
    (made.folder / "memory.events").write_text("low 0\noom 2\noom_kill 1\n")
    assert made.out_of_memory()
    groups.close()


def test_a_directory_that_is_no_cgroup_is_refused_by_name_and_off_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no cgroup"):
        cgroups.capabilities(str(tmp_path))
    assert cgroups.capabilities("off") == ()


async def test_a_real_cgroup_kills_what_joined_it_and_is_removed() -> None:
    if "cgroup" not in cgroups.capabilities("auto"):
        pytest.skip("this process may make no cgroup of version 2 here")
    groups = cgroups.find("auto")
    assert groups is not None
    made = groups.make("test")
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        (made.folder / "cgroup.procs").write_text(str(process.pid))
        assert not made.remove()
        made.kill()
        assert process.wait(10) == -signal.SIGKILL
    await eventually(made.remove)
    groups.close()
    assert not made.folder.parent.exists()
