"""The divergences over tokens against loops, their masks and their ends."""

import pytest
import torch
from helpers.method_checks import Case
from helpers.method_tester import NO_DETACH, MethodTester
from helpers.numbers import draw, kl, softmax

from distillab import functional
from distillab.core.errors import UserError

N, V = 6, 9
MASK = torch.tensor([True, True, False, True, False, True])


def over_tokens(divergence):
    """The mean over kept tokens of what a function says of two lists of probabilities (teacher's, student's)."""

    def reference(s, t, mask=None, temperature=1.0, **share):
        kept = [i for i in range(len(s)) if mask is None or mask[i]]
        rows = [divergence(softmax(t[i] / temperature), softmax(s[i] / temperature), **share) for i in kept]
        return temperature**2 * sum(rows) / len(rows) if rows else 0.0

    return reference


def jensen_shannon(p, q, beta=0.5):
    if beta in (0, 1):
        return kl(q, p) if beta else kl(p, q)
    m = [beta * x + (1 - beta) * y for x, y in zip(p, q, strict=True)]
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def skewed(p, q, alpha=0.1):
    return kl(p, [alpha * x + (1 - alpha) * y for x, y in zip(p, q, strict=True)])


def cases(divergence, *arguments):
    logits = {"student": {"s": draw(N, V)}, "teacher": {"t": draw(N, V, seed=1)}}
    return [Case(over_tokens(divergence), **logits, rest=rest, extreme=True) for rest in arguments]


MASKED = {"mask": MASK, "temperature": 2.0}


class TestTokenDivergences(MethodTester):
    cases = {
        "forward_kl": cases(kl, {}, MASKED),
        "reverse_kl": cases(lambda p, q: kl(q, p), {}, MASKED),
        "jsd": cases(jensen_shannon, {}, MASKED | {"beta": 0.2}, {"beta": 0.0}, {"beta": 1.0}),
        "skew_kl": cases(skewed, {}, MASKED | {"alpha": 0.4}, {"alpha": 0.0}),
        "tvd": cases(lambda p, q: sum(abs(p - q)) / 2, {}, MASKED),
    }
    mutations = [
        ("forward_kl", "kd_rows(s, t, temperature)", "kd_rows(t, s, temperature)", "KL turned round"),
        (
            "forward_kl",
            "mean(kd_rows(s, t, temperature))",
            "mean(kd_rows(s, t, temperature)) / s.shape[1]",
            "mean over the vocabulary too",
        ),
        (
            "forward_kl",
            "return s[mask], t[mask]",
            "return s * mask[:, None], t * mask[:, None]",
            "divided by all tokens",
        ),
        ("reverse_kl", "* kl(log_q, log_p)", "* kl(log_p, log_q)", "KL turned round"),
        (
            "reverse_kl",
            "* kl(log_q, log_p)",
            "* (log_q.exp().detach() * (log_q - log_p)).sum(-1)",
            "no gradient through the weights",
        ),
        ("reverse_kl", *NO_DETACH),
        ("jsd", "log_mixture(log_p, log_q, beta)", "log_mixture(log_q, log_p, beta)", "the share goes to the student"),
        (
            "jsd",
            "(beta * kl(log_p, log_m) + (1 - beta) *",
            "((1 - beta) * kl(log_p, log_m) + beta *",
            "λ",
        ),
        (
            "jsd",
            "(reverse_kl if beta else forward_kl)(s, t, mask, temperature)",
            "beta * forward_kl(s, t, mask, temperature)",
            "an end that is the formula's limit",
        ),
        (
            "skew_kl",
            "log_mixture(log_p, log_q, alpha)",
            "log_mixture(log_q, log_p, alpha)",
            "the share goes to the student",
        ),
        ("skew_kl", "math.log1p(-share)", "math.log(share)", "no mixture"),
        ("jsd", *NO_DETACH),
        ("skew_kl", *NO_DETACH),
        ("tvd", *NO_DETACH),
        ("tvd", "temperature**2 * 0.5 *", "temperature**2 *", "the half"),
        ("tvd", "temperature**2 * 0.5 *", "0.5 *", "T² dropped"),
    ]


NAMES = list(TestTokenDivergences.cases)


@pytest.mark.parametrize("name", NAMES)
def test_no_kept_token_gives_zero_and_no_gradient(name):
    s = draw(N, V).requires_grad_()
    value = getattr(functional, name)(s, draw(N, V, seed=1), torch.zeros(N, dtype=torch.bool))
    value.backward()
    assert value.item() == 0 and s.grad.abs().sum() == 0


@pytest.mark.parametrize("name", NAMES)
def test_what_a_padding_token_says_does_not_matter(name):
    s = draw(N, V)
    s[~MASK] = float("nan")
    s.requires_grad_()
    value = getattr(functional, name)(s, draw(N, V, seed=1), MASK)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(s.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_equal_models_give_zero_and_a_gradient_of_zero(name):
    s = draw(N, V).requires_grad_()
    value = getattr(functional, name)(s, s.detach())
    value.backward()
    assert abs(value.item()) < 1e-12 and s.grad.abs().max() < 1e-12


def test_forward_kl_is_kd_of_the_kept_tokens():
    s, t = draw(N, V), draw(N, V, seed=1)
    assert functional.forward_kl(s, t, MASK, 3.0).item() == pytest.approx(functional.kd(s[MASK], t[MASK], 3.0).item())


@pytest.mark.parametrize("name", ["jsd", "skew_kl"])
def test_far_apart_models_have_a_second_derivative(name):
    s = torch.tensor([[200.0, -200.0, 3.0]], requires_grad=True)
    value = getattr(functional, name)(s, -s.detach())
    (gradient,) = torch.autograd.grad(value, s, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), s)
    assert torch.isfinite(second).all()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("forward_kl", {"t": draw(N, V - 1)}, "s and t must be"),
        ("tvd", {"s": draw(2, N, V), "t": draw(2, N, V)}, "s and t must be"),
        ("reverse_kl", {"temperature": 0.0}, "temperature must be"),
        ("jsd", {"mask": MASK.long()}, "mask must be bool"),
        ("tvd", {"mask": MASK[:2]}, "mask must be bool"),
        ("jsd", {"beta": 1.5}, "beta must lie"),
        ("skew_kl", {"alpha": 1.0}, "alpha must lie"),
    ],
)
def test_arguments_that_cannot_be_are_refused_by_name(name, arguments, message):
    with pytest.raises(UserError, match=message):
        getattr(functional, name)(**{"s": draw(N, V), "t": draw(N, V, seed=1)} | arguments)
