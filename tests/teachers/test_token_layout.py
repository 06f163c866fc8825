"""What the cache keeps of a teacher of text: the conventions of top-k, tails at their temperatures, unbiased draws."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from distillab.core.errors import UserError
from distillab.models.logit_rows import NOTHING
from distillab.strategies.kd import kd_rows
from distillab.teachers.token_layout import TokenLayout, counted

N, L, V = 3, 4, 20


def logits(seed=0, vocabulary=V, scale=2.0):
    return scale * torch.randn(N, L, vocabulary, generator=torch.Generator().manual_seed(seed))


def kept(layout, teacher=None, index=None):
    """Through the file's records and back."""
    teacher = logits() if teacher is None else teacher
    records = layout.pack(layout.narrow(SimpleNamespace(logits=teacher), index))
    assert records.dtype == layout.record and len(records) == N
    return layout.decode(records).logits


def layout(**about):
    return TokenLayout(V, None, about.pop("dtype", "float32"), about.pop("top_k", None), positions=L, **about)


def divergence(sparse, student, temperature=1.0):
    return kd_rows(*sparse[torch.ones(N, L, dtype=torch.bool)].paired(student.flatten(0, 1), temperature), temperature)


def test_all_logits_come_back():
    assert torch.equal(kept(layout()), logits())
    assert torch.allclose(kept(layout(dtype="float16")), logits(), atol=5e-3)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_a_bucket_gives_the_divergence_of_the_coarser_distributions(temperature):
    k = 5
    sparse = kept(layout(top_k=k, temperatures=(1.0, 2.0, 4.0)))
    student, teacher = logits(1), logits()
    found = divergence(sparse, student, temperature)
    expected = []
    for z_q, z_p in zip(student.flatten(0, 1).double(), teacher.flatten(0, 1).double(), strict=True):
        q, p = (np.exp(z.numpy() / temperature) for z in (z_q, z_p))
        q, p = q / q.sum(), p / p.sum()
        top = np.argsort(-p)[:k]
        total = sum(p[i] * np.log(p[i] / q[i]) for i in top)
        rest_p, rest_q = 1 - p[top].sum(), 1 - q[top].sum()
        expected.append(temperature**2 * (total + rest_p * np.log(rest_p / rest_q)))
    assert np.allclose(found.numpy(), expected, atol=1e-5)


def test_the_other_conventions_are_what_their_names_say():
    k, student = 5, logits(1).flatten(0, 1)
    q, p = student.softmax(-1), logits().flatten(0, 1).softmax(-1)
    top = p.topk(k).indices
    p_top, q_top = p.gather(-1, top), q.gather(-1, top)
    p_top = p_top / p_top.sum(-1, keepdim=True)
    both = (p_top * (p_top / (q_top / q_top.sum(-1, keepdim=True))).log()).sum(-1)
    alone = (p_top * (p_top / q_top).log()).sum(-1)
    assert torch.allclose(divergence(kept(layout(top_k=k, convention="both")), logits(1)), both, atol=1e-5)
    assert torch.allclose(divergence(kept(layout(top_k=k, convention="renormalise")), logits(1)), alone, atol=1e-5)


