"""Kafka's jars: fetched once per user, checked against pinned SHA-256 sums, then used offline."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from taskloom.local.errors import JarsUnavailable

KAFKA_VERSION: Final = "4.1.1"
# kafka-clients is named although kafka_2.13 needs it anyway: left alone, the resolver may choose an older one.
COORDINATES: Final = "+".join((
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.1",
))  # fmt: skip
SUMS: Final = Path(__file__).with_name("kafka_jars.sha256")
TRIES: Final = 3
TRY_TIMEOUT_S: Final = 300
LOCK_TIMEOUT_S: Final = 600


def cache_dir(override: Path | None = None) -> Path:
    """The user's cache of Taskloom: ``override``, TASKLOOM_CACHE_DIR, $XDG_CACHE_HOME/taskloom or ~/.cache/taskloom."""
    if override is None and (named := os.environ.get("TASKLOOM_CACHE_DIR")):
        override = Path(named)
    base = override or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "taskloom"
    return base.expanduser().absolute()


def pinned_sums() -> dict[str, str]:
    """File name to SHA-256 of every jar that the broker runs with."""
    lines = (line.split() for line in SUMS.read_text().splitlines())
    return {name: digest for digest, name in lines}


def jars_dir(override: Path | None = None) -> Path:
    """Where the complete set of jars is, or will be; its name changes with the set."""
    return cache_dir(override) / f"kafka-{KAFKA_VERSION}-{hashlib.sha256(SUMS.read_bytes()).hexdigest()[:12]}"


def ensure_jars(override: Path | None = None) -> Path:
    """Directory with Kafka's jars; fetches them on first use (45 MB), needs no network afterwards.

    Raises:
        JarsUnavailable: no network, no space, or a jar that is not the pinned one; says which and what to do.
    """
    target = jars_dir(override)
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(target.parent / "kafka.lock"):
            if not target.is_dir():
                _fetch(target)
    except OSError as error:
        raise JarsUnavailable(
            f"cannot write Kafka's jars to {target.parent}: {error}; set TASKLOOM_CACHE_DIR to a directory of yours"
        ) from error
    return target


def _fetch(target: Path) -> None:
    # In the cache itself: the last step is a rename. What an interrupted download got is used by the next try.
    work = target.parent / "kafka-download"
    _resolve(work)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="kafka-new-") as name:
        new = Path(name) / "jars"
        new.mkdir()
        for jar in work.glob("cache/envs/**/*.jar"):
            shutil.copyfile(jar, new / jar.name)
        _check(new, work)
        new.rename(target)
    shutil.rmtree(work, ignore_errors=True)


def _resolve(work: Path) -> None:
    command = [
        *(sys.executable, "-m", "jgo", "--ignore-config", "--quiet", "--timeout", "60"),
        *("--resolver", "python", "--system-java", "--class-path-only", "--links", "copy"),
        *("--repo-cache", str(work / "m2"), "--cache-dir", str(work / "cache")),
        *("info", "jars", COORDINATES),
    ]
    said = ""
    for _ in range(TRIES):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TRY_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            said = f"no end within {TRY_TIMEOUT_S} s"
            continue
        if done.returncode == 0:
            return
        said = (done.stderr or done.stdout).strip()[-1500:]
    raise JarsUnavailable(
        f"cannot fetch Kafka {KAFKA_VERSION} ({COORDINATES}) from the Maven repository: {said}\n"
        "Check the network and proxy (HTTPS_PROXY) and run it again, copy the cache directory (TASKLOOM_CACHE_DIR) "
        "from a machine that has it, or use a running Kafka: TASKLOOM_KAFKA_BOOTSTRAP=host:port"
    )  # fmt: skip


def _check(directory: Path, work: Path) -> None:
    pinned = pinned_sums()
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in directory.iterdir()}
    wrong = sorted(name for name in pinned.keys() | found.keys() if pinned.get(name) != found.get(name))
    if wrong:
        shutil.rmtree(work, ignore_errors=True)  # so that the next try does not find the same bytes
        raise JarsUnavailable(
            f"the fetched jars are not the pinned ones ({SUMS.name}): {', '.join(wrong)}; "
            "run it again, and if it stays, do not trust the network"
        )


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    with lock.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise JarsUnavailable(
                        f"another process has been fetching Kafka's jars for {LOCK_TIMEOUT_S} s ({lock})"
                    ) from None
                time.sleep(0.2)
        yield


def main() -> int:
    try:
        if not jars_dir().is_dir():
            print(f"Fetching Apache Kafka {KAFKA_VERSION} (45 MB, once per user)", flush=True)
        ensure_jars()
    except JarsUnavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
