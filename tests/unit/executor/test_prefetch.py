from services.executor.prefetch import Reserve


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def reserve_after(ends: int, within_s: float, most: int = 400) -> int:
    clock = Clock()
    reserve = Reserve(most, clock)
    for _ in range(ends):
        reserve.count_end()
    clock.now = within_s
    return reserve.look()


def test_nothing_waits_before_anything_ended() -> None:
    assert reserve_after(0, 0.5) == 0


def test_a_quarter_of_a_second_of_short_attempts_may_wait() -> None:
    assert reserve_after(400, 0.5) == 200


def test_long_attempts_leave_nothing_to_wait_here() -> None:
    assert reserve_after(1, 1.0) == 0


def test_there_is_an_upper_limit() -> None:
    assert reserve_after(100_000, 0.5) == 400


def test_a_pause_lowers_the_number_step_by_step() -> None:
    clock = Clock()
    reserve = Reserve(400, clock)
    for _ in range(400):
        reserve.count_end()
    numbers = []
    for _ in range(4):
        clock.now += 0.5
        numbers.append(reserve.look())
    assert numbers == [200, 100, 50, 25]
