"""What a submission of kind ``goal`` becomes: its whole input, with the definition that its run follows."""

from typing import Any, Final, Literal

import msgspec
from msgspec import structs

from taskloom.domain.goals.checking import faults_of
from taskloom.domain.goals.definition import definition_for
from taskloom.domain.goals.inputs import GoalInput, ModelChoice
from taskloom.domain.task.commands import SubmitTask

DEFINITION = "definition"
_FILLED_IN = (DEFINITION, "budget", "queue")
_Tier = Literal["", "small", "medium", "large"]
_TIERS: Final[dict[str, _Tier]] = {"small": "small", "medium": "medium", "large": "large"}


class BadGoal(ValueError):
    """The input cannot be a goal's; ``field`` is its path."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


def pinned_input(command: SubmitTask) -> dict[str, Any]:
    """The input of the goal's task. The same submission gives the same; what it has in it of the platform's own (the
    budget, the definition) is made anew.

    Raises:
        BadGoal: names the field that is wrong.
    """
    sent = {name: value for name, value in command.input.items() if name not in _FILLED_IN}
    if not sent.get("goal"):
        sent["goal"] = command.query
    if not sent["goal"] or (isinstance(sent["goal"], str) and not sent["goal"].strip()):
        raise BadGoal("the goal is empty; send what is to be achieved, here or as the query", "input.goal")
    if command.timeouts.total_s is not None:
        raise BadGoal("send the time limit of a goal as input.timeout_s", "timeouts.total_s")
    try:
        given = msgspec.convert(sent, GoalInput)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        raise BadGoal(message, "input" + path.rstrip("`").removeprefix("$")) from error
    given = structs.replace(given, budget=command.budget, queue=command.queue, model=_model(given.model, command))
    for note in [] if given.steps is None else faults_of(given, given.steps, given.max_steps):
        raise BadGoal(note.message, f"input.steps{note.place}")
    pinned: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(given))
    return {**pinned, "goal": given.goal, DEFINITION: definition_for(given)}


def _model(chosen: ModelChoice, command: SubmitTask) -> ModelChoice:
    """The input's choice, else that of the submission itself."""
    named = chosen.provider or chosen.model
    return ModelChoice(
        chosen.provider if named else command.provider_override or "",
        chosen.model if named else command.model_override or "",
        chosen.tier or _TIERS.get((command.model_tier or "").lower(), ""),
    )
