"""What the orchestrator counts."""

from taskloom import telemetry
from taskloom.domain.scheduling.survey import Survey

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
waiting_tasks = telemetry.gauge("waiting_tasks", "Ready tasks by the gate that holds them, one gate each", ["gate"])
keys_held = telemetry.gauge("concurrency_keys_held", "Concurrency keys that live attempts hold a place of")
queue_parallel = telemetry.gauge("queue_parallel_used", "Live attempts of a queue that is limited", ["queue"])
rate_tokens = telemetry.gauge("rate_tokens", "Starts that a rate limit allows now", ["of", "name"])
breakers_open = telemetry.gauge("breakers_open", "Kinds that rest on an executor, by executor and kind counted")
quarantined = telemetry.gauge("executors_quarantined", "Executors that get no work since they lost attempts")
homes = telemetry.gauge("affinity_homes", "Workflows, sessions and keys whose last executor is remembered")
leases = telemetry.counter("leases", "Places of limits asked for", ["outcome"])
recalled = telemetry.counter("recalled_attempts", "Attempts called back from an executor's reserve")


def show(survey: Survey) -> None:
    """Sets the gauges of the scheduler."""
    for gate, number in survey.waiting.items():
        waiting_tasks.labels(gate).set(number)
    keys_held.set(survey.keys_held)
    for queue, number in survey.parallel.items():
        queue_parallel.labels(queue).set(number)
    for (what, name), tokens in survey.tokens.items():
        rate_tokens.labels(what, name).set(round(tokens, 3))
    breakers_open.set(survey.breakers_open)
    quarantined.set(survey.quarantined)
    homes.set(survey.homes)
