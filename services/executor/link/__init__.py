"""An executor behind a link: a WebSocket to a gateway in the place of Kafka and PostgreSQL."""
