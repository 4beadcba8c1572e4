"""``make test``: the tests of whole systems, those of one service with its broker or database, and those without any,
beside each other, since the first two mostly wait.

All three parts get the same further arguments. What the first prints is seen at once, the others' when they have ended.
The run fails when one of them fails, or when none found a test. Each starts what it needs once: the systems' tests a
system, those of one service a broker and a database.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Final

LONG: Final = "not chaos and not bench and not soak"
SYSTEMS: Final = f"e2e and {LONG}"
SERVICES: Final = f"integration and not e2e and {LONG}"
PURE: Final = f"not integration and not e2e and {LONG}"
FOLDERS: Final = ("integration", "e2e", "chaos", "clients", "docs", "contract", "component", "unit")

NOTHING_FOUND: Final = 5
"""Exit code of pytest when no test matches."""


def start(marks: str, arguments: list[str], output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    named = any(not argument.startswith("-") and Path(argument.partition("::")[0]).exists() for argument in arguments)
    where = [] if named else [f"tests/{folder}" for folder in FOLDERS]
    command = [sys.executable, "-m", "pytest", "-m", marks, *where, *arguments]
    return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def main(arguments: list[str]) -> int:
    began = time.monotonic()
    with tempfile.TemporaryFile() as of_services, tempfile.TemporaryFile() as of_pure:
        beside = [start(SERVICES, arguments, of_services), start(PURE, arguments, of_pure)]
        parts = [start(SYSTEMS, arguments), *beside]
        try:
            codes = [part.wait() for part in parts]
        except KeyboardInterrupt:
            codes = [part.wait() for part in parts]
        for output in (of_services, of_pure):
            output.seek(0)
            print("\n= a part that ran beside it =", flush=True)
            sys.stdout.buffer.write(output.read())
            sys.stdout.buffer.flush()
    print(f"= all parts: {time.monotonic() - began:.0f} s =", flush=True)
    failed = [code for code in codes if code not in (0, NOTHING_FOUND)]
    return failed[0] if failed else min(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
