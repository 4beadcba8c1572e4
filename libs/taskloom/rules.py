"""What commands and images may be: rules that an operator sets for tenants and for executors.

A pattern is compared with the whole text, ``*`` for any characters, ``?`` for one, ``[ab]`` for one of these; or it is
``re:`` and a regular expression that is searched for anywhere in the text. What a pattern of ``deny`` fits is refused;
where there is an ``allow``, so is what none of it fits. Commands are ``input.cmd`` of ``shell``. Images are compared
both as ``busybox:latest`` and as ``docker.io/library/busybox:latest``.

A rule for commands is a guard against mistakes, not a wall: a shell has too many ways to say one thing.
"""

import re
from collections.abc import Iterator, Mapping
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from taskloom.domain.workflow.kinds import templates_in
from taskloom.errors import TaskloomError
from taskloom.settings import ServiceSettings

ALL: Final = "*"
REGEX: Final = "re:"
MAX_PATTERNS: Final = 1_000
MAX_PATTERN_CHARS: Final = 1_000


class RuleBroken(TaskloomError):
    """A rule forbids it. ``rule`` names the rule, ``field`` the path of what broke it."""

    def __init__(self, message: str, *, field: str, rule: str) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.rule = rule


class Patterns(BaseModel):
    """Without ``allow`` everything is allowed that ``deny`` does not name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow: tuple[str, ...] | None = Field(None, max_length=MAX_PATTERNS)
    deny: tuple[str, ...] = Field((), max_length=MAX_PATTERNS)

    @field_validator("allow", "deny")
    @classmethod
    def _patterns_are_patterns(cls, patterns: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for pattern in patterns or ():
            if not pattern or len(pattern) > MAX_PATTERN_CHARS:
                raise ValueError(f"a pattern has 1 to {MAX_PATTERN_CHARS} characters")
            try:
                _compiled(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return patterns

    def broken(self, *texts: str) -> str | None:
        """The rule that the text breaks, in words; it counts as fitting when one of its forms does."""
        for pattern in self.deny:
            if any(_fits(pattern, text) for text in texts):
                return f"deny {pattern}"
        if self.allow is not None and not any(_fits(pattern, text) for pattern in self.allow for text in texts):
            return f"allow {', '.join(self.allow) or 'nothing'}"
        return None


class Rules(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    commands: Patterns = Patterns()
    images: Patterns = Patterns()

    def check(self, kind: str, given: Mapping[str, Any], root: str = "input") -> None:
        """
        Raises:
            RuleBroken: the command or image of this input is refused.
        """
        if kind == "shell" and isinstance(given.get("cmd"), str):
            _judge(self.commands, "command", f"{root}.cmd", given["cmd"])
        elif kind == "docker" and isinstance(given.get("image"), str):
            _judge(self.images, "image", f"{root}.image", *image_names(given["image"]))


class TenantRules:
    """By tenant, ``*`` for those not named."""

    def __init__(self, rules: Mapping[str, Rules] | None = None) -> None:
        self._rules = dict(rules or {})

    def check(self, tenant_id: str, kind: str, given: Mapping[str, Any]) -> None:
        """Looks into a workflow's steps too, as far as their templates say outright what they run.

        Raises:
            RuleBroken: names the field and the rule.
        """
        rules = self._rules.get(tenant_id) or self._rules.get(ALL)
        if rules is None:
            return
        for field, inner_kind, inner in _work(kind, given):
            rules.check(inner_kind, inner, field)


class RuleSettings(ServiceSettings):
    """Settings of services that know rules: gateways and orchestrators refuse by them, executors look once more."""

    rules: dict[str, Rules] = Field(
        {},
        description=(
            "What commands and images tenants may run, as JSON, * for tenants not named: "
            '{"acme": {"commands": {"deny": ["re:\\\\brm\\\\b"]}, "images": {"allow": ["registry.acme.com/*"]}}}. '
            "A pattern is a glob over the whole text, or re: and a regular expression. "
            "The same for gateways, orchestrators and executors"
        ),
    )


def image_names(image: str) -> tuple[str, str]:
    """A reference as people write it and as it is in full, both with their tag: ``busybox:latest`` and
    ``docker.io/library/busybox:latest``."""
    named = image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"
    first, slash, _ = named.partition("/")
    has_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    full = named if has_host else f"docker.io/{named if slash else f'library/{named}'}"
    short = full.removeprefix("docker.io/").removeprefix("library/") if full.startswith("docker.io/") else full
    return short, full


def _work(kind: str, given: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    if kind != "workflow":
        yield "input", kind, given
        return
    for path, template in templates_in(given.get("definition")):
        inner = template.get("input")
        if isinstance(inner, dict):
            yield f"{path}.input", str(template.get("kind")), {k: v for k, v in inner.items() if not _is_open(v)}


def _is_open(value: Any) -> bool:
    """An expression, whose value is known when the step runs: the executor looks at it then."""
    return isinstance(value, str) and "{{" in value


def _judge(patterns: Patterns, what: str, field: str, *texts: str) -> None:
    rule = patterns.broken(*texts)
    if rule is not None:
        raise RuleBroken(f"{field}: this {what} is not allowed here (rule: {rule})", field=field, rule=rule)


def _fits(pattern: str, text: str) -> bool:
    compiled = _compiled(pattern)
    return bool(compiled.search(text) if pattern.startswith(REGEX) else compiled.match(text))


@lru_cache(maxsize=10_000)
def _compiled(pattern: str) -> re.Pattern[str]:
    if pattern.startswith(REGEX):
        return re.compile(pattern.removeprefix(REGEX), re.DOTALL)
    return re.compile(translate(pattern))
