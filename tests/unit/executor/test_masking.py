"""Secrets taken out of streams, whatever the pieces, and out of values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.masking import MaskedStream, Masker

SECRET = "hunter2-äß"


def masker(*secrets: str) -> Masker:
    made = Masker()
    made.add(secrets or (SECRET,))
    return made


def streamed(masker: Masker, *pieces: bytes) -> bytes:
    stream = MaskedStream(masker)
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.finish()])


@given(st.integers(min_value=1, max_value=12), st.text(max_size=20), st.text(max_size=20))
def test_a_secret_is_masked_wherever_the_stream_is_cut(size: int, before: str, after: str) -> None:
    whole = f"{before}{SECRET}{after}{SECRET}".encode(errors="replace")
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    expected = whole.replace(SECRET.encode(), b"***")
    assert streamed(masker(), *pieces) == expected


@given(st.binary(max_size=200), st.integers(min_value=1, max_value=9))
def test_what_holds_no_secret_comes_through_byte_by_byte(data: bytes, size: int) -> None:
    assert streamed(masker("\u1234never-in-it"), *(data[at : at + size] for at in range(0, len(data), size))) == data


def test_only_what_may_be_a_beginning_waits() -> None:
    stream = MaskedStream(masker("secret"))
    assert stream.feed(b"a line\n") == b"a line\n"
    assert stream.feed(b"a sec") == b"a "
    assert stream.feed(b"ond") == b"second"
    assert stream.feed(b"a secre") == b"a "
    assert stream.finish() == b"secre"


@pytest.mark.parametrize(
    ("secrets", "pieces", "told"),
    [
        (("abcd", "abcdefgh"), (b"abcd", b"efgh"), b"***"),
        (("abcd", "abcdefgh"), (b"abcd", b"efzz"), b"***efzz"),
        (("bcde", "exyz"), (b"abcde", b"f"), b"a***f"),
        (("aaaa",), (b"aaa", b"aaa"), b"***aa"),
    ],
)
def test_secrets_that_begin_alike_or_overlap(secrets: tuple[str, ...], pieces: tuple[bytes, ...], told: bytes) -> None:
    assert streamed(masker(*secrets), *pieces) == told


def test_forms_in_json_and_in_urls_and_single_lines_are_masked_too() -> None:
    key = '-----BEGIN-----\nMIIabcdefgh"quoted\n-----END-----\n'
    mask = masker(key, "p/w?x&y")
    assert mask.text(f"k={key}!") == "k=***!"
    assert "MIIabcdefgh" not in mask.text('  MIIabcdefgh\\"quoted')
    assert "MIIabcdefgh" not in mask.text('    MIIabcdefgh"quoted  ')
    assert mask.text("https://u:p%2Fw%3Fx%26y@host") == "https://u:***@host"


def test_values_are_masked_in_all_their_texts() -> None:
    given = {"a": [f"x{SECRET}", 1, None], SECRET: {"b": (SECRET, True)}}
    assert masker().value(given) == {"a": ["x***", 1, None], "***": {"b": ["***", True]}}
    assert Masker().value(given) is given
