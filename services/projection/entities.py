"""Events of aggregates that are no tasks, folded. They are few: each batch that has some reads what is there."""

from collections.abc import Awaitable, Callable

from services.projection.batch import Arrived, Batch, Poison
from services.projection.folding import History, Unfillable, poisons
from taskloom.domain.entities.entity import Entity, evolve, fold
from taskloom.errors import TaskloomError

LoadEntities = Callable[[list[str]], Awaitable[dict[str, Entity]]]


async def fold_entities(batch: Batch, load: LoadEntities, history: History) -> dict[str, Entity]:
    """The entities that the batch's events lead to. An event that cannot be folded is added to ``batch.poison``.

    Raises:
        whatever ``load`` and ``history`` raise when the database is away.
    """
    if not batch.entities:
        return {}
    known = await load(list(dict.fromkeys(arrived.recorded.task_id for arrived in batch.entities)))
    changed: dict[str, Entity] = {}
    for arrived in batch.entities:
        entity_id = arrived.recorded.task_id
        try:
            after = await _folded(known.get(entity_id), arrived, history)
        except (TaskloomError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            if not poisons(error):
                raise
            batch.poison.append(Poison(arrived.record, f"{type(error).__name__}: {error}"))
            continue
        if after is not None:
            known[entity_id] = changed[entity_id] = after
    return changed


async def _folded(state: Entity | None, arrived: Arrived, history: History) -> Entity | None:
    """None for an event that came before."""
    recorded, reached = arrived.recorded, 0 if state is None else state.version
    if recorded.version <= reached:
        return None
    if recorded.version > reached + 1:
        state = fold(await history.events(recorded.task_id, after=reached, up_to=recorded.version - 1), state)
        if state is None or state.version != recorded.version - 1:
            raise Unfillable(f"event {recorded.version} arrived, but the store has nothing after {reached}")
    return evolve(state, recorded)
