"""Which paths are streams, and which belong to the API, whatever its face: asked at the edge, before any route."""

from typing import Final

_STREAMS: Final = "/api/v1/stream/"
_AGENTS: Final = "/api/v1/agents/events"
_NODELINK_STREAM: Final = "/stream"
_CHAT: Final = "/api/chat"
_API: Final = ("/api/v1/", "/tasks/", "/agents/", f"{_CHAT}/")


def is_stream(path: str) -> bool:
    """True for what stays open; also of a route's template."""
    return path.startswith(_STREAMS) or path in (_AGENTS, _NODELINK_STREAM)


def is_api(path: str) -> bool:
    """True for what is a tenant's business: counted by rate limits, told apart by callers."""
    return path.startswith(_API) or path in ("/tasks", _NODELINK_STREAM, _CHAT)
