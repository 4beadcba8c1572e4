"""A tenant's webhooks: one aggregate, bounded, whose secrets never come back."""

import pytest

from taskloom.domain.entities.asked import Asked
from taskloom.domain.entities.commands import RemoveWebhook, SaveWebhook, WebhookCommand
from taskloom.domain.entities.webhooks import ENTITY, MAX_WEBHOOKS, Webhooks, decide, evolve
from taskloom.domain.refusals import Refusal
from taskloom.testing.clock import START

URL = "https://example.com/hook"


def after(*commands: WebhookCommand, state: Webhooks | None = None) -> Webhooks:
    for command in commands:
        decision = decide(state, command, Asked(ENTITY, "t", START))
        assert not isinstance(decision, Refusal), decision
        for event in decision:
            state = evolve(state, event, None)  # type: ignore[arg-type]
    return state or Webhooks()


def refused(command: WebhookCommand, state: Webhooks | None = None) -> Refusal:
    decision = decide(state, command, Asked(ENTITY, "t", START))
    assert isinstance(decision, Refusal)
    return decision


def test_saved_changed_rotated_and_removed() -> None:
    state = after(SaveWebhook("a", URL), SaveWebhook("b", URL, ("task.failed",)))
    assert [each.name for each in state.items] == ["a", "b"]
    state = after(SaveWebhook("a", URL, enabled=False, new=False, rotate=True), state=state)
    assert [(each.name, each.enabled, each.serial) for each in state.items] == [("a", False, 2), ("b", True, 1)]
    assert [each.name for each in after(RemoveWebhook("a"), state=state).items] == ["b"]


def test_a_name_that_was_removed_comes_back_with_another_secret() -> None:
    state = after(SaveWebhook("a", URL), RemoveWebhook("a"), SaveWebhook("a", URL))
    assert [each.serial for each in state.items] == [2]


def test_the_same_again_changes_nothing() -> None:
    state = after(SaveWebhook("a", URL))
    assert decide(state, SaveWebhook("a", URL, new=False), Asked(ENTITY, "t", START)) == []


@pytest.mark.parametrize(
    ("command", "code", "field"),
    [
        (SaveWebhook("a", "http://example.com"), "invalid", "url"),
        (SaveWebhook("a", URL, ("task.born",)), "invalid", "events[0]"),
        (SaveWebhook("callback", URL), "invalid", "webhook_id"),
        (SaveWebhook("there", URL), "conflict", "webhook_id"),
        (SaveWebhook("none", URL, new=False), "not_found", ""),
        (RemoveWebhook("none"), "not_found", ""),
    ],
)
def test_what_is_refused(command: WebhookCommand, code: str, field: str) -> None:
    found = refused(command, after(SaveWebhook("there", URL)))
    assert (found.code, found.field) == (code, field)


def test_a_tenant_has_so_many_and_no_more() -> None:
    state = after(*(SaveWebhook(f"w{number}", URL) for number in range(MAX_WEBHOOKS)))
    assert refused(SaveWebhook("one-more", URL), state).code == "conflict"
