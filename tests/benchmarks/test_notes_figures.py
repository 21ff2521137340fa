"""What `make benchmark-notes` makes of what it has measured."""

from contextlib import suppress

from benchmarks.notes_figures import Kind, Waits, _table, _timed


def test_waiting_is_no_own_share_and_only_cpu_takes_longer_on_a_part_of_a_processor() -> None:
    kind = Kind("validate", 50.0, {}, elapsed=[0.010] * 20, cpu=[0.004] * 20)
    kind.dynamodb, kind.provider = [Waits(2, 0.003)] * 20, [Waits()] * 20
    times, instances = (line for line in _table([kind]) if "validate" in line)
    assert times == "| validate | < 50 | 10.0 | 10.0 | 7.0 | 3.0 (2 calls) | – | 4.0 |"
    # 10 ms and 0.73 times 4 ms.
    assert instances == "| validate | 100 | 10.0 | 12.9 | 100 |"


def test_calls_are_counted_and_timed_also_when_they_fail() -> None:
    class Owner:
        def send(self, number: int) -> float:
            return 1 / number

    with _timed(Owner, "send") as waits:
        assert Owner().send(2) == 0.5
        with suppress(ZeroDivisionError):
            Owner().send(0)
    assert waits.calls == 2
    assert waits.seconds > 0
    # The method is as before.
    assert Owner.send.__name__ == "send"
