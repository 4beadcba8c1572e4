"""The tables of docs/architecture.md say what the code does."""

import re
from pathlib import Path
from typing import Final

from taskloom.bus.admin import DAY_MS, TOPICS
from taskloom.wire.topics import Topics

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "docs" / "architecture.md").read_text()


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Cells of each row of the tables in ``text``, heads left out."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def in_words(retention_ms: int) -> str:
    if retention_ms < DAY_MS:
        return f"{retention_ms // 3_600_000} hour"
    return f"{retention_ms // DAY_MS} day" + ("s" if retention_ms > DAY_MS else "")


def test_topics_and_how_long_they_are_kept() -> None:
    topics = Topics("")
    made = {
        getattr(topics, kind).removeprefix("."): in_words(int(configs["retention.ms"]))
        for kind, configs in TOPICS.items()
    }

    told = {row[0].strip("`"): row[-1].removeprefix("compacted, ") for row in rows(section("Topics"))}

    assert told == made


def test_tables_that_migrations_make() -> None:
    store = ROOT / "libs" / "taskloom" / "store"
    sources = [*(store / "migrations").glob("*.sql"), store / "migrate.py"]
    made = {
        name.replace("{shard}", "0")
        for path in sources
        for name in re.findall(
            r"CREATE (?:UNLOGGED )?TABLE(?: IF NOT EXISTS)? ([a-z_]+(?:\{shard\})?)", path.read_text()
        )
    }

    told = {re.findall(r"`(\w+)`", row[0])[0] for row in rows(section("Tables"))}

    assert told == made


def test_every_invariant_is_told() -> None:
    assert re.findall(r"^\| (I\d+) \|", section("Guarantees"), re.MULTILINE) == [f"I{n}" for n in range(1, 11)]
