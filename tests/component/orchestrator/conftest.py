from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _short_tracebacks() -> Iterator[None]:
    """The default ones show all local variables: with a run among them that takes seconds."""
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, plain])
    yield
    structlog.reset_defaults()
