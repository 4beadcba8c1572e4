import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.values import Retry, backoff

policies = st.builds(
    Retry,
    initial_s=st.floats(0, 86_400),
    factor=st.floats(1, 100),
    max_s=st.floats(0, 7 * 86_400),
    jitter=st.floats(0, 1),
)


@pytest.mark.parametrize(("failures", "delay_s"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (5_000, 60)])
def test_the_delay_doubles_up_to_the_cap(failures: int, delay_s: float) -> None:
    assert backoff(failures, Retry(jitter=0), key="t") == delay_s


def test_no_failure_has_no_delay_to_speak_of() -> None:
    with pytest.raises(ValueError, match="failures must be 1 or more, not 0"):
        backoff(0, Retry(), key="t")


@given(st.integers(1, 5_000), policies, st.text(max_size=20))
def test_jitter_only_shortens_and_never_beyond_its_share(failures: int, policy: Retry, key: str) -> None:
    plain = backoff(failures, Retry(policy.max_attempts, policy.initial_s, policy.factor, policy.max_s, 0), key=key)
    delay = backoff(failures, policy, key=key)
    assert plain * (1 - policy.jitter) <= delay <= plain <= policy.max_s
    assert delay == backoff(failures, policy, key=key)


def test_tasks_that_fail_together_come_back_spread_out() -> None:
    delays = [backoff(1, Retry(jitter=0.5), key=f"task-{number}") for number in range(1_000)]
    assert len(set(delays)) == 1_000
    for low in (0.5, 0.6, 0.7, 0.8, 0.9):
        assert 120 < sum(low <= delay < low + 0.1 for delay in delays) < 280
