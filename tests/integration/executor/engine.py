"""A Docker Engine of the tests' own, with one image made of busybox; it needs root and Debian's docker.io."""

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

IMAGE = "taskloom-test:busybox"
START_S = 40.0
APPLETS = (
    "cat",
    "echo",
    "env",
    "grep",
    "head",
    "id",
    "ln",
    "ls",
    "mkdir",
    "nproc",
    "printf",
    "seq",
    "sh",
    "sleep",
    "touch",
    "tail",
    "tr",
    "wc",
    "yes",
)


class Engine:
    """``host`` is what DOCKER_HOST would be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def why_not(self) -> str:
        """Why no engine can be started here; empty when one can."""
        if os.geteuid() != 0:
            return "a Docker Engine of one's own needs root"
        missing = [name for name in ("dockerd", "busybox") if shutil.which(name) is None]
        packages = "apt-get install docker.io busybox-static"
        return f"no {' and no '.join(missing)} on this machine ({packages})" if missing else ""

    def start(self) -> str:
        """Starts it; why it did not, or nothing."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    *("--storage-driver=vfs", "--iptables=false", "--bridge=none"),
                    *("--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/run"),
                    *("--pidfile", f"{self.folder}/pid", "--host", self.host),
                ],
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process.poll() is None:
            if self.ask("version", check=False).returncode == 0:
                return ""
            time.sleep(0.1)
        tail = (self.folder / "log").read_text(errors="replace")[-600:]
        self.stop()
        return f"dockerd does not start here: {tail}"

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def ask(self, *words: str, check: bool = True, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(["docker", "--host", self.host, *words], input=given, capture_output=True, check=check)

    def import_image(self) -> None:
        tree = self.folder / "tree"
        (tree / "bin").mkdir(parents=True)
        (tree / "tmp").mkdir()
        (tree / "tmp").chmod(0o1777)
        shutil.copy(shutil.which("busybox") or "", tree / "bin/busybox")
        for name in APPLETS:
            (tree / "bin" / name).symlink_to("busybox")
        with tarfile.open(self.folder / "image.tar", "w") as archive:
            archive.add(tree, "")
        self.ask("import", f"{self.folder}/image.tar", IMAGE)

    def containers(self, *filters: str) -> list[dict[str, Any]]:
        """All, stopped ones too."""
        wanted = [word for each in filters for word in ("--filter", each)]
        listed = self.ask("ps", "--all", "--no-trunc", "--format", "{{json .}}", *wanted).stdout
        return [json.loads(line) for line in listed.splitlines()]


@contextmanager
def engine() -> Iterator[Engine | str]:
    """A running engine with the image, or why there is none."""
    own = Engine(Path(mkdtemp(prefix="taskloom-docker-")))  # short: a socket's path has 107 bytes
    reason = own.why_not() or own.start()
    try:
        if reason:
            yield reason
        else:
            own.import_image()
            yield own
    finally:
        own.stop()
        shutil.rmtree(own.folder, ignore_errors=True)
