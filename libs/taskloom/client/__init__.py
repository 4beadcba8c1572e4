"""A small typed client of the HTTP API, for programs that wait (``Client``) and for coroutines (``AsyncClient``)."""

from taskloom.client import calls
from taskloom.client.answers import (
    Batch,
    BatchEntry,
    BulkResult,
    Controlled,
    Event,
    Execution,
    Executor,
    Gate,
    Line,
    Output,
    OutputChunk,
    Queue,
    Run,
    RunStep,
    RunSteps,
    Submitted,
    Task,
    TaskPage,
    TaskSummary,
    Why,
)
from taskloom.client.asynchronous import AsyncClient
from taskloom.client.blocking import Client
from taskloom.client.errors import (
    Busy,
    ClientError,
    Conflict,
    Invalid,
    NotEnded,
    NotFound,
    Refused,
    ServerFault,
    Unreachable,
)
from taskloom.client.follow import Followed
from taskloom.client.frames import StreamItem
from taskloom.client.submission import Submission
from taskloom.client.webhook_calls import Webhook, WebhookDelivery

__all__ = [
    "AsyncClient",
    "Batch",
    "BatchEntry",
    "BulkResult",
    "Busy",
    "Client",
    "ClientError",
    "Conflict",
    "Controlled",
    "Event",
    "Execution",
    "Executor",
    "Followed",
    "Gate",
    "Invalid",
    "Line",
    "NotEnded",
    "NotFound",
    "Output",
    "OutputChunk",
    "Queue",
    "Refused",
    "Run",
    "RunStep",
    "RunSteps",
    "ServerFault",
    "StreamItem",
    "Submission",
    "Submitted",
    "Task",
    "TaskPage",
    "TaskSummary",
    "Unreachable",
    "Webhook",
    "WebhookDelivery",
    "Why",
    "calls",
]
