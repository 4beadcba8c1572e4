"""An executor as a process that asks a model: a server of this machine with OpenAI's API."""

import asyncio

import pytest

from taskloom.domain.task.commands import ReportCompleted, ReportFailed, ReportStopped
from taskloom.testing.eventually import eventually
from tests.component.executor.model_server import Answer, ModelServer
from tests.integration.executor.rig import Rig

pytestmark = pytest.mark.integration

KEY = "sk-a-key-that-nobody-may-see"


async def test_a_model_of_the_settings_answers_streams_fails_and_is_cancelled(new_rig: Rig) -> None:
    server = ModelServer()
    url = await server.start()
    # Two answers of one try each, then one that never begins.
    busy = Answer(status=429, headers={"retry-after": "3600"}, body="{}")
    hanging = Answer(hold=asyncio.Event())
    server.answers.extend([Answer(["It is ", "fine."]), busy, hanging])
    try:
        beat = await new_rig.start(model="compatible:local", model_base_url=url, model_key=KEY, model_first_s=600)
        assert "llm" in beat.schemas
        order = await new_rig.begin("llm", {"op": "reason", "goal": "How is it?"})
        done = await new_rig.end(order, 120)
        assert isinstance(done, ReportCompleted), done
        assert (done.result, done.response["model_used"]) == ("It is fine.", "local")
        assert (done.usage.input_tokens, done.usage.output_tokens, done.usage.provider) == (100, 20, "compatible")
        chunks = await new_rig.output(order, done.output.last_seq)
        assert "".join(chunk.text for chunk in chunks) == "It is fine."
        assert {chunk.stream for chunk in chunks} == {"message"}
        failed = await new_rig.run("query", {}, query="How is it?", timeout_s=120)
        assert isinstance(failed, ReportFailed), failed
        assert (failed.error.type, failed.error.retryable) == ("model_rate_limited", True)
        order = await new_rig.begin("llm", {"op": "answer", "message": "How is it?"})
        await eventually(lambda: len(server.requests) == 3, 120)
        await new_rig.cancel(order)
        assert isinstance(await new_rig.end(order, 120), ReportStopped)
        assert new_rig.stop() == 0
        assert KEY not in new_rig.log.read_text()
        assert KEY not in str(server.requests)
    finally:
        assert hanging.hold is not None
        hanging.hold.set()
        await server.stop()
