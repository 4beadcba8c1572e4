"""Log files of the children, bounded in size, with their warnings kept longest."""

import re
import shutil
from pathlib import Path
from typing import Final

OLD_FILES: Final = 2
TROUBLE: Final = re.compile(
    rb"\b(WARN|WARNING|ERROR|FATAL|PANIC|CRITICAL|Traceback)\b|\"level\": ?\"(warning|error|critical)\""
)


def rotate(log: Path, limit_bytes: int) -> bool:
    """Empties ``log`` when it is over ``limit_bytes`` and keeps its text as ``<name>.log.1`` (then ``.2``, then gone).

    Lines of warnings and errors go to ``<name>.warnings.log`` as well, which is bounded in the same way. The file stays
    the same file, since a child writes to it; what it writes between copy and emptying is lost, a few lines at most.
    Returns whether it was rotated.
    """
    try:
        if log.stat().st_size <= limit_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(OLD_FILES, 1, -1):
        if (older := Path(f"{log}.{number - 1}")).exists():
            older.replace(f"{log}.{number}")
    copy = Path(f"{log}.1")
    shutil.copyfile(log, copy)
    with log.open("r+b") as file:
        file.truncate(0)
    _keep_trouble(copy, log.with_suffix(".warnings.log"), limit_bytes)
    return True


def _keep_trouble(source: Path, target: Path, limit_bytes: int) -> None:
    if target.exists() and target.stat().st_size > limit_bytes:
        target.replace(f"{target}.1")
    with source.open("rb") as lines, target.open("ab") as kept:
        kept.writelines(line for line in lines if TROUBLE.search(line))
