"""Users and their logins: a refresh token is good once, and who is disabled is out."""

from datetime import timedelta
from typing import Any

from taskloom.domain.entities.commands import (
    AcceptInvitation,
    ChangeUser,
    EndLogin,
    EntityCommand,
    Invite,
    RefreshLogin,
    SignIn,
    WithdrawInvitation,
)
from taskloom.domain.entities.entity import Entity, decide, evolve
from taskloom.domain.entities.ids import entity_id
from taskloom.domain.entities.invitations import Invitation
from taskloom.domain.entities.users import MAX_LOGINS, User
from taskloom.domain.envelope import EventMeta
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.caller import Caller
from taskloom.logins import (
    identity_of,
    new_invitation,
    new_refresh,
    next_refresh,
    read_invitation,
    read_refresh,
)
from taskloom.testing.clock import START
from taskloom.wire.recorded import GENESIS, seal

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
DAY = 86_400.0


class Stream:
    """An entity's stream."""

    def __init__(self, kind: str = "user") -> None:
        self.id = entity_id(kind, "acme", "one")
        self.state: Entity | None = None
        self.sent = 0

    def when(self, command: EntityCommand, after_s: float = 0.0) -> Refusal | list[str]:
        """The refusal, or the events' names."""
        now = START + timedelta(seconds=after_s)
        self.sent += 1
        decision = decide(self.state, command, now, Caller(self.id, "acme", f"c-{self.sent}", "root"))
        if isinstance(decision, Refusal):
            return decision
        for event in decision:
            version = 1 if self.state is None else self.state.version + 1
            meta = EventMeta(self.id, version, now, "acme", "", "root")
            self.state = evolve(self.state, seal(event, meta, GENESIS if self.state is None else self.state.digest))
        return [type(event).__name__ for event in decision]

    @property
    def user(self) -> User:
        assert self.state is not None
        assert isinstance(self.state.value, User)
        return self.state.value


def sign_in(login: str = "l1", days: float = 30, **fields: Any) -> SignIn:
    expiry = START + timedelta(days=days)
    return SignIn(**{
        "identity": A, "provider": "google", "login_id": login, "family_hash": B, "token_hash": C,
        "expires_at": expiry, "email": "zoe@example.org", "name": "Zoe", **fields,
    })  # fmt: skip


def refresh(shown: str, following: str, login: str = "l1", family: str = B, days: float = 30) -> RefreshLogin:
    return RefreshLogin(login, family, shown, following, START + timedelta(days=days))


def code_of(refusal: Refusal | list[str]) -> str:
    assert isinstance(refusal, Refusal), refusal
    return refusal.code


def test_the_first_sign_in_makes_the_user_and_later_ones_follow_what_the_provider_says() -> None:
    given = Stream()
    assert given.when(sign_in(role="admin")) == ["UserRegistered", "LoginBegun"]
    assert given.when(sign_in("l2", role="user")) == ["LoginBegun"]
    assert given.when(sign_in("l3", name="Zoe B.")) == ["UserDescribed", "LoginBegun"]
    user = given.user
    assert (user.role, user.name, user.email, user.sign_ins) == ("admin", "Zoe B.", "zoe@example.org", 3)
    assert (user.lookup, user.removed, user.last_sign_in_at) == (A, False, START)
    assert user.facts()["logins"] == {"l1": [1, C], "l2": [2, C], "l3": [3, C]}
    assert code_of(given.when(sign_in("l4", identity=D))) == "conflict"
    assert code_of(given.when(sign_in("l3"))) == "conflict"


def test_a_refresh_token_is_good_once_and_a_second_time_ends_its_login() -> None:
    given = Stream()
    given.when(sign_in())
    given.when(sign_in("l2"))
    assert given.when(refresh(C, D)) == ["LoginRefreshed"]
    assert given.user.facts()["logins"]["l1"] == [1, D]
    assert given.when(refresh(C, "e" * 64)) == ["LoginEnded"]
    assert [login.login_id for login in given.user.logins] == ["l2"], "the other login goes on"
    assert code_of(given.when(refresh(D, "f" * 64))) == "not_found", "nor does the one that replaced it work"


def test_who_does_not_know_a_logins_family_ends_nothing() -> None:
    given = Stream()
    assert code_of(given.when(refresh(C, D))) == "not_found"
    given.when(sign_in())
    assert code_of(given.when(refresh(C, D, family=A))) == "not_found"
    assert code_of(given.when(refresh(A, D, family=A))) == "not_found"
    assert code_of(given.when(refresh(C, D, login="l9"))) == "not_found"
    assert given.when(refresh(C, D)) == ["LoginRefreshed"]


def test_a_login_lasts_from_its_last_refresh_on() -> None:
    given = Stream()
    given.when(sign_in())
    assert given.when(refresh(C, D, days=50), after_s=20 * DAY) == ["LoginRefreshed"]
    assert given.when(refresh(D, C, days=70), after_s=49 * DAY) == ["LoginRefreshed"]
    assert code_of(given.when(refresh(C, D, days=100), after_s=70 * DAY)) == "not_found"


