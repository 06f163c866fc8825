"""One tester for every method: a test file gives a small table, and inherits all tests that prove it.

    class TestKD(MethodTester):
        configs = ("kd", "kd_tuned")
        cases = {"kd": [Case(reference_kd, **LOGITS, rest={"temperature": 4.0}, extreme=True)]}
        mutations = [("kd", "temperature**2 * F.kl_div", "F.kl_div", "T² dropped")]

A test whose table is empty is not collected: a method without a function has no cases, one that compares no samples has
no test of unequal parts of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import ClassVar

import numpy as np
import pytest
import torch

from distillab import functional
from distillab.core.errors import UserError
from distillab.strategies.strategy import Strategy
from distillab.training import term_inputs
from helpers import two_networks
from helpers.fits import (
    assert_equal,
    assert_every_term_reaches_the_student,
    confident,
    distillation,
    own_loss,
    seen_batch,
    stopped_and_resumed,
    strategy,
    taught,
    trainer,
)
from helpers.method_checks import Case, check_gradient, check_small_batches, check_value, check_widths
from helpers.mutations import misplaced, mutations_of
from helpers.numbers import draw, second_derivatives
from helpers.two_networks import EQUAL, UNEQUAL, terms_that
from helpers.two_processes import assert_close as close
from helpers.two_processes import assert_same_phases, end_to_end, input_gradients, of_both

NO_DETACH = "s, t = widened(s, t)", "s, t = widened(s, t)[0], t", "a gradient to the teacher"
LOGITS = {"student": {"s": draw(5, 7)}, "teacher": {"t": draw(5, 7, seed=1)}}
LABELS = torch.tensor([0, 6, 2, 2, 5])


class MethodTester:
    """The tests of one file of `distillab.strategies`.

    Attributes:
        configs: the files of conf/strategy that are this method's.
        text_configs: those that serve no images, which the method's own tests prove.
        cases: the cases of each of its pure functions.
        composed: for a function that gives no scalar, what it is used for.
        mutations: function, what is written in the file, what a slip would write instead, the slip in words.
        by_hand: for a class that composes losses, the test that must catch its slips.
        hand_mutations: like `mutations`, of the classes in `by_hand`.
    """

    configs: ClassVar[Sequence[str]] = ()
    text_configs: ClassVar[Sequence[str]] = ()
    cases: ClassVar[Mapping[str, Sequence[Case]]] = {}
    composed: ClassVar[Mapping[str, Callable]] = {}
    mutations: ClassVar[Sequence[tuple[str, str, str, str]]] = ()
    by_hand: ClassVar[Mapping[str, Callable[[], None]]] = {}
    hand_mutations: ClassVar[Sequence[tuple[str, str, str, str]]] = ()

    def __init_subclass__(cls) -> None:
        if cls.__module__.startswith("helpers."):  # not yet one method's
            return
        distilling = [name for name in cls.configs if Strategy.of(strategy(name)).needs_teacher]
        cls.tables = {
            "function": list(cls.cases),
            "case": [
                pytest.param((name, case), id=f"{name}-{i}")
                for name, cases in cls.cases.items()
                for i, case in enumerate(cases)
            ],
            "config": list(cls.configs),
            "distilling": distilling,
            "comparing": [name for name in cls.configs if terms_that(name, "global_batch")],
            "averaging": [name for name in cls.configs if terms_that(name, "rowwise")],
            "tester": [cls] if cls.mutations or cls.hand_mutations else [],
        }
        for name in dir(cls):
            used = signature(getattr(cls, name)).parameters if name.startswith("test_") else ()
            if any(parameter in used and not rows for parameter, rows in cls.tables.items()):
                setattr(cls, name, None)

    @classmethod
    def parametrize(cls, metafunc) -> None:
        """Give each test the rows of its table."""
        for parameter, rows in cls.tables.items():
            if parameter in metafunc.fixturenames:
                metafunc.parametrize(parameter, rows, scope="class" if parameter == "config" else None)

    @classmethod
    def scalar(cls, name: str) -> Callable:
        """What the checks call: the function, or what it is used for."""
        return cls.composed.get(name) or getattr(functional, name)

    # ------------------------------------------------------------------ the function

    def test_value(self, case):
        check_value(self.scalar(case[0]), case[1])

    def test_gradient(self, case):
        check_gradient(self.scalar(case[0]), case[1])

    def test_half_precision_and_extremes(self, case):
        check_widths(self.scalar(case[0]), case[1])

    def test_small_batches(self, case):
        check_small_batches(self.scalar(case[0]), case[1])

    def test_every_slip_has_its_place_and_every_function_enough(self, tester):
        """That each is caught takes minutes: tests/slow/test_mutations.py."""
        assert not misplaced(mutations_of(tester), tester.cases)
        for check in tester.by_hand.values():
            check()

    # ------------------------------------------------------------------ the strategy

    def test_a_fit_trains_the_student_and_the_teacher_stays(self, config, unbroken):
        for key, value in unbroken.before.items():  # bit-identical, buffers too
            assert torch.equal(unbroken.teacher.state_dict()[key], value), key
        assert not any(unbroken.modes)
        held = {id(p) for group in unbroken.engine.optimizers[0].param_groups for p in group["params"]}
        assert not held & {id(p) for p in unbroken.teacher.parameters()}
        if unbroken.module.teacher is not None:
            assert len(unbroken.modes) == unbroken.engine.global_step > 0
        start, after = unbroken.start, unbroken.after
        assert any(not torch.equal(start[key], after[key]) for key in start if key.startswith("student."))
        for term in unbroken.module.strategy.terms:
            assert torch.isfinite(unbroken.engine.callback_metrics.get(f"train/{term}", torch.zeros(())))

    def test_a_stopped_and_resumed_fit_ends_in_the_unbroken_weights(self, config, unbroken, few_digits, tmp_path):
        """Stopped in the second of three epochs."""
        resumed = stopped_and_resumed(
            lambda: distillation(config), lambda m: few_digits.configure(64, 0, m.strategy.num_views), 3, 3, tmp_path
        )
        assert_equal(unbroken.after, resumed)

    def test_every_term_reaches_the_student(self, distilling, digits):
        module = distillation(distilling, teacher=confident())
        batch = seen_batch(digits.configure(64, 0, module.strategy.num_views), module)
        assert_every_term_reaches_the_student(module, batch)
        with torch.autocast("cpu", torch.bfloat16):  # as in a step of trainer.precision=bf16-mixed
            assert_every_term_reaches_the_student(module, batch)
        assert not any(p.requires_grad for p in module.teacher.parameters())

    def test_a_fit_lowers_the_strategys_own_loss(self, distilling, few_digits):
        module = distillation(taught(strategy(distilling)), teacher=confident())
        data = few_digits.configure(64, 0, module.strategy.num_views)
        batch = seen_batch(data, module)
        before = own_loss(module, batch)
        trainer(4, limit_val_batches=0).fit(module, datamodule=data)
        assert own_loss(module, batch) < before

    def test_rows_in_turns_give_what_all_at_once_give(self, averaging, monkeypatch):
        found = []
        with two_networks.distillation(averaging) as module:
            two_networks.show_data(module, None)
            two_networks.in_double(module)
            batch = two_networks.rows(two_networks.samples(), 3, 9, torch.float64)
            student, classes = list(module.student.parameters()), module.student.info.outputs
            for at_once in (6, 4, 1):
                monkeypatch.setattr(term_inputs, "CHUNK", at_once * classes)
                torch.manual_seed(5)
                losses = module.losses(batch, terms_that(averaging, "rowwise"))
                gradients = torch.autograd.grad(sum(losses.values()), student, allow_unused=True)
                found.append([*losses.values(), *(g for g in gradients if g is not None)])
        assert any(value.any() for value in found[0][len(losses) :])
        for turns in found[1:]:
            for value, expected in zip(turns, found[0], strict=True):
                close(value, expected, averaging, rtol=1e-10, atol=1e-12)

    # ------------------------------------------------------------------ two processes

    def test_equal_parts_of_a_batch_give_the_gradient_of_the_whole(self, config, ranks):
        """Loss and gradient of a strategy are means over the processes."""
        found = of_both(ranks, config, "equal")
        assert_same_phases(found, end_to_end(config, EQUAL), lambda losses: sum(losses) / 2)

    def test_unequal_parts_give_it_where_samples_are_compared(self, comparing, ranks):
        """Each process has the loss of the whole batch."""
        found = of_both(ranks, comparing, "unequal")
        whole = end_to_end(comparing, UNEQUAL, among=terms_that(comparing, "global_batch"))
        for rank in (0, 1):
            assert_same_phases(found, whole, lambda losses, rank=rank: losses[rank])

    def test_unequal_parts_give_it_where_rows_are_averaged(self, averaging, ranks):
        """Every row of the whole batch weighs the same; loss and gradient are means over the processes."""
        found = of_both(ranks, averaging, "rows")
        whole = end_to_end(averaging, UNEQUAL, among=terms_that(averaging, "rowwise"))
        assert_same_phases(found, whole, lambda losses: sum(losses) / 2)

    def test_unequal_parts_give_the_gradient_of_what_a_term_reads(self, comparing, ranks):
        both = of_both(ranks, comparing, "inputs")
        for key, (loss, gradients) in input_gradients(comparing).items():
            assert any(gradient.any() for gradient in gradients)
            for one in both:
                close(one[key][0], loss, key)
            for i, gradient in enumerate(gradients):
                close(torch.cat([one[key][1][i] for one in both]) / 2, gradient, key)


class LogitsTester(MethodTester):
    """Of functions (s, t, …) on logits, with labels `y` or without, and a temperature (or γ) that must be above 0."""

    def test_arguments_that_do_not_go_together_are_refused(self, function):
        labels, call = self.cases[function][0].rest.get("y"), getattr(functional, function)
        rest = {} if labels is None else {"y": labels[:2]}
        with pytest.raises(UserError, match="s and t must be logits"):
            call(draw(2, 3), draw(2, 4), **rest)
        with pytest.raises(UserError, match=r"(temperature|gamma) must be a number above 0, got 0"):
            call(draw(2, 3), draw(2, 3), **rest, **({"gamma": 0} if "ttm" in function else {"temperature": 0}))
        if labels is not None:
            with pytest.raises(UserError, match="y must hold one class number"):
                call(draw(2, 3), draw(2, 3), y=labels[:1])
            with pytest.raises(UserError, match=r"y must be int64 class numbers, got torch\.int32"):
                call(draw(2, 3), draw(2, 3), y=labels[:2].int())
            for wrong in (-100, -1, 3):
                with pytest.raises(UserError, match=f"y must hold class numbers from 0 to 2, got {wrong}"):
                    call(draw(2, 3), draw(2, 3), y=torch.tensor([wrong, 0]))


class RelationsTester(MethodTester):
    """Of functions (student's, teacher's) that compare the relations between the samples of a batch."""

    def test_one_set_of_relations_costs_nothing(self, function):
        same = draw(5, 3)
        assert getattr(functional, function)(same, same).item() == pytest.approx(0, abs=1e-12)

    def test_batches_of_unequal_size_are_refused(self, function):
        with pytest.raises(UserError, match=r"_s and ._t must"):
            getattr(functional, function)(draw(2, 3), draw(3, 3))


def check_equal_rows(name: str, limit: float = 10) -> None:
    """Equal rows and rows of zeros have small gradients."""
    e_s = torch.cat([draw(4, 3), draw(4, 3), torch.zeros(2, 3)]).float().requires_grad_()
    getattr(functional, name)(e_s, draw(10, 3, seed=1).float()).backward()
    assert e_s.grad.abs().max() < limit


def check_dead_channels(loss: Callable) -> None:
    """A loss of two maps stays finite, and its gradient small, on dead channels and flat maps."""
    few = draw(2, 8, 4, 4).float() * (torch.arange(8) < 2)[:, None, None]
    F_t = draw(2, 8, 4, 4, seed=1).float()
    for F_s in (torch.zeros(2, 8, 4, 4), torch.ones(2, 8, 4, 4), few):
        value = loss(F_s.requires_grad_(), F_t)
        value.backward()
        assert torch.isfinite(value) and F_s.grad.abs().max() < 1e4


def check_row_of_equal_logits(loss: Callable, constant: str) -> None:
    """It is uniform and its gradient finite."""
    logits = {"s": draw(5, 7).float(), "t": draw(5, 7, seed=1).float()}
    logits[constant][0] = 0.1
    s = logits["s"].requires_grad_()
    value = loss(s, logits["t"])
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(s.grad).all()


def check_second_derivatives_of_dead_maps(loss: Callable, dtype: torch.dtype) -> None:
    """They are finite with zeros among the activations, a dead channel, a sample of zeros."""
    student, teacher = draw(3, 4, 4, 4).relu().to(dtype), draw(3, 4, 4, 4, seed=1).relu().to(dtype)
    for dead in (np.s_[0, 0], np.s_[0], np.s_[:0]):
        maps = student.clone()
        maps[dead] = 0
        assert torch.isfinite(second_derivatives(lambda x: loss(x, teacher), maps)).all()
