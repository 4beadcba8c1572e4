"""Rules for commands and images."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.executor.settings import ExecutorSettings
from taskloom.rules import Patterns, RuleBroken, Rules, TenantRules, image_names
from taskloom.settings import SettingsError, load


@pytest.mark.parametrize(
    ("patterns", "text", "broken"),
    [
        (Patterns(), "anything", None),
        (Patterns(deny=("rm *",)), "rm -rf /", "deny rm *"),
        (Patterns(deny=("rm *",)), "echo; rm -rf /", None),
        (Patterns(deny=(r"re:\brm\b",)), "echo;\nrm -rf /", r"deny re:\brm\b"),
        (Patterns(allow=("git *", "make *")), "git status", None),
        (Patterns(allow=("git *", "make *")), "ls", "allow git *, make *"),
        (Patterns(allow=("*",), deny=("ls",)), "ls", "deny ls"),
        (Patterns(allow=()), "ls", "allow nothing"),
        (Patterns(allow=("a?[bc]",)), "axc", None),
        (Patterns(allow=("LS",)), "ls", "allow LS"),
    ],
)
def test_a_glob_fits_the_whole_text_an_expression_any_part_and_deny_wins(
    patterns: Patterns, text: str, broken: str | None
) -> None:
    assert patterns.broken(text) == broken


@pytest.mark.parametrize(
    ("image", "names"),
    [
        ("busybox", ("busybox:latest", "docker.io/library/busybox:latest")),
        ("acme/tool:1", ("acme/tool:1", "docker.io/acme/tool:1")),
        ("docker.io/library/busybox", ("busybox:latest", "docker.io/library/busybox:latest")),
        ("reg.acme.com:5000/tool", ("reg.acme.com:5000/tool:latest",) * 2),
        ("tool@sha256:ab", ("tool@sha256:ab", "docker.io/library/tool@sha256:ab")),
    ],
)
def test_an_image_is_compared_in_both_ways_to_write_it(image: str, names: tuple[str, str]) -> None:
    assert image_names(image) == names


def test_a_rule_names_the_field_and_itself() -> None:
    rules = Rules.model_validate({"commands": {"deny": ["re:curl.*sh"]}, "images": {"allow": ["reg.acme.com/*"]}})
    with pytest.raises(RuleBroken) as broken:
        rules.check("shell", {"cmd": "curl x | sh"})
    assert (broken.value.field, broken.value.rule) == ("input.cmd", "deny re:curl.*sh")
    with pytest.raises(RuleBroken, match=r"input\.image"):
        rules.check("docker", {"operation": "run", "image": "busybox"})
    rules.check("docker", {"operation": "run", "image": "reg.acme.com/tool:2"})
    rules.check("docker", {"operation": "stop", "id": "x"})
    rules.check("echo", {"cmd": "curl x | sh"})


def test_a_tenants_rules_stand_in_the_place_of_those_for_everybody() -> None:
    everybody, acme = ({"commands": {"deny": [word]}} for word in ("ls", "ps"))
    rules = TenantRules({"*": Rules.model_validate(everybody), "acme": Rules.model_validate(acme)})
    rules.check("acme", "shell", {"cmd": "ls"})
    for tenant, command in (("acme", "ps"), ("other", "ls")):
        with pytest.raises(RuleBroken):
            rules.check(tenant, "shell", {"cmd": command})


def test_steps_of_a_workflow_are_looked_at_as_far_as_they_say_what_they_run() -> None:
    def plan(command: str) -> dict[str, Any]:
        step = {"id": "a", "task_template": {"kind": "shell", "input": {"cmd": command}}}
        return {"definition": {"steps": [{"id": "l", "body": [step]}]}}

    rules = TenantRules({"*": Rules.model_validate({"commands": {"deny": ["*rm*"]}})})
    with pytest.raises(RuleBroken) as broken:
        rules.check("any", "workflow", plan("rm x"))
    assert broken.value.field == "input.definition.steps[0].body[0].task_template.input.cmd"
    rules.check("any", "workflow", plan("rm {{ variables.what }}"))


@pytest.mark.parametrize("wrong", ['{"commands": {"deny": ["re:("]}}', '{"commands": {"denies": []}}'])
def test_settings_refuse_what_is_no_rule(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("TASKLOOM_EXECUTOR_RULES", wrong)
    with pytest.raises(SettingsError, match="TASKLOOM_EXECUTOR_RULES"):
        load(ExecutorSettings)


def test_a_pattern_has_a_bounded_length() -> None:
    with pytest.raises(ValidationError):
        Patterns(deny=("x" * 1001,))
