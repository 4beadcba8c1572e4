from collections.abc import Iterator

import pytest

from services.orchestrator import ownership
from taskloom.store.shard import ShardStore
from tests.component.orchestrator.rig import PARTITIONS, SHARDS, Rig
from tests.component.orchestrator.suite import CommandLoopSuite
from tests.component.orchestrator.suite_approvals import ApprovalsSuite
from tests.component.orchestrator.suite_changes import ChangesSuite
from tests.component.orchestrator.suite_definitions import DefinitionsSuite
from tests.component.orchestrator.suite_dependencies import DependenciesSuite
from tests.component.orchestrator.suite_executors import ExecutorsSuite
from tests.component.orchestrator.suite_forks import ForksSuite
from tests.component.orchestrator.suite_goals import GoalsSuite
from tests.component.orchestrator.suite_leases import LeasesSuite
from tests.component.orchestrator.suite_ownership import OwnershipSuite
from tests.component.orchestrator.suite_restarts import RestartsSuite
from tests.component.orchestrator.suite_schedules import SchedulesSuite
from tests.component.orchestrator.suite_values import ValuesSuite
from tests.component.orchestrator.suite_workflows import WorkflowsSuite


@pytest.mark.integration
class TestCommandLoopOnPostgres(
    CommandLoopSuite,
    ChangesSuite,
    ApprovalsSuite,
    OwnershipSuite,
    LeasesSuite,
    ExecutorsSuite,
    DependenciesSuite,
    WorkflowsSuite,
    GoalsSuite,
    RestartsSuite,
    ForksSuite,
    DefinitionsSuite,
    SchedulesSuite,
    ValuesSuite,
):
    @pytest.fixture
    def rig(self, database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
        monkeypatch.setattr(ownership, "AFTER_FENCE_S", 0)
        opened: list[ShardStore] = []

        def open_store(shard: int) -> ShardStore:
            store = ShardStore(database_dsn, shard, partitions=PARTITIONS, shards=SHARDS)
            store.open()
            opened.append(store)
            return store

        yield Rig(open_store)
        for store in opened:
            store.close()
