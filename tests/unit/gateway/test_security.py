import pytest

from services.gateway.problems import BadRequest, Forbidden
from services.gateway.security import OPEN_USER, BrowserGuard, OpenAddressRefused, caller_of, check_address


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_permission(host: str) -> None:
    check_address(host, keys=False, allow_open=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "taskloom.example"])
def test_other_addresses_are_refused_unless_allowed(host: str) -> None:
    with pytest.raises(OpenAddressRefused, match="TASKLOOM_ALLOW_OPEN"):
        check_address(host, keys=False, allow_open=False)
    check_address(host, keys=False, allow_open=True)
    check_address(host, keys=True, allow_open=False)


def test_the_caller_comes_from_the_headers() -> None:
    assert (caller_of({}).tenant_id, caller_of({}).user_id) == ("default", OPEN_USER)
    caller = caller_of({"x-tenant-id": "red", "x-user-id": "ann"})
    assert (caller.tenant_id, caller.user_id) == ("red", "ann")


@pytest.mark.parametrize("name", ["x-tenant-id", "x-user-id"])
def test_a_caller_that_is_no_id_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        caller_of({name: "red\r\nX-Evil: 1"})


@pytest.mark.parametrize("host", [b"127.0.0.1:8080", b"localhost:8080", b"[::1]:8080", b"LOCALHOST"])
def test_names_of_this_machine_pass(host: bytes) -> None:
    BrowserGuard(local_only=True).check({b"host": host})


@pytest.mark.parametrize("host", [b"evil.example", b"127.0.0.1.evil.example:8080", b"", b"[::2]:80"])
def test_other_names_do_not_pass_while_bound_to_loopback(host: bytes) -> None:
    with pytest.raises(Forbidden):
        BrowserGuard(local_only=True).check({b"host": host})
    BrowserGuard(local_only=False).check({b"host": host})


@pytest.mark.parametrize("origin", [b"https://evil.example", b"null", b"http://localhost.evil.example"])
def test_foreign_pages_do_not_pass(origin: bytes) -> None:
    for local_only in (True, False):
        with pytest.raises(Forbidden):
            BrowserGuard(local_only=local_only).check({b"origin": origin})


def test_named_origins_pass() -> None:
    BrowserGuard(local_only=False, origins=("https://app.example",)).check({b"origin": b"https://app.example"})
    BrowserGuard(local_only=True, origins=("*",)).check({b"origin": b"https://any.example"})
    BrowserGuard(local_only=True).check({b"origin": b"http://localhost:3000"})
