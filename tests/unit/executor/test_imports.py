"""What takes seconds to import is imported when it is needed."""

import subprocess
import sys

HEAVY = ("mcp", "pydantic_ai")


def test_neither_services_nor_the_command_line_import_what_few_need() -> None:
    code = (
        "import sys, services.executor.app, services.executor.kinds, services.executor.link.app, services.gateway.app, "
        f"services.orchestrator.app, taskloom.cli.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
