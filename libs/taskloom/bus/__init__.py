"""Kafka: publish in batches, consume in batches with offsets of our own, wait for replies, dead letters, topics."""
