"""``DISABLE_TASK_WORKER`` keeps work of goals away from an executor, and nothing else."""

import pytest

from services.executor.kinds import handlers
from services.executor.settings import ExecutorSettings


@pytest.mark.parametrize(("value", "takes"), [("true", False), ("1", False), ("false", True), ("", True)])
def test_an_executor_without_a_task_worker_takes_no_work_of_goals(
    monkeypatch: pytest.MonkeyPatch, value: str, takes: bool
) -> None:
    monkeypatch.setenv("DISABLE_TASK_WORKER", value)
    kinds = handlers(ExecutorSettings(docker=False)).keys()
    assert ({"llm", "tool"} <= kinds, {"llm", "tool"} & kinds == set()) == (takes, not takes)
    assert {"query", "shell", "http", "python"} <= kinds
