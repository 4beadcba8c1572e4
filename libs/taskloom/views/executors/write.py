"""Heartbeats into the table of executors. The newest of an executor stays."""

from collections.abc import Mapping
from typing import Any, Final, LiteralString

import msgspec
from psycopg import Cursor

from taskloom.wire.messages import ExecutorHeartbeat

PUT: Final[LiteralString] = """
INSERT INTO executors AS executor (executor_id, heard_at, heartbeat)
SELECT * FROM unnest(%(ids)s::text[], %(heard)s::timestamptz[], %(heartbeats)s::json[])
ON CONFLICT (executor_id) DO UPDATE SET heard_at = excluded.heard_at, heartbeat = excluded.heartbeat
WHERE excluded.heard_at >= executor.heard_at
"""

DELETE: Final[LiteralString] = "DELETE FROM executors WHERE executor_id = ANY(%(ids)s)"


def put(cursor: Cursor[Any], latest: Mapping[str, ExecutorHeartbeat | None]) -> None:
    """Writes the latest heartbeat of each executor; None takes the executor away (a tombstone on the topic)."""
    beats = [latest[key] for key in sorted(latest)]
    heard = [beat for beat in beats if beat is not None]
    gone = [key for key, beat in latest.items() if beat is None]
    if heard:
        cursor.execute(
            PUT,
            {
                "ids": [beat.executor_id for beat in heard],
                "heard": [beat.at for beat in heard],
                "heartbeats": [msgspec.json.encode(beat).decode().replace("\\u0000", "\\ufffd") for beat in heard],
            },
        )
    if gone:
        cursor.execute(DELETE, {"ids": gone})
