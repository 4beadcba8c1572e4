from pathlib import Path

import pytest

from tests.clients.node import Node, ScriptFailed


async def test_a_typescript_file_runs_as_it_is_and_finds_the_locked_packages(node: Node, tmp_path: Path) -> None:
    script = tmp_path / "versions.ts"
    script.write_text(
        "import { EventSource } from 'eventsource'\n"
        "import WebSocket from 'ws'\n"
        "const greeting: string = process.argv[2]\n"
        "console.log(greeting, typeof EventSource, typeof WebSocket, process.env.GIVEN)\n"
    )
    said = await node.run(script, "hello", environment={"GIVEN": "yes"})
    assert said == "hello function function yes\n"


async def test_a_script_that_fails_says_why_and_one_that_does_not_end_is_ended(node: Node, tmp_path: Path) -> None:
    bad = tmp_path / "bad.js"
    bad.write_text("console.error('the reason'); process.exit(3)")
    with pytest.raises(ScriptFailed, match=r"(?s)bad\.js ended with 3: .*the reason"):
        await node.run(bad)
    endless = tmp_path / "endless.js"
    endless.write_text("setInterval(() => {}, 1000)")
    with pytest.raises(ScriptFailed, match="not ended within"):
        await node.run(endless, timeout_s=0.5)
