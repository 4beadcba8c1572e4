"""Reasons for saying no. A refusal is a value that travels back to the caller, never an exception."""

from typing import Final, Literal

from msgspec import Struct

RefusalCode = Literal["invalid", "not_found", "conflict", "unavailable"]

HTTP_STATUS: Final[dict[str, int]] = {"invalid": 400, "not_found": 404, "conflict": 409, "unavailable": 503}


class Refusal(Struct, frozen=True, omit_defaults=True):
    """Why a command was not carried out: ``field`` is the path of the faulty field, ``state`` the task's state then."""

    code: RefusalCode
    message: str
    field: str = ""
    state: str = ""
