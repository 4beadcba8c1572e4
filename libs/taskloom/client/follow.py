"""A task as its stream tells it: folded item by item, for programs that show it live."""

from datetime import datetime
from typing import Final

from msgspec import Struct

from taskloom.client.frames import StreamItem

_STATES: Final = {
    "WORKFLOW_STARTED": "ready",
    "TASK_SCHEDULED": "scheduled",
    "TASK_QUEUED": "ready",
    "ATTEMPT_ASSIGNED": "assigned",
    "AGENT_STARTED": "running",
    "ERROR_RECOVERY": "retrying",
    "WORKFLOW_PAUSING": "pausing",
    "WORKFLOW_PAUSED": "paused",
    "WORKFLOW_CANCELLING": "cancelling",
    "WORKFLOW_CANCELLED": "cancelled",
    "WORKFLOW_COMPLETED": "completed",
    "LLM_OUTPUT": "completed",
    "WORKFLOW_FAILED": "failed",
}
_OVERLAYS: Final = ("pausing", "paused", "cancelling")
_ENDS: Final = ("completed", "failed", "cancelled")


class Followed(Struct):
    """``state`` is close to the server's fine one (a time-out is shown as failed); ``message`` is the last thing said,
    ``last_line`` the last whole or begun line of output."""

    state: str = ""
    attempt: int = 0
    progress: float | None = None
    message: str = ""
    last_line: str = ""
    began_at: datetime | None = None
    changed_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.state in _ENDS

    def take(self, item: StreamItem) -> bool:
        """True when the state changed."""
        if item.is_output:
            self._write(item.message)
            return False
        before = self.state
        self._keep_time(item)
        self.message = item.message or self.message
        if item.type in ("ATTEMPT_ASSIGNED", "AGENT_STARTED"):
            self.attempt = item.payload.get("attempt", self.attempt)
        if item.type == "PROGRESS":
            self.progress = item.payload.get("progress", self.progress)
        elif item.type == "WORKFLOW_RESUMED":
            self.state = "running" if self.attempt else "ready"
        elif (state := _STATES.get(item.type)) and (state in _OVERLAYS + _ENDS or self.state not in _OVERLAYS):
            self.state = state
        if self.state == "completed":
            self.progress = 1.0
        return self.state != before

    def _keep_time(self, item: StreamItem) -> None:
        if not (text := item.data.get("timestamp")):
            return
        at = datetime.fromisoformat(text)
        self.began_at = self.began_at or at
        self.changed_at = at

    def _write(self, text: str) -> None:
        lines = text.rstrip("\n").splitlines()
        if lines:
            self.last_line = lines[-1]
