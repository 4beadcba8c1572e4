"""What the tests of whole systems share: the broker is the running system's, so that one is started for all of them.
Two of each service are started once too, for all tests that ask for them."""

from collections.abc import Iterator

import pytest

from taskloom.local.jars import ensure_jars
from taskloom.testing.processes import RunningSystem
from tests.conftest import running
from tests.e2e.pair import Pair, started


@pytest.fixture(scope="session")
def kafka_bootstrap(running_system: RunningSystem) -> str:
    """``host:port`` of the running system's broker; use topics of your own (``topic_prefix``)."""
    return running_system.bootstrap


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two gateways, orchestrators, projections and executors, where every call needs a key."""
    ensure_jars()
    yield from started(tmp_path_factory.mktemp("pair"), running)
