"""What an agent is called: in its tenant by its own id, among all executors by an id that no other tenant's has.

In the default tenant both are the same; elsewhere the executor's id is ``<tenant>:<agent>``. Agents' ids have no colon,
so that no two tenants' agents can be taken for each other.
"""

import re
from typing import Final

from taskloom.domain.ids import DEFAULT_TENANT, is_valid_id

_AGENT_ID: Final = re.compile(r"[A-Za-z0-9_\-.]{1,64}")
RESERVED: Final = frozenset({"link", "events", "stats", "rebalance"})
"""Parts of paths that stand where an agent's id would."""


def is_agent_id(text: str) -> bool:
    return _AGENT_ID.fullmatch(text) is not None and text not in RESERVED


def executor_id_of(tenant_id: str, agent_id: str) -> str:
    """The id under which an agent registers as an executor.

    Raises:
        ValueError: tenant and agent make no id together: more than 128 characters.
    """
    name = agent_id if tenant_id == DEFAULT_TENANT else f"{tenant_id}:{agent_id}"
    if not is_valid_id(name):
        raise ValueError(f"the ids of tenant and agent together have {len(name)} characters, 128 are possible")
    return name


def agent_id_of(executor_id: str) -> str:
    """What the agent that registers so is called in its tenant."""
    return executor_id.rpartition(":")[2]
