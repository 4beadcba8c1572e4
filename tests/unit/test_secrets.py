"""Sealing secrets."""

import pytest

from services.executor.settings import ExecutorSettings
from taskloom.secrets import Unreadable, Vault
from taskloom.settings import SettingsError, load

OLD, NEW = "a" * 32, "b" * 40


def test_what_is_sealed_opens_for_its_tenant_and_name_alone() -> None:
    vault = Vault((OLD,))
    sealed = vault.seal("acme", "token", "wörd")
    assert vault.open("acme", "token", sealed) == "wörd"
    assert b"w" not in sealed[:1]
    for tenant, name in (("other", "token"), ("acme", "other")):
        with pytest.raises(Unreadable, match="another tenant or name"):
            vault.open(tenant, name, sealed)


def test_the_value_is_not_in_the_sealed_bytes_and_sealing_twice_differs() -> None:
    vault = Vault((OLD,))
    first, second = (vault.seal("acme", "token", "visible-in-here") for _ in range(2))
    assert first != second
    assert b"visible" not in first


def test_keys_are_changed_by_putting_the_new_one_before_the_old() -> None:
    sealed = Vault((OLD,)).seal("acme", "token", "word")
    assert Vault((NEW, OLD)).open("acme", "token", sealed) == "word"
    with pytest.raises(Unreadable, match="TASKLOOM_SECRETS_KEY"):
        Vault((NEW,)).open("acme", "token", sealed)
    with pytest.raises(Unreadable):
        Vault((OLD,)).open("acme", "token", b"nonsense")


def test_settings_want_long_keys_and_never_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKLOOM_SECRETS_KEY", f"{NEW},{OLD}")
    settings = load(ExecutorSettings)
    assert settings.vault is not None
    assert NEW not in repr(settings)
    monkeypatch.setenv("TASKLOOM_SECRETS_KEY", f"{NEW},short")
    with pytest.raises(SettingsError, match="32 characters") as refused:
        load(ExecutorSettings)
    assert NEW not in str(refused.value)
