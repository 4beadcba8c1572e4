"""What is wrong with a workflow."""

from collections.abc import Iterable

from taskloom.client.errors import ClientError
from taskloom.domain.workflow.faults import Fault


class BadWorkflow(ClientError, ValueError):
    """The workflow cannot run. ``faults`` have the path of each faulty field and what is wrong with it."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = list(faults)
        super().__init__("; ".join(f"{fault.path}: {fault.message}" for fault in self.faults[:10]))
