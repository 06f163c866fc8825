"""What every term is: its numbers follow schedules."""

from distillab.strategies.base import Schedule


def test_schedules():
    assert [Schedule(2, warmup=4)(e, 10) for e in (0, 1, 3, 9)] == [0.5, 1.0, 2.0, 2.0]
    assert [Schedule(2, start=2, until=4)(e, 10) for e in range(5)] == [0, 0, 2, 2, 0]
    assert [round(Schedule(1, cosine=4)(e, 10), 6) for e in (0, 2, 4, 8)] == [1, 0.5, 0, 0]
    assert [round(Schedule(1, hold=3, cosine=2)(e, 10), 6) for e in range(6)] == [1, 1, 1, 1, 0.5, 0]


def test_a_schedule_in_shares_keeps_its_form_at_every_budget():
    published, share = Schedule(1, warmup=20, hold=130, cosine=90), Schedule(1, warmup=0.0833, hold=0.542, cosine=0.375)
    assert [share(e, 240) for e in range(240)] == [published(e, 240) for e in range(240)]
    short = [share(e, 12) for e in range(12)]
    assert short[:7] == [1.0] * 7 and short[-1] < 0.25, "it rises and falls within twelve epochs too"
    assert Schedule(1, start=0.5)(3, 8) == 0 and Schedule(1, start=0.5)(4, 8) == 1
