"""What the orchestrator counts."""

from taskloom import telemetry

commands = telemetry.counter("commands", "Commands decided", ["type", "outcome"])
rejected = telemetry.counter("commands_rejected", "Command records that became dead letters")
events = telemetry.counter("events", "Events stored")
batch_events = telemetry.histogram(
    "batch_events", "Events in one transaction", buckets=(1, 5, 20, 50, 100, 200, 500, 1000, 2000, 5000)
)
round_seconds = telemetry.histogram("round_seconds", "Time of one round of the command loop")
open_tasks = telemetry.gauge("open_tasks", "Open tasks of the owned partitions")
ready_tasks = telemetry.gauge("ready_tasks", "Tasks that wait for a slot")
owned_partitions = telemetry.gauge("owned_partitions", "Partitions of the commands topic that are ours")
commands_behind = telemetry.gauge("commands_behind", "Commands that wait in Kafka for this orchestrator")