def test_nearly_all_outputs_are_the_live_teacher_in_value_and_gradient():
    sparse = kept(layout(top_k=V - 1))

    def gradient(loss):
        student = logits(1).requires_grad_()
        value = loss(student)
        value.backward()
        return value.detach(), student.grad

    cached = gradient(lambda s: divergence(sparse, s).sum())
    live = gradient(lambda s: kd_rows(s.flatten(0, 1), logits().flatten(0, 1), 1.0).sum())
    for one, other in zip(cached, live, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_what_is_left_over_is_shared_where_a_whole_distribution_is_asked_for():
    sparse, p = kept(layout(top_k=5)), logits().softmax(-1)
    whole = sparse.dense().softmax(-1)
    top = p.topk(5).indices
    assert torch.allclose(whole.gather(-1, top), p.gather(-1, top), atol=1e-5)
    rest = (1 - p.gather(-1, top).sum(-1)) / (V - 5)
    assert torch.allclose(whole.min(-1).values, rest, atol=1e-5)
    assert torch.allclose(whole.sum(-1), torch.ones(N, L), atol=1e-5)


def test_a_temperature_whose_tail_was_not_kept_is_refused():
    with pytest.raises(
        UserError, match=r"tails at temperature 1, and the strategy asks for 2: cache\.temperatures=\[2\]"
    ):
        divergence(kept(layout(top_k=5)), logits(1), 2.0)


def test_draws_are_a_function_of_the_block_and_come_as_often_as_the_teacher_says():
    many = layout(draws=600)
    teacher, index = logits(), torch.tensor([4, 0, 7])
    one, again, other = (kept(many, teacher, places) for places in (index, index, index + 1))
    assert torch.equal(one.top, again.top) and torch.equal(one.place, again.place)
    assert not torch.equal(one.place, other.place)
    alone = many.narrow(SimpleNamespace(logits=teacher[1:2]), index[1:2])["drawn"]
    assert torch.equal(alone, many.narrow(SimpleNamespace(logits=teacher), index)["drawn"][1:2])
    found = torch.zeros(N, L, V).scatter_add(-1, one.place, torch.where(one.top > NOTHING / 2, one.top.exp(), 0))
    assert (found - teacher.softmax(-1)).abs().max() < 5 * (0.25 / 600) ** 0.5


def test_the_gradient_of_kd_from_draws_is_unbiased():
    student, teacher = logits(1), logits()
    blocks = 400

    def gradient(index):
        own = student.clone().requires_grad_()
        divergence(kept(layout(draws=4), teacher, index), own).sum().backward()
        return own.grad

    drawn = torch.stack([gradient(torch.arange(N) + N * n) for n in range(blocks)])
    exact = student.softmax(-1) - teacher.softmax(-1)
    p = teacher.softmax(-1)
    deviation = (p * (1 - p) / 4 / blocks).sqrt()  # of a share of four draws, over all blocks
    assert ((drawn.mean(0) - exact).abs() < 5 * deviation + 1e-4).all()
    assert drawn.std(0).max() > 0.1, "a single draw is far from exact"


def test_repeated_draws_are_counted():
    place, counts = counted(torch.tensor([[2, 2, 5, 9, 9, 9], [0, 1, 2, 3, 4, 5]]))
    assert place.tolist() == [[2, 5, 9, 0, 0, 0], [0, 1, 2, 3, 4, 5]]
    assert counts.tolist() == [[2, 1, 3, 0, 0, 0], [1] * 6]


def test_an_empty_slot_does_not_take_the_place_of_output_0():
    layout_ = layout(draws=4)
    drawn = torch.zeros(N, L, 4, dtype=torch.long)  # the same token four times: output 0, and three empty slots
    sparse = layout_.widen({"drawn": drawn}).logits
    student = logits(1)
    expected = -student.log_softmax(-1)[..., 0].flatten()
    assert torch.allclose(divergence(sparse, student), expected, atol=1e-5)
    assert torch.equal(sparse.dense().argmax(-1), torch.zeros(N, L, dtype=torch.long))


@pytest.mark.parametrize(
    "about, size",
    [({"top_k": 3}, 14), ({"top_k": 9}, 38), ({"draws": 18}, 36), ({"top_k": 28}, 114), ({}, 2 * 50_000)],
)
def test_bytes_of_a_token(about, size):
    found = TokenLayout(50_000, None, "float16", about.pop("top_k", None), positions=128, **about)
    assert found.record.itemsize == 128 * size


@pytest.mark.parametrize(
    "about, said",
    [
        ({"top_k": V}, "cache.top_k must"),
        ({"draws": 0}, "cache.draws must"),
        ({"draws": 4, "top_k": 4}, "two ways"),
        ({"draws": 4, "temperatures": (2.0,)}, "drawn at temperature 1"),
    ],
)
def test_wrong_numbers_are_one_line(about, said):
    with pytest.raises(UserError, match=said):
        layout(**about)
