"""Everything on one machine: embedded Apache Kafka and PostgreSQL, and the services as supervised processes."""
