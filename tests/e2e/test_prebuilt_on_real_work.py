"""The four prebuilt workflows on real work: the programs in examples/, run as a reader would run them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from taskloom.testing.processes import RunningSystem

pytestmark = pytest.mark.e2e

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
LIMIT_S: Final = 90
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed (Debian: apt-get install git)")


def run(system: RunningSystem, *command: str | Path) -> str:
    """What a Python program prints; it must end well and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        env=os.environ | {"TASKLOOM_HOME": str(system.home)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout


def outcome(system: RunningSystem, example: str, *options: str) -> dict[str, Any]:
    """What the example prints with --json."""
    found: dict[str, Any] = json.loads(run(system, EXAMPLES / example / "run.py", "--json", *options))
    return found


@needs_git
def test_a_good_commit_is_deployed_and_one_that_breaks_a_test_is_not(running_system: RunningSystem) -> None:
    found = outcome(running_system, "ci_cd")

    good, broken = found["good"], found["broken"]
    assert found["waited_for"] == ["capability"]
    assert {run["status"] for run in (good, broken)} == {"completed"}
    assert {name: good["variables"][name] for name in ("test_status", "tests_passed", "lint_issues")} == {
        "test_status": "passed",
        "tests_passed": 6,
        "lint_issues": 0,
    }
    deployed = good["variables"]["deployed"]
    assert deployed == {"version": "1.0.0", "commit": deployed["commit"], "answer": ["3 be", "2 to", "1 is"]}
    assert deployed["commit"].startswith(good["current_release"])
    assert broken["variables"]["test_status"] == "failed"
    assert (broken["variables"]["tests_passed"], broken["variables"]["tests_failed"]) == (5, 1)
    assert "deployed" not in broken["variables"]
    assert broken["current_release"] == good["current_release"]
    assert "    └── ✓ Deploy Application  (if so)" in run(running_system, "-m", "taskloom", "steps", good["run"])
    assert "    └── – Deploy Application  (if so)" in run(running_system, "-m", "taskloom", "steps", broken["run"])


@pytest.mark.parametrize(("options", "attempts"), [([], ["completed"]), (["--kill"], ["lost", "completed"])])
def test_each_row_of_the_csv_files_is_loaded_once_also_when_the_agent_is_killed(
    running_system: RunningSystem, options: list[str], attempts: list[str]
) -> None:
    schema = f"sales_{len(options)}"

    found = outcome(running_system, "data_processing", "--schema", schema, *options)

    assert (found["status"], found["attempts_at_load"]) == ("completed", attempts)
    assert found["found"] == found["expected"]
    assert found["found"]["extracted"] == 6000
    assert found["found"]["loaded"] + sum(found["found"]["rejected"].values()) == 6000
    assert len(found["found"]["rejected"]) == 4


@needs_git
def test_a_pull_request_is_mended_and_then_merged_by_a_person(running_system: RunningSystem) -> None:
    found = outcome(running_system, "code_review", "--approve")

    first, second = found["first"]["variables"], found["second"]["variables"]
    assert [issue.partition(" ")[2] for issue in first["lint_issues"]] == ["F401 `os` imported but unused"]
    assert [issue.partition(" ")[2] for issue in first["security_issues"]] == ["runs-text eval runs text as code"]
    assert (first["tests_issues"], first["all_checks_passed"]) == ([], False)
    assert "review" not in first
    assert first["fixed_by"] == found["branch_head"]
    assert (second["all_checks_passed"], second["lint_issues"], second["security_issues"]) == (True, [], [])
    assert (second["review"]["approved"], second["review"]["comment"]) == (True, "reads well")
    assert found["waited_for"] == ["step"]
    assert found["main"][:2] == ["merge limits", "fix: what the checks found"]


def test_a_service_that_goes_down_is_seen_and_monitoring_ends_when_it_is_switched_off(
    running_system: RunningSystem,
) -> None:
    found = outcome(running_system, "monitoring", "--pause", "0.5")

    assert found["status"] == "completed"
    assert found["at_first"] == {"monitoring_active": True, "stock": "up", "payments": "up"}
    assert found["afterwards"] == {"monitoring_active": True, "stock": "up", "payments": "down"}
    rounds = found["rounds"]
    assert 2 <= rounds["iterations"] <= 20
    [checks] = [round_["results"]["parallel_health_checks"] for round_ in rounds["loop_results"][-1:]]
    health = {step: result["health"] for step, result in checks["sub_step_results"].items()}
    assert health == {"health_check_0_stock": "up", "health_check_1_payments": "down"}
