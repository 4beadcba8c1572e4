"""``make test``: tests of whole systems that share one, tests of systems of their own, tests of one service with its
broker or database, and those without any, beside each other, since the first three mostly wait.

All parts get the same further arguments. What the first prints is seen at once, the others' when they have ended. The
run fails when one of them fails, or when none found a test. Each starts what it needs once: the first a system, the
third a broker and a database.

Each part reads only the folders that can hold its tests; tests/conftest.py sees to it that no other one holds any, and
marks the tests that need no shared system with ``own``.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

LONG: Final = "not chaos and not bench and not soak"
NOTHING_FOUND: Final = 5
"""Exit code of pytest when no test matches."""


@dataclass(frozen=True)
class Part:
    """``marks`` of its tests, ``folders`` below tests/ that may hold them, ``options`` of pytest that are its own."""

    marks: str
    folders: tuple[str, ...]
    options: tuple[str, ...] = ("-p", "no:schemathesis")


SHARED: Final = Part(f"e2e and not own and {LONG}", ("integration/gateway", "e2e", "clients", "docs"))
OWN: Final = Part(f"e2e and own and {LONG}", SHARED.folders)
SERVICES: Final = Part(f"not e2e and {LONG}", ("integration",))
PURE: Final = Part(f"not e2e and {LONG}", ("clients", "docs", "contract", "component", "unit"), ())


def start(part: Part, arguments: list[str], output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    named = any(not argument.startswith("-") and Path(argument.partition("::")[0]).exists() for argument in arguments)
    where = [] if named else [f"tests/{folder}" for folder in part.folders]
    options = () if named else part.options
    command = [sys.executable, "-m", "pytest", "-m", part.marks, *options, *where, *arguments]
    environment = dict(os.environ)
    # Each of the many processes that tests start would compile all modules for itself.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)


def main(arguments: list[str]) -> int:
    began = time.monotonic()
    with ExitStack() as stack:
        outputs = [(part, stack.enter_context(tempfile.TemporaryFile())) for part in (OWN, SERVICES, PURE)]
        beside = [start(part, arguments, output) for part, output in outputs]
        parts = [start(SHARED, arguments), *beside]
        try:
            codes = [part.wait() for part in parts]
        except KeyboardInterrupt:
            codes = [part.wait() for part in parts]
        for _, output in outputs:
            output.seek(0)
            print("\n= a part that ran beside it =", flush=True)
            sys.stdout.buffer.write(output.read())
            sys.stdout.buffer.flush()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    took_s, cpu_s = time.monotonic() - began, used.ru_utime + used.ru_stime
    print(f"= all parts: {took_s:.0f} s, {cpu_s:.0f} s of processor time =", flush=True)
    failed = [code for code in codes if code not in (0, NOTHING_FOUND)]
    return failed[0] if failed else min(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
