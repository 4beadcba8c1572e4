"""Routes of Shannon's API that belong to a model platform: each says in one sentence that it is not offered here."""

from typing import Any, Final

from litestar import get, post
from litestar.types import ASGIApp

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest
from services.gateway.docs import Doc, documented

TAG: Final = "Not offered"
API: Final = "/api/v1"

_REVIEW: Final = (
    "the review of a research plan is not offered; submit any task with `approval`, and it waits for a decision"
)
_SWARM: Final = "swarms are not offered; send a signal to a running workflow instead"
_SKILLS: Final = "skills are not offered; store a workflow and execute it instead"
_TOOLS: Final = "a registry of tools is not offered; agents list the kinds of work that can be executed"
_MODELS: Final = "models are not served over OpenAI's routes; submit a task instead"
_MEMORY: Final = "memory files are not offered; a session has files of its own"

_ROUTES: Final[tuple[tuple[str, str, str], ...]] = (
    ("GET", f"{API}/tasks/{{task_id:str}}/review", _REVIEW),
    ("POST", f"{API}/tasks/{{task_id:str}}/review", _REVIEW),
    ("POST", f"{API}/swarm/{{workflow_id:str}}/message", _SWARM),
    ("GET", f"{API}/skills", _SKILLS),
    ("GET", f"{API}/skills/{{name:str}}", _SKILLS),
    ("GET", f"{API}/skills/{{name:str}}/versions", _SKILLS),
    ("GET", f"{API}/tools", _TOOLS),
    ("GET", f"{API}/tools/{{name:str}}", _TOOLS),
    ("POST", f"{API}/tools/{{name:str}}/execute", _TOOLS),
    ("GET", f"{API}/memory/files", _MEMORY),
    ("GET", f"{API}/memory/files/{{path:path}}", _MEMORY),
    ("GET", "/v1/models", _MODELS),
    ("GET", "/v1/models/{name:str}", _MODELS),
    ("POST", "/v1/chat/completions", _MODELS),
    ("POST", "/v1/completions", _MODELS),
)


def _name(method: str, path: str) -> str:
    words = [word.strip("{}").partition(":")[0] for word in path.removeprefix(API).strip("/").split("/")]
    return "_".join((method.lower(), *words))


def _handler(method: str, path: str, reason: str) -> Any:
    async def answer(request: AnyRequest) -> ASGIApp:
        return json_answer({"error": reason}, status=501)

    answer.__name__ = _name(method, path)
    doc = Doc(summary="Not offered", tag=TAG, details=f"{reason[0].upper()}{reason[1:]}.", errors=(501,))
    made = get if method == "GET" else post
    return made(path, opt=documented(doc), name=answer.__name__)(answer)


HANDLERS: Final = [_handler(*route) for route in _ROUTES]
