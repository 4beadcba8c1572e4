"""What can go wrong on the way to and from Kafka."""

from taskloom.errors import TaskloomError


class BusError(TaskloomError):
    """Something between us and Kafka went wrong."""


class BusUnavailable(BusError):
    """Kafka did not answer in time. What was sent may or may not be stored: send it again, readers drop doubles."""


class TooLarge(BusError):
    """A record is larger than the topic takes."""


class TopicMismatch(BusError):
    """A topic exists with another number of partitions than configured."""


class TooManyWaiters(BusError):
    """As many callers wait for a reply as this process takes."""


class ReplyTimeout(BusError):
    """No reply came in time; the command may still be carried out."""
