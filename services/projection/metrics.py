"""What the projection counts."""

from typing import Final

from taskloom import telemetry

APPLIED: Final = telemetry.counter("projection_events_applied", "Events folded into rows")
CHUNKS: Final = telemetry.counter("projection_chunks_stored", "Output chunks stored")
DUPLICATES: Final = telemetry.counter("projection_duplicates_dropped", "Records applied before, dropped", ["what"])
GAPS: Final = telemetry.counter("projection_gaps_filled", "Times that missing events were read from the store")
POISON: Final = telemetry.counter("projection_dead_letters", "Records that could not be applied")
FENCED: Final = telemetry.counter("projection_fenced", "Batches dropped because another owner was there first")
RETRIES: Final = telemetry.counter("projection_retries", "Batches tried again after a lost connection")
BATCH: Final = telemetry.histogram("projection_batch_seconds", "From poll to commit of a batch")
LAG: Final = telemetry.gauge(
    "projection_lag_seconds", "Now minus the time of the last applied event, 0 when none waits"
)
BEHIND: Final = telemetry.gauge("projection_records_behind", "Records that wait in Kafka")
CACHED: Final = telemetry.gauge("projection_cached_rows", "Rows of open tasks in memory")
RETIRED: Final = telemetry.counter("projection_retired_rows", "Rows that retention took out", ["what"])
