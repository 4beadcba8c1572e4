"""What tasks tell each other: commands for other tasks, sent like anybody's, through the commands topic."""

from msgspec import structs

from taskloom.domain.entities.commands import NoteRun
from taskloom.domain.entities.ids import is_entity_id
from taskloom.domain.entities.policies import elsewhere as of_entity
from taskloom.domain.envelope import Recorded
from taskloom.domain.ids import placing_key
from taskloom.domain.policies import elsewhere, tells
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.commands import NoteChild, NoteDependency, RetryChild, SubmitTask, TaskCommand, WatchTask
from taskloom.domain.values import ErrorInfo
from taskloom.domain.workflow.references import names_unpinned
from taskloom.domain.workflow.wanted import parent_of, restart_of
from taskloom.wire.cloudevents import ORCHESTRATOR_SOURCE, Attributes
from taskloom.wire.commands import Envelope, command_type


def peers_of(recorded: Recorded, traceparent: str) -> list[Envelope]:
    """Commands for other tasks that follow from a stored event; made again from the same event, with the same ids."""
    envelopes = told_by(recorded, traceparent)
    return [envelope for envelope in envelopes if not is_local(envelope, recorded.task_id)]


def is_local(envelope: Envelope, task_id: str) -> bool:
    """Between a workflow and its steps: applied in the round it came from, never sent. But for a child workflow that
    ended long ago maybe, whose state is read from the store for what is sent; and for one that is a stored workflow,
    which is looked up and pinned on the way."""
    command = envelope.command
    sent = isinstance(command, RetryChild) or (isinstance(command, SubmitTask) and names_unpinned(command))
    return placing_key(envelope.task_id) == placing_key(task_id) and not sent


def of_step(envelope: Envelope) -> bool:
    """Whether it submits the task of a step, and was sent because it had to be pinned."""
    ours = envelope.attributes.source == ORCHESTRATOR_SOURCE
    return ours and isinstance(envelope.command, SubmitTask) and parent_of(envelope.task_id) is not None


def run_of(envelope: Envelope) -> str:
    """The run that the task of a step belongs to."""
    parent = parent_of(envelope.task_id)
    assert parent is not None
    return parent[0]


def told_by(recorded: Recorded, traceparent: str) -> list[Envelope]:
    """``peers_of`` with those that are local."""
    meta = recorded.meta
    of_task = not is_entity_id(meta.task_id)
    if of_task and not tells(recorded.event):
        return []
    if not of_task:
        asked = of_entity(meta.task_id, recorded.event)
    else:
        asked = [(other, command, "") for other, command in elsewhere(meta.task_id, recorded.event, meta.tenant_id)]
    return [
        _envelope(other, command, f"{meta.task_id}/{meta.version}/{place}", meta.tenant_id, traceparent, actor)
        for place, (other, command, actor) in enumerate(asked)
    ]


def unknown_dependency(watch: WatchTask, asked: Attributes, task_id: str) -> Envelope:
    """Tells who wants to watch a task that it does not exist: there is no stream that could hold such an event."""
    told = NoteRun(task_id, "unknown") if is_entity_id(watch.watcher) else NoteDependency(task_id, "unknown")
    return _envelope(watch.watcher, told, f"{asked.id}/unknown", asked.tenant_id, asked.traceparent)


def tell_refused(asked: Envelope, refusal: Refusal) -> Envelope:
    """Tells a run that there is no task of its step, or none that goes on. ``asked``: what that task was sent."""
    parent = parent_of(asked.task_id)
    assert parent is not None
    where = f"{refusal.field}: " if refusal.field else ""
    error = ErrorInfo("Refused", f"{where}{refusal.message}", retryable=False)
    note = NoteChild(parent[1], "refused", error=error, restart=restart_of(asked.task_id))
    return structs.replace(asked, task_id=parent[0], command=note)


def _envelope(
    task_id: str, command: TaskCommand | NoteRun, command_id: str, tenant_id: str, traceparent: str, actor: str = ""
) -> Envelope:
    attributes = Attributes(
        id=command_id,
        type=command_type(command),
        source=ORCHESTRATOR_SOURCE,
        subject=task_id,
        tenant_id=tenant_id,
        actor=actor,
        traceparent=traceparent,
    )
    return Envelope(task_id, command, attributes)
