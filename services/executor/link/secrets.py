"""Secrets of an agent's attempts: asked for over the link when an attempt needs them, and kept nowhere."""

import asyncio
from collections.abc import Callable
from typing import Final

from taskloom.domain.task.directives import RunAttempt
from taskloom.kinds.api import TaskError
from taskloom.wire import link as wire

AT_ONCE: Final = wire.MAX_ASKS // 16
"""Questions under way; far fewer than the gateway takes, since those of cancelled attempts may wait there still."""


class Asks:
    """Implements ``secrets.SecretSource``. A question without an answer is asked again over the next link; how long an
    attempt waits is up to its own time limit."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        """``send`` puts a frame on the link, where there is one now."""
        self._send = send
        self._seq = 0
        self._open: dict[int, tuple[bytes, asyncio.Future[wire.Told]]] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._is_over = False

    async def find(self, order: RunAttempt, names: set[str]) -> dict[str, str]:
        """As ``SecretSource.find``.

        Raises:
            TaskError: ``secret_missing`` or ``secret_refused``, not retryable; ``secret_unavailable``, retryable.
        """
        async with self._gate:
            told = await self._ask(order, names)
        if told.problem:
            unavailable = told.problem == "secret_unavailable"
            raise TaskError(told.problem, told.message, retryable=unavailable, fault=unavailable)
        if names - told.values.keys():
            raise TaskError("secret_missing", "the gateway did not tell all of them", retryable=False)
        return told.values

    async def _ask(self, order: RunAttempt, names: set[str]) -> wire.Told:
        self._seq += 1
        seq = self._seq
        answer: asyncio.Future[wire.Told] = asyncio.get_running_loop().create_future()
        if self._is_over:
            return _over(seq)
        frame = wire.encode(wire.Ask(seq, order.task_id, order.attempt, sorted(names)))
        self._open[seq] = frame, answer
        self._send(frame)
        try:
            return await answer
        finally:
            del self._open[seq]

    def unanswered(self) -> list[bytes]:
        """Frames to send over a new link, in their order."""
        return [frame for frame, _ in self._open.values()]

    def told(self, message: wire.Told) -> None:
        """Hands on an answer; one that nobody waits for any more is dropped."""
        _, answer = self._open.get(message.seq, (b"", None))
        if answer is not None and not answer.done():
            answer.set_result(message)

    def end(self) -> None:
        """Nobody answers any more."""
        self._is_over = True
        for seq, (_, answer) in self._open.items():
            if not answer.done():
                answer.set_result(_over(seq))


def _over(seq: int) -> wire.Told:
    return wire.Told(seq, problem="secret_unavailable", message="the gateway has let this agent go")
