from taskloom.store.claims import BytesCache


def test_the_cache_drops_what_was_not_used_for_longest_and_stays_within_its_limit() -> None:
    cache = BytesCache(10)
    cache.add("a", b"1234")
    cache.add("b", b"1234")
    assert cache.get("a") == b"1234"
    cache.add("c", b"1234")
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (b"1234", None, b"1234")
    assert cache.size_bytes == 8


def test_a_value_larger_than_the_cache_is_not_kept() -> None:
    cache = BytesCache(3)
    cache.add("a", b"12")
    cache.add("b", b"1234")
    assert "b" not in cache
    assert cache.get("a") == b"12"
