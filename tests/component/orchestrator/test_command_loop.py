import pytest

from services.orchestrator import ownership
from taskloom.testing.memory import InMemoryDatabase, InMemoryShardStore, InMemoryShared
from tests.component.orchestrator.rig import SHARDS, Rig
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
from tests.component.orchestrator.suite_runs import RunsSuite
from tests.component.orchestrator.suite_schedules import SchedulesSuite
from tests.component.orchestrator.suite_values import ValuesSuite
from tests.component.orchestrator.suite_workflows import WorkflowsSuite


class TestCommandLoopInMemory(
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
    RunsSuite,
    ValuesSuite,
    SchedulesSuite,
):
    @pytest.fixture
    def rig(self, monkeypatch: pytest.MonkeyPatch) -> Rig:
        monkeypatch.setattr(ownership, "AFTER_FENCE_S", 0)
        shared = InMemoryShared()
        databases = [InMemoryDatabase(shared) for _ in range(SHARDS)]
        return Rig(lambda shard: InMemoryShardStore(databases[shard]))
