"""Links of agents: WebSockets over which they are executors, and what passes between those and Kafka."""
