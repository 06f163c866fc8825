"""What every term is: its numbers are checked and follow schedules."""

import inspect

import pytest
import torch

from distillab.core.errors import UserError
from distillab.strategies.base import Fields, Outputs, Schedule, Scheduled, Term, check_whole
from distillab.strategies.kd import KD


def test_schedules():
    assert [Schedule(2, warmup=4)(e, 10) for e in (0, 1, 3, 9)] == [0.5, 1.0, 2.0, 2.0]
    assert [Schedule(2, start=2, until=4)(e, 10) for e in range(5)] == [0, 0, 2, 2, 0]
    assert [round(Schedule(1, cosine=4)(e, 10), 6) for e in (0, 2, 4, 8)] == [1, 0.5, 0, 0]
    assert [round(Schedule(1, hold=3, cosine=2)(e, 10), 6) for e in range(6)] == [1, 1, 1, 1, 0.5, 0]


def test_a_schedule_in_steps_follows_the_batches_and_not_the_epochs():
    term = KD({"value": 2.0, "warmup": 4, "steps": True}, temperature={"value": 3.0, "warmup": 3})
    term.set_epoch(0, 2)
    assert (term.weight, term.temperature) == (0.5, 1.0)
    term.set_step(2, 10)
    assert (term.weight, term.temperature) == (1.5, 1.0)
    term.set_epoch(1, 2)
    assert (term.weight, term.temperature) == (1.5, 2.0)
    shares = KD({"value": 2.0, "warmup": 0.4, "steps": True})
    shares.set_step(1, 10)
    assert shares.weight == 1.0


def test_a_schedule_in_shares_keeps_its_form_at_every_budget():
    published, share = Schedule(1, warmup=20, hold=130, cosine=90), Schedule(1, warmup=0.0833, hold=0.542, cosine=0.375)
    assert [share(e, 240) for e in range(240)] == [published(e, 240) for e in range(240)]
    short = [share(e, 12) for e in range(12)]
    assert short[:7] == [1.0] * 7 and short[-1] < 0.25, "it rises and falls within twelve epochs too"
    assert Schedule(1, start=0.5)(3, 8) == 0 and Schedule(1, start=0.5)(4, 8) == 1


def scaled(embedding, labels, scale, parts):
    return scale * embedding[labels].sum() / parts


class Declared(Term, loss=scaled):
    needs = ("student.embedding", "batch.labels")
    above = {"parts": 3}
    weight: Scheduled = 2.0
    scale: Scheduled = 0.5
    parts: int = 4
    word: str = "none"


class Written(Declared):
    connector: Term

    def __init__(self, weight=1.0):
        super().__init__(weight, scale=3)


def test_a_term_that_declares_its_numbers_gets_them_checked_and_scheduled():
    assert list(inspect.signature(Declared).parameters) == ["weight", "scale", "parts", "word"]
    term = Declared(3, {"value": 4, "start": 1}, word="other")
    assert (term.weight, term.scale, term.parts, term.word) == (3.0, 0.0, 4, "other")
    term.set_epoch(1, 2)
    assert term.numbers() == {"scale": 4.0, "parts": 4}
    assert (Written().weight, Written().scale, Written().numbers()["scale"]) == (1.0, 3.0, 3.0)
    assert Term(0.5).weight == 0.5 and Term().numbers() == {}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Declared(scale="much"), "scale must be a number, got 'much'"),
        (lambda: Declared(parts=3), "parts must be a whole number from 4, got 3"),
        (lambda: Term(True), "weight must be a number, got True"),
        (lambda: check_whole(a=1, b=1.5), r"b must be a whole number from 1, got 1\.5"),
        (lambda: check_whole(0, a=-1), "a must be a whole number from 0, got -1"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, said):
    with pytest.raises(UserError, match=said):
        call()


def test_a_term_that_names_its_loss_calls_it_with_what_it_needs():
    student, batch = Outputs([Fields(embedding=torch.ones(2, 3))]), Fields(labels=torch.tensor([1]))
    assert Declared(scale=8)(student, None, batch).item() == 8 * 3 / 4
    with pytest.raises(NotImplementedError, match="Term writes neither forward nor rows"):
        Term()(Outputs([Fields(logits=torch.ones(2, 3))]), None, batch)
