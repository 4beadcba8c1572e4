"""Output that waits on disk for a link: a file without a name, written at its end and read from its beginning.

The file dies with the agent, whatever ends it, as the attempts do whose output is in it.
"""

import tempfile
from struct import Struct as Layout
from typing import IO, Final

import msgspec

from taskloom import telemetry
from taskloom.bus.publish import OutRecord

MAX_RECORDS: Final = 500_000
"""However small they are; what they are acknowledged to stays in memory."""

_LENGTH: Final = Layout("<I")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(OutRecord)
_kept = telemetry.gauge("agent_spilled_bytes", "Output that waits on disk for a link")


class Spill:
    """Implements ``outbox.Overflow``. Full at ``max_bytes`` of output that was not read back yet."""

    def __init__(self, directory: str, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._file: IO[bytes] | None = None
        self._read_at = self._end = 0
        self._records = 0

    def __len__(self) -> int:
        return self._records

    @property
    def is_full(self) -> bool:
        return self._end - self._read_at >= self._max_bytes or self._records >= MAX_RECORDS

    def push(self, record: OutRecord) -> None:
        """Takes a record, also above the bound: who writes asks first whether it is full."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._directory, prefix="taskloom-agent-")  # noqa: SIM115
        data = _encoder.encode(record)
        self._file.seek(self._end)
        self._file.write(_LENGTH.pack(len(data)))
        self._file.write(data)
        self._end += _LENGTH.size + len(data)
        self._records += 1
        _kept.set(self._end - self._read_at)

    def pop(self) -> OutRecord:
        """The oldest record. The file is emptied with its last one.

        Raises:
            IndexError: there is none.
        """
        if self._file is None or not self._records:
            raise IndexError("nothing is spilled")
        self._file.seek(self._read_at)
        [length] = _LENGTH.unpack(self._file.read(_LENGTH.size))
        record = _decoder.decode(self._file.read(length))
        self._read_at += _LENGTH.size + length
        self._records -= 1
        if not self._records:
            self.close()
        _kept.set(self._end - self._read_at)
        return record

    def close(self) -> None:
        """Throws away what is in it."""
        if self._file is not None:
            self._file.close()
        self._file, self._read_at, self._end, self._records = None, 0, 0, 0
