from collections.abc import Iterator

import pytest

from taskloom.local.jars import ensure_jars
from tests.conftest import running
from tests.e2e.instances.pair import Pair, started


@pytest.fixture(scope="package")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two gateways, orchestrators, projections and executors, where every call needs a key."""
    ensure_jars()
    yield from started(tmp_path_factory.mktemp("pair"), running)
