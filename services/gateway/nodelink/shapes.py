"""The JSON of nodelink's calls: what they take and what they answer."""

from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta, Struct

from services.gateway.nodelink.words import go_duration, rfc3339, status_of
from services.gateway.problems import BadRequest, decoded
from taskloom.domain.values import Identifier
from taskloom.kinds.inputs import INPUTS
from taskloom.views.task_executions.row import Row

DEFAULT_TIMEOUT_S: Final = 300.0
MAX_TIMEOUT_S: Final = 366 * 86_400

Text = Annotated[str, Meta(min_length=1)]
TimeoutSeconds = Annotated[float, Meta(ge=0, le=MAX_TIMEOUT_S)]
_body_decoder = msgspec.json.Decoder(dict[str, Any])


class Wish(Struct, frozen=True, kw_only=True):
    """``timeout`` in seconds; 0 or nothing stands for 300."""

    KIND: ClassVar[str] = ""

    agent_id: Identifier
    timeout: TimeoutSeconds | None = None

    @property
    def timeout_s(self) -> float:
        return self.timeout or DEFAULT_TIMEOUT_S


class ShellTask(Wish, frozen=True, kw_only=True):
    """``cmd`` runs under ``bash -c``. Beyond nodelink: what the kind shell takes (``env``, ``cwd``, …)."""

    KIND: ClassVar[str] = "shell"

    cmd: Text


class DockerTask(Wish, frozen=True, kw_only=True):
    """``run`` needs ``image``, the others need ``id``. Beyond nodelink: what the kind docker takes."""

    KIND: ClassVar[str] = "docker"

    operation: Literal["run", "start", "stop", "logs"]
    image: Text | None = None
    id: Text | None = None


class LegacyShell(Struct, frozen=True):
    """As ``ShellTask``, with the agent in the path."""

    cmd: Text
    timeout: TimeoutSeconds | None = None


class AgentTaskCreated(Struct, frozen=True):
    task_id: str
    agent_id: str
    status: str
    created_at: str


class AgentTaskEntry(Struct, frozen=True):
    """A task in a list. ``status``: pending, sent, in_progress, completed, failed, timeout or cancelled."""

    task_id: str
    agent_id: str
    status: str
    created_at: str
    updated_at: str


class AgentTaskDetail(Struct, frozen=True):
    """A task. ``timeout`` is Go's duration text: ``5m0s``."""

    task_id: str
    agent_id: str
    status: str
    created_at: str
    updated_at: str
    timeout: str


class AllAgentTasks(Struct, frozen=True):
    tasks: list[AgentTaskEntry]


class AgentTasks(Struct, frozen=True):
    agent_id: str
    tasks: list[AgentTaskEntry]


class TaskCancelled(Struct, frozen=True):
    message: str


class TaskRef(Struct, frozen=True):
    """``ref`` is the task's id."""

    ref: str


class NodelinkError(Struct, frozen=True, omit_defaults=True):
    """Every answer of 400 and above. ``task_id``: what was recorded of the wish all the same."""

    error: str
    details: str = ""
    task_id: str = ""


def read_wish(body: bytes, model: type[Wish], **given: str) -> tuple[Wish, dict[str, Any]]:
    """The wish, and the input of its kind: what the kind takes of the body; all else is left out, as Go does.

    ``given``: fields that the path says.

    Raises:
        BadRequest: ``details`` say what is wrong.
    """
    try:
        fields = {name: value for name, value in decoded(_body_decoder.decode, body).items() if value is not None}
        wish = msgspec.convert({**fields, **given}, model)
    except BadRequest as error:
        raise invalid(str(error)) from error
    except msgspec.ValidationError as error:
        raise invalid(_explained(error, fields)) from error
    if isinstance(wish, DockerTask):
        needed = "image" if wish.operation == "run" else "id"
        if getattr(wish, needed) is None:
            raise invalid(f"{needed} is missing: the operation {wish.operation} needs it")
    kind = INPUTS.get(wish.KIND)
    taken = (kind or model).__struct_fields__
    own = Wish.__struct_fields__
    return wish, {name: value for name, value in fields.items() if name in taken and name not in own}


def _explained(error: msgspec.ValidationError, fields: dict[str, Any]) -> str:
    timeout = fields.get("timeout")
    if isinstance(timeout, (int, float)) and timeout < 0:
        return f"timeout: {timeout} is negative; send seconds, 0 or nothing for {DEFAULT_TIMEOUT_S:g}"
    return str(error)


def entry_of(row: Row) -> AgentTaskEntry:
    return AgentTaskEntry(row.task_id, agent_of(row), status_of(row), rfc3339(row.created_at), _updated(row))


def detail_of(row: Row, timeout_s: float) -> AgentTaskDetail:
    return AgentTaskDetail(
        *(row.task_id, agent_of(row), status_of(row), rfc3339(row.created_at), _updated(row)), go_duration(timeout_s)
    )


def agent_of(row: Row) -> str:
    """The executor that the task names, or that it last ran on."""
    return row.assigned_to or row.executor_id


def invalid(details: str) -> BadRequest:
    return BadRequest("invalid request", details=details)


def _updated(row: Row) -> str:
    return rfc3339(row.updated_at or row.created_at)
