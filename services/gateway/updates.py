"""What can be said of an update before its task is asked: fields and their bounds, and whether the queue is served."""

from services.gateway.known import KnownThings
from services.gateway.problems import BadRequest, Unknown
from taskloom.domain.ids import is_valid_id
from taskloom.domain.scheduling.match import ANY_QUEUE
from taskloom.domain.task.changes import checked
from taskloom.domain.task.commands import UpdateTask
from taskloom.domain.task.submission import Invalid


async def check_update(command: UpdateTask, known: KnownThings, tenant_id: str, where: str = "") -> None:
    """``where``: the path of the changes in the body, with its dot.

    Raises:
        BadRequest: names the field; ``Unknown`` when no executor serves the queue.
    """
    try:
        checked(command)
    except Invalid as invalid:
        raise BadRequest(invalid.message, field=where + invalid.field) from invalid
    for field in ("assigned_to", "queue"):
        value = getattr(command, field)
        # msgspec's pattern lets a line feed at the end through.
        if isinstance(value, str) and not is_valid_id(value):
            raise BadRequest("not an id (1 to 128 of A-Z a-z 0-9 : _ - .)", field=where + field)
    if isinstance(command.queue, str):
        await _check_queue(command.queue, known, tenant_id, where)


async def _check_queue(queue: str, known: KnownThings, tenant_id: str, where: str) -> None:
    served = known.now(tenant_id).queues
    if queue not in served and ANY_QUEUE not in served:
        served = (await known.renewed(tenant_id)).queues
    if queue not in served and ANY_QUEUE not in served:
        names = ", ".join(sorted(served))
        raise Unknown(f"no executor serves the queue {queue!r}; known queues: {names}", field=f"{where}queue")
