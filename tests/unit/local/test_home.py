import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from taskloom.local.errors import HomeBusy, LocalError
from taskloom.local.home import Home, run_entry


def test_a_home_in_use_is_refused_with_the_pid_of_its_owner(tmp_path: Path) -> None:
    with (
        Home(tmp_path).locked(),
        pytest.raises(HomeBusy, match=rf"pid {os.getpid()}.*TASKLOOM_HOME"),
        Home(tmp_path).locked(),
    ):
        pass


def test_a_home_is_free_again_after_its_owner_left(tmp_path: Path) -> None:
    with Home(tmp_path).locked():
        pass
    with Home(tmp_path).locked():
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_home_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalError, match=r"cannot use .*set TASKLOOM_HOME"), Home(tmp_path / "file" / "home").locked():
        pass


def test_what_was_written_is_read_back_and_cleared(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.read_run() == {}
    home.write_run({"url": "http://127.0.0.1:1"})
    assert home.read_run() == {"url": "http://127.0.0.1:1"}
    home.clear_run()
    assert home.read_run() == {}


def test_a_leftover_child_is_ended_before_a_home_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskloom.local.home.LEFTOVER_TIMEOUT_S", 0.2)
    sleep = [sys.executable, "-c", "import signal; signal.pause()"]
    with subprocess.Popen(sleep, start_new_session=True) as left:
        Home(tmp_path).write_run({"processes": {"kafka": run_entry(left.pid)}})
        with Home(tmp_path).locked():
            assert not psutil.pid_exists(left.pid)
        assert Home(tmp_path).read_run() == {}


def test_a_stranger_with_a_leftover_pid_is_left_alone(tmp_path: Path) -> None:
    sleep = [sys.executable, "-c", "import signal; signal.pause()"]
    with subprocess.Popen(sleep, start_new_session=True) as stranger:
        entry = run_entry(stranger.pid)
        Home(tmp_path).write_run({"processes": {"kafka": entry | {"started": entry["started"] - 60}}})
        with Home(tmp_path).locked():
            assert stranger.poll() is None
        stranger.kill()
