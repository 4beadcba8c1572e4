"""Which kinds of tasks are runs: they happen in the task's own stream, and only their steps go to executors."""

from typing import Final

WORKFLOW: Final = "workflow"
GOAL: Final = "goal"
RUN_KINDS: Final = frozenset({WORKFLOW, GOAL})


def is_run(kind: str) -> bool:
    return kind in RUN_KINDS