def test_logins_are_bounded_and_the_one_used_least_lately_makes_way() -> None:
    given = Stream()
    for number in range(MAX_LOGINS):
        given.when(sign_in(f"l{number}"))
    given.when(refresh(C, D, login="l0"))
    given.when(sign_in("new"))
    names = [login.login_id for login in given.user.logins]
    assert (len(names), names[0], names[-2:]) == (MAX_LOGINS, "l2", ["l0", "new"])
    given.when(sign_in("later", days=60), after_s=31 * DAY)
    assert [login.login_id for login in given.user.logins] == ["later"], "those that expired are gone"


def test_a_disabled_user_has_no_login_and_gets_none() -> None:
    given = Stream()
    assert code_of(given.when(ChangeUser(disabled=True))) == "not_found"
    given.when(sign_in())
    assert given.when(ChangeUser(disabled=True, reason="left")) == ["UserChanged"]
    assert given.when(ChangeUser(disabled=True)) == []
    assert (given.user.logins, given.user.disabled) == ((), True)
    assert code_of(given.when(refresh(C, D))) == "not_found"
    refusal = given.when(sign_in("l2"))
    assert isinstance(refusal, Refusal)
    assert refusal.field == "disabled"
    assert given.when(ChangeUser(disabled=False)) == ["UserChanged"]
    assert code_of(given.when(refresh(C, D))) == "not_found", "its logins do not come back"
    assert given.when(sign_in("l2")) == ["LoginBegun"]


def test_a_role_changes_and_a_login_ends_by_itself() -> None:
    given = Stream()
    given.when(sign_in())
    assert given.when(ChangeUser(role="admin")) == ["UserChanged"]
    assert (given.user.role, len(given.user.logins)) == ("admin", 1)
    assert given.when(EndLogin("l1")) == ["LoginEnded"]
    assert given.when(EndLogin("l1")) == []
    assert code_of(given.when(refresh(C, D))) == "not_found"


def test_an_invitation_is_good_once_and_for_whom_it_is_meant() -> None:
    given = Stream("invitation")
    expiry = START + timedelta(days=1)
    assert code_of(given.when(AcceptInvitation(A, "zoe"))) == "not_found"
    assert code_of(given.when(Invite(A, START))) == "invalid"
    assert given.when(Invite(A, expiry, "admin", "Zoe@Example.org")) == ["InvitationMade"]
    assert code_of(given.when(Invite(A, expiry))) == "conflict"
    assert code_of(given.when(AcceptInvitation(B, "zoe", "zoe@example.org"))) == "not_found"
    assert code_of(given.when(AcceptInvitation(A, "eve", "eve@example.org"))) == "conflict"
    assert code_of(given.when(AcceptInvitation(A, "zoe", "zoe@example.org"), after_s=DAY)) == "conflict"
    assert given.when(AcceptInvitation(A, "zoe", "zoe@example.org")) == ["InvitationAccepted"]
    assert given.when(AcceptInvitation(A, "zoe", "zoe@example.org")) == [], "a second try of the same sign-in"
    assert code_of(given.when(AcceptInvitation(A, "bo", "zoe@example.org"))) == "conflict"
    assert given.when(WithdrawInvitation()) == []
    assert given.state is not None
    assert isinstance(given.state.value, Invitation)
    assert (given.state.value.removed, given.state.value.invited_by) == (True, "root")


def test_a_withdrawn_invitation_cannot_be_accepted() -> None:
    given = Stream("invitation")
    assert code_of(given.when(WithdrawInvitation())) == "not_found"
    given.when(Invite(A, START + timedelta(days=1)))
    assert given.when(WithdrawInvitation("a mistake")) == ["InvitationWithdrawn"]
    assert code_of(given.when(AcceptInvitation(A, "zoe"))) == "conflict"


def test_a_refresh_token_says_whose_it_is_and_its_successor_has_the_same_family() -> None:
    first = new_refresh("acme", "usr_1")
    read = read_refresh(first.text)
    assert read == first.parts
    assert (first.parts.tenant_id, first.parts.user_id) == ("acme", "usr_1")
    second = next_refresh(first.text)
    assert second.parts.family_hash == first.parts.family_hash
    assert second.parts.login_id == first.parts.login_id
    assert second.parts.token_hash != first.parts.token_hash
    assert read_refresh(second.text) == second.parts


def test_what_is_no_token_is_not_read() -> None:
    text, parts = new_invitation("acme")
    assert read_invitation(text) == parts
    good = new_refresh("acme", "usr_1").text
    wrong = ["", "rt_", "rt_a.b.c", text, good[:-1] + "é", good.replace("rt_", "inv_"), good + ".x", good + "x" * 2000]
    wrong += ["rt_YS9iL2M", "rt_YSAvYi9j.a.b", "rt_====.a.b", "rt__w.a.b"]
    for each in wrong:
        assert read_refresh(each) is None, each
    assert read_invitation(good) is None


def test_an_identity_is_its_providers() -> None:
    assert identity_of("https://a", "7") != identity_of("https://b", "7")
    assert identity_of("https://a", "7") == identity_of("https://a", "7")
