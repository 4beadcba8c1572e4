"""How the agent's machine is: a few numbers for each heartbeat."""

import os

import psutil

from taskloom.wire.messages import HostMetrics


class Host:
    """``path``: the file system whose use is told."""

    def __init__(self, path: str = "/") -> None:
        self._path = path
        psutil.cpu_percent(None)

    def measure(self) -> HostMetrics:
        """As it is now; CPU since the call before. What the host does not tell stays zero."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(self._path)
        network = psutil.net_io_counters()
        return HostMetrics(
            cpu_percent=round(psutil.cpu_percent(None), 1),
            cpu_count=os.cpu_count() or 0,
            load_1m=round(psutil.getloadavg()[0], 2),
            memory_used_bytes=memory.total - memory.available,
            memory_total_bytes=memory.total,
            disk_used_bytes=disk.used,
            disk_total_bytes=disk.total,
            network_sent_bytes=network.bytes_sent if network else 0,
            network_received_bytes=network.bytes_recv if network else 0,
        )
