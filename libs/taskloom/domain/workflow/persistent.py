"""Frozen containers whose next version shares nearly all of the one before: a queue and a heap of timers."""

from datetime import datetime
from typing import Final, Optional

from immutables import Map
from msgspec import Struct


class Queue(Struct, frozen=True):
    """First in, first out, each entry once; any entry can leave. A change costs O(log n), amortised."""

    by_place: Map[int, str] = Map()
    place_of: Map[str, int] = Map()
    head_at: int = 0
    tail_at: int = 0

    def __len__(self) -> int:
        return len(self.by_place)

    def __contains__(self, entry: str) -> bool:
        return entry in self.place_of

    @property
    def head(self) -> str | None:
        return self.by_place.get(self.head_at)

    def push(self, entry: str) -> "Queue":
        """With ``entry`` at the end; unchanged when it already waits."""
        if entry in self.place_of:
            return self
        at = self.tail_at
        head_at = self.head_at if self.by_place else at
        return Queue(self.by_place.set(at, entry), self.place_of.set(entry, at), head_at, at + 1)

    def remove(self, entry: str) -> "Queue":
        """Without ``entry``; unchanged when it does not wait."""
        at = self.place_of.get(entry)
        if at is None:
            return self
        by_place, head_at = self.by_place.delete(at), self.head_at
        if not by_place:
            return EMPTY_QUEUE
        while head_at not in by_place:
            head_at += 1
        return Queue(by_place, self.place_of.delete(entry), head_at, self.tail_at)


EMPTY_QUEUE: Final = Queue()


class Heap(Struct, frozen=True):
    """A leftist heap (Crane 1972) of due times; equal times leave in the order they came."""

    due_at: datetime
    came: int
    path: str
    left: Optional["Heap"] = None
    right: Optional["Heap"] = None
    rank: int = 1


def merge(one: Heap | None, other: Heap | None) -> Heap | None:
    """Both heaps in one; recursion is as deep as the logarithm of their size."""
    if one is None or other is None:
        return one or other
    if (other.due_at, other.came) < (one.due_at, one.came):
        one, other = other, one
    left, right = one.left, merge(one.right, other)
    if _rank(left) < _rank(right):
        left, right = right, left
    return Heap(one.due_at, one.came, one.path, left, right, _rank(right) + 1)


def _rank(heap: Heap | None) -> int:
    return 0 if heap is None else heap.rank


class Timers(Struct, frozen=True, eq=False):
    """One due time a path. Cancelled ones leave the heap when they come to its top. The heap is an index: how it is
    shaped makes no difference."""

    due_of: Map[str, tuple[datetime, int]] = Map()
    heap: Heap | None = None
    came: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timers) and (self.due_of, self.came) == (other.due_of, other.came)

    def __hash__(self) -> int:
        return hash((self.due_of, self.came))

    @property
    def first(self) -> Heap | None:
        """The earliest timer: its ``due_at`` and ``path``."""
        return self.heap

    def set(self, path: str, due_at: datetime) -> "Timers":
        """With a timer for ``path``, instead of the one it had."""
        cleared, came = self.clear(path), self.came + 1
        return Timers(cleared.due_of.set(path, (due_at, came)), merge(cleared.heap, Heap(due_at, came, path)), came)

    def clear(self, path: str) -> "Timers":
        """Without the timer of ``path``, if it had one."""
        if path not in self.due_of:
            return self
        due_of, heap = self.due_of.delete(path), self.heap
        while heap is not None and due_of.get(heap.path) != (heap.due_at, heap.came):
            heap = merge(heap.left, heap.right)
        return Timers(due_of, heap, self.came)


NO_TIMERS: Final = Timers()
