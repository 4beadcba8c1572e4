"""Tools beside a running ``taskloom up``: they find its broker, database and API by the home's ``run.json``."""

import os
from pathlib import Path
from typing import Final

from taskloom.local.home import Home

VERBS_BESIDE: Final = frozenset(
    {
        "submit",
        "goal",
        "get",
        "list",
        "watch",
        "output",
        "cancel",
        "pause",
        "resume",
        "retry",
        "update",
        "delete",
        "timeline",
        "steps",
        "why",
        "workflows",
        "executors",
        "agents",
        "schedules",
        "sessions",
        "approvals",
        "queues",
        "report",
        "usage",
        "quotas",
        "keys",
        "webhooks",
        "audit",
        "secrets",
        "tool-servers",
        "mcp",
        "verify",
        "retention",
        "dead-letters",
    }
)
_FROM_RUN: Final = {
    "TASKLOOM_URL": "url",
    "TASKLOOM_KAFKA_BOOTSTRAP": "bootstrap",
    "TASKLOOM_DATABASE_DSN": "dsn",
    "TASKLOOM_TOPIC_PREFIX": "topic_prefix",
}


def use_running_home() -> None:
    """Fills in the addresses that the environment does not give, from the system that runs in ``TASKLOOM_HOME``."""
    run = Home(Path(os.environ.get("TASKLOOM_HOME", ".taskloom"))).read_run()
    for variable, name in _FROM_RUN.items():
        if run.get(name):
            os.environ.setdefault(variable, str(run[name]))
