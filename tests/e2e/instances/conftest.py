import json
from collections.abc import Iterator

import pytest

from taskloom.local.jars import ensure_jars
from tests.component.gateway.provider import CLIENT_ID, Provider, provider
from tests.conftest import running
from tests.e2e.instances.pair import Pair, started


@pytest.fixture(scope="package")
def identities() -> Iterator[Provider]:
    """Who vouches for people in the pair."""
    with provider() as found:
        yield found


@pytest.fixture(scope="package")
def pair(tmp_path_factory: pytest.TempPathFactory, identities: Provider) -> Iterator[Pair]:
    """Two gateways, orchestrators, projections and executors, where every call needs a key or who signed in."""
    ensure_jars()
    google = {"client_id": CLIENT_ID, "issuer": identities.url, "jwks": identities.jwks}
    further = {"TASKLOOM_SIGN_IN_PROVIDERS": json.dumps({"google": google})}
    yield from started(tmp_path_factory.mktemp("pair"), running, **further)
