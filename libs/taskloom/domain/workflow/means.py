"""What one decision on a run may use: room for events, and large values."""

from typing import Final

from msgspec import Struct

from taskloom.domain.workflow.values import NO_VALUES, Values

ROOM: Final = 50
"""Events of one decision. What is left over stays in the run's state, which is due at once (``state.next_due``): so no
run holds up the others of its partition, and nothing is lost when the process dies in between."""


class Means(Struct, frozen=True):
    """``room`` 0 takes down what happened and leaves all that follows from it for later. ``values`` are those that the
    run refers to."""

    room: int = ROOM
    values: Values = NO_VALUES


USUAL: Final = Means()
