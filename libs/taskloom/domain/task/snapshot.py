"""A task's state as bytes and back: where a long history need not be folded from its beginning."""

from typing import Final

import msgspec
from msgspec import structs

from taskloom.domain.runs import is_run
from taskloom.domain.task.state import TaskState
from taskloom.domain.workflow.dump import dump_run, load_run

SNAPSHOTS_EACH: Final = 4
"""Snapshots of a run until its history is twice as long: all of them together cost in proportion to the history."""

_decoder = msgspec.json.Decoder(TaskState)


def encode_state(state: TaskState) -> bytes:
    return msgspec.json.encode(state if state.run is None else structs.replace(state, run=dump_run(state.run)))


def decode_state(data: bytes) -> TaskState:
    """The state that was encoded.

    Raises:
        msgspec.DecodeError: it is none.
    """
    state = _decoder.decode(data)
    return state if state.run is None else structs.replace(state, run=load_run(state.spec.input, state.run))


def is_due(before: int, after: TaskState, every: int) -> bool:
    """Whether a snapshot is stored on the way from version ``before``: each ``every`` events, and ever less often for a
    run, whose state grows. None of a run that has ended: the one before it still shows its steps."""
    if is_run(after.spec.kind):
        if after.run is None or after.ended:
            return False
        every = max(every, (1 << after.version.bit_length() - 1) // SNAPSHOTS_EACH)
    return after.version // every > before // every
