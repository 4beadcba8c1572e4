"""Secrets of tenants: sealed with the installation's key, and referred to by name wherever a task needs one."""

import base64
from typing import Final

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct
from pydantic import Field, SecretStr, field_validator

from taskloom.errors import TaskloomError
from taskloom.settings import ServiceSettings, checked_key

MIN_CHARS: Final = 4
"""A shorter one would be masked in every second word of an output."""

MAX_BYTES: Final = 64 * 1024
_PURPOSE: Final = b"taskloom-secrets-v1"


class Unreadable(TaskloomError):
    """A stored secret was sealed with another key, or is not where it was put."""


class _Sealed(Struct, frozen=True):
    tenant: str
    name: str
    value: str


_decoder = msgspec.json.Decoder(_Sealed)


class Vault:
    """Seals with the first key, opens with any: so keys are changed one after the other."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._fernet = MultiFernet([_fernet(key) for key in keys])

    def seal(self, tenant_id: str, name: str, value: str) -> bytes:
        return self._fernet.encrypt(msgspec.json.encode(_Sealed(tenant_id, name, value)))

    def open(self, tenant_id: str, name: str, sealed: bytes) -> str:
        """
        Raises:
            Unreadable: none of the keys opens it, or it is another tenant's or name's.
        """
        try:
            found = _decoder.decode(self._fernet.decrypt(sealed))
        except (InvalidToken, msgspec.MsgspecError) as error:
            raise Unreadable(f"the secret {name!r} was sealed with a key that TASKLOOM_SECRETS_KEY lacks") from error
        if (found.tenant, found.name) != (tenant_id, name):
            raise Unreadable(f"the secret {name!r} was sealed for another tenant or name")
        return found.value


class SecretsSettings(ServiceSettings):
    """Settings of services that seal or open secrets."""

    secrets_key: SecretStr = Field(
        SecretStr(""),
        description="Key that tenants' secrets are sealed with, the same in gateways and executors, 32 characters or "
        "more; several, comma-separated: the first seals, all open; without it there are no secrets",
    )

    @field_validator("secrets_key")
    @classmethod
    def _secrets_keys_are_long(cls, value: SecretStr) -> SecretStr:
        for key in _split(value):
            checked_key(SecretStr(key))
        return value

    @property
    def vault(self) -> Vault | None:
        keys = _split(self.secrets_key)
        return Vault(keys) if keys else None


def _split(value: SecretStr) -> tuple[str, ...]:
    return tuple(key.strip() for key in value.get_secret_value().split(",") if key.strip())


def _fernet(key: str) -> Fernet:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
