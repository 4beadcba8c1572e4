"""What the tests of whole systems share: the broker is the running system's, so that one is started for all of them."""

import pytest

from taskloom.testing.processes import RunningSystem


@pytest.fixture(scope="session")
def kafka_bootstrap(running_system: RunningSystem) -> str:
    """``host:port`` of the running system's broker; use topics of your own (``topic_prefix``)."""
    return running_system.bootstrap
