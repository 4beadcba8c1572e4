"""``make test``: the tests of whole systems, and beside them all others; on two cores that halves the waiting.

Both halves get the same further arguments. The second half's output is shown when it has ended. The run fails when one
of them fails, or when neither found a test. Each starts what it needs once: the systems' tests a system, the others a
broker and a database.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Final

LONG: Final = "not chaos and not bench and not soak"
SYSTEMS: Final = f"e2e and {LONG}"
OTHERS: Final = f"not e2e and {LONG}"
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
    with tempfile.TemporaryFile() as output:
        others = start(OTHERS, arguments, output)
        systems = start(SYSTEMS, arguments)
        try:
            codes = [systems.wait(), others.wait()]
        except KeyboardInterrupt:
            codes = [systems.wait(), others.wait()]
        output.seek(0)
        print("\n= the other tests, run beside them =", flush=True)
        sys.stdout.buffer.write(output.read())
    print(f"= both halves: {time.monotonic() - began:.0f} s =", flush=True)
    failed = [code for code in codes if code not in (0, NOTHING_FOUND)]
    return failed[0] if failed else min(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
