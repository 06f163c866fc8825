"""Steps of two fits in turns: the ratio is right on a machine that is busy for a while, and the time is bounded."""

import time

import pytest

from distillab.training import stepwise
from distillab.training.stepwise import alternate


class Machine:
    """A clock that steps move on; all of them take `slower(now)` times as long."""

    def __init__(self, slower=lambda now: 1.0):
        self.now, self.slower, self.calls = 0.0, slower, []

    def __call__(self):
        return self.now

    def step(self, name, seconds):
        def take():
            self.calls.append(name)
            self.now += seconds * self.slower(self.now)

        return take


def test_the_ratio_is_that_of_the_whole_steps():
    machine = Machine()
    ways = {name: machine.step(name, s) for name, s in {"alone": 0.02, "live": 1.74, "cached": 0.021}.items()}
    found = alternate(ways, clock=machine)
    assert found.ratios == pytest.approx({"live": 87, "cached": 1.05}) and found.seconds == pytest.approx(0.02)
    assert found.rounds == stepwise.FEWEST, "ratios that agree need no more"
    assert machine.calls[:3] == ["alone", "live", "cached"], "each is warmed up"


def test_other_work_for_a_while_slows_both_sides_of_a_ratio():
    machine = Machine(lambda now: 5.0 if 1.0 < now < 4.0 else 1.0)
    found = alternate({"alone": machine.step("alone", 0.05), "live": machine.step("live", 0.15)}, clock=machine)
    assert found.ratios["live"] == pytest.approx(3, rel=0.01)


def test_it_holds_with_steps_that_really_take_so_long():
    began = time.perf_counter()

    def sleep(seconds):
        busy = int((time.perf_counter() - began) / 0.4) % 2  # every other .4 s
        time.sleep(seconds * (3 if busy else 1))

    found = alternate({"alone": lambda: sleep(0.01), "live": lambda: sleep(0.03)}, seconds=2.0)
    assert 2 < found.ratios["live"] < 4.5, "and not 9, or 1"


@pytest.mark.parametrize(("step", "rounds"), [(100.0, 1), (1.0, 3)])
def test_slow_steps_are_timed_less_often(step, rounds, monkeypatch):
    machine = Machine()
    monkeypatch.setattr(stepwise, "perf_counter", machine)
    found = alternate({"alone": machine.step("alone", step / 4), "live": machine.step("live", step)}, clock=machine)
    assert found.rounds == rounds and found.ratios["live"] == 4
    assert machine.now <= stepwise.SECONDS + 2 * 1.25 * step, "no round begins when the time is over"
