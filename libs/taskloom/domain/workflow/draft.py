"""A run state that is being changed: one draft takes many events, so that each costs only what it touches."""

from datetime import datetime
from typing import Any

from immutables import Map
from msgspec import structs

from taskloom.domain.workflow.plan import Body, StepPlan
from taskloom.domain.workflow.state import ROOT, STEP_ENDED, Frame, LoopData, MapData, Node, RunFields, RunState


class Draft(RunFields):
    """Has the fields of ``RunState``, which may be set; ``freeze`` gives the new state. ``clock``: when what is being
    applied happened, where that is known."""

    clock: datetime | None = None

    def freeze(self) -> RunState:
        return RunState(*structs.astuple(self)[:-1])

    def change(self, path: str, **fields: Any) -> Node:
        """The node with some fields set."""
        node: Node = structs.replace(self.nodes[path], **fields)
        self.nodes = self.nodes.set(path, node)
        return node

    def change_frame(self, path: str, **fields: Any) -> Frame:
        frame: Frame = structs.replace(self.frames[path], **fields)
        self.frames = self.frames.set(path, frame)
        return frame

    def begin(self, path: str, **fields: Any) -> Node:
        """The node runs, or waits; nothing has to be decided on it any more."""
        self.agenda = self.agenda.remove(path)
        self.slots = self.slots.remove(path)
        self.started += 1
        return self.change(path, **{"status": "running", **fields})

    def add(self, path: str, plan: StepPlan, frame: str, doomed: str = "") -> None:
        """A step became ready, or is to be skipped."""
        self.nodes = self.nodes.set(path, Node(path, plan, frame, doomed=doomed, since=self.clock))
        if plan.needs_slot and not doomed:
            self.slots = self.slots.push(path)
        else:
            self.agenda = self.agenda.push(path)

    def open_frame(self, path: str, body: Body, node: str) -> None:
        """The steps of a body that wait for nothing become ready."""
        counts = {step_id: len(needs) for step_id, needs in body.depends_on.items()}
        self.frames = self.frames.set(path, Frame(path, body, node, Map(counts), len(body.steps)))
        for plan in body.steps:
            if not counts[plan.id]:
                self.add(within(path, plan.id), plan, path)

    def drop_frame(self, path: str) -> None:
        """Forgets a body whose steps have all ended; their results went to the step it belongs to."""
        frame, keeping = self.frames[path], []
        nodes = self.nodes.mutate()
        for plan in frame.body.steps:
            node = nodes.pop(within(path, plan.id), None)
            if node is not None and node.status != "completed" and not node.plan.needs_slot:
                keeping.append(node)
        self.nodes = nodes.finish()
        self.frames = self.frames.delete(path)
        for node in keeping:
            self.drop_bodies(node)

    def drop_bodies(self, node: Node) -> None:
        """Forgets what ran within a step."""
        data = node.data
        if isinstance(data, MapData):
            items = (self.nodes.get(within(node.path, at)) for at in {*data.items, *data.live})
            for item in [item for item in items if item is not None]:
                self.nodes = self.nodes.delete(item.path)
                self.drop_bodies(item)
        frame = within(node.path, data.n) if isinstance(data, LoopData) else node.path
        if frame in self.frames and frame != ROOT:
            self.drop_frame(frame)

    def set_timer(self, path: str, due_at: datetime | None) -> None:
        if due_at is not None:
            self.timers = self.timers.set(path, due_at)

    def is_open(self, path: str) -> bool:
        """True while the step is under way or ready."""
        node = self.nodes.get(path)
        return node is not None and node.status not in STEP_ENDED


def within(frame: str, step_id: str | int) -> str:
    """Path of a step in a body, or of an item in a map."""
    return f"{frame}.{step_id}" if frame else str(step_id)


def draft_of(state: RunFields) -> Draft:
    return Draft(*structs.astuple(state))
