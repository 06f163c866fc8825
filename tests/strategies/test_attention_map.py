"""Attention as the teacher's: its scores, its distributions, and relations of vectors (attention_map)."""

import math

import pytest
import torch
from helpers.method_checks import Case
from helpers.method_tester import MethodTester
from helpers.numbers import draw, kl, softmax
from helpers.texts import tiny_llama

from distillab import Distillation, functional
from distillab.core.errors import UserError
from distillab.data.batch import IGNORED
from distillab.models.causal_lm import CausalLM
from distillab.strategies.attention_map import AttentionMap
from distillab.tasks.causal_lm import LanguageModeling

N, HEADS, L, V = 2, 3, 4, 64
COUNTS = torch.tensor([[True, True, True, False], [False, True, False, True]])
# Causal, and in the second sample two documents of two positions each.
MASK = torch.ones(N, L, L).tril().bool() & COUNTS[:, :, None]
MASK[1, 2:, :2] = False
SCORES = {"student": {"s": draw(N, HEADS, L, L)}, "teacher": {"t": draw(N, HEADS, L, L, seed=1)}}
VALUES = {"student": {"s": draw(N, HEADS, L, 2)}, "teacher": {"t": draw(N, HEADS, L, 5, seed=1)}}


def over_rows(of_row, s, t, mask=None):
    """The mean over heads and positions that look of a function of two rows, at the places that are looked at."""
    rows = []
    for n, h, i in ((n, h, i) for n in range(len(s)) for h in range(s.shape[1]) for i in range(s.shape[2])):
        seen = [j for j in range(s.shape[2]) if mask is None or mask[n, i, j]]
        if seen:
            rows.append(of_row(s[n, h], t[n, h], i, seen))
    return sum(rows) / len(rows)


def mse(s, t, mask=None):
    return over_rows(lambda a, b, i, seen: sum((a[i, j] - b[i, j]) ** 2 for j in seen) / len(seen), s, t, mask)


def of_scores(s, t, mask=None):
    return over_rows(lambda a, b, i, seen: kl(softmax(b[i, seen]), softmax(a[i, seen])), s, t, mask)


def of_vectors(s, t, mask=None):
    def of_row(a, b, i, seen):
        return kl(*(softmax(x[seen] @ x[i] / math.sqrt(x.shape[-1])) for x in (b, a)))

    return over_rows(of_row, s, t, mask)


def both(reference, inputs):
    return [Case(reference, **inputs), Case(reference, **inputs, rest={"mask": MASK}, rows=False)]


class TestAttentionMap(MethodTester):
    text_configs = ("attention_map",)
    cases = {
        "attention_mse": both(mse, SCORES),
        "attention_kl": both(of_scores, SCORES),
        "relation_kl": both(of_vectors, VALUES),
    }
    mutations = [
        ("attention_mse", "(s - t).masked_fill(~seen, 0)", "(s - t)", "what is not looked at"),
        ("attention_mse", "squares.sum(-1) / seen.sum(-1)", "squares.mean(-1)", "divided by what is not looked at too"),
        ("attention_mse", ".square()", ".abs()", "absolute, not squared"),
        ("attention_kl", "kl(log_p, log_q)", "kl(log_q, log_p)", "KL turned round"),
        ("attention_kl", "x.masked_fill(~seen, LEAST).log_softmax", "x.log_softmax", "what is not looked at"),
        ("attention_kl", "looks = mask.any(-1)", "looks = torch.ones_like(mask.any(-1))", "all positions"),
        ("relation_kl", " / x.shape[-1] ** 0.5", "", "√d dropped"),
        ("relation_kl", "kl_rows(*products, mask)", "kl_rows(*products, None)", "all related to all"),
    ]


@pytest.mark.parametrize("name", TestAttentionMap.cases)
def test_equal_models_cost_nothing_and_no_position_that_counts_neither(name):
    same, call = draw(N, HEADS, L, L).requires_grad_(), getattr(functional, name)
    assert call(same, same, MASK).item() == pytest.approx(0, abs=1e-14)
    value = call(same, draw(N, HEADS, L, L, seed=1), torch.zeros(N, L, L, dtype=torch.bool))
    value.backward()
    assert value == 0 and not same.grad.any()


@pytest.mark.parametrize("name", TestAttentionMap.cases)
def test_what_is_not_looked_at_does_not_matter(name):
    """Neither what the mask adds to the scores there, nor a number that is none."""
    s, t = (draw(N, HEADS, L, L), draw(N, HEADS, L, L, seed=1))
    mask = MASK.clone()
    mask[0, :, 1] = mask[0, 1] = False
    first = getattr(functional, name)(s, t, mask)
    for x in (s, t):
        if name == "relation_kl":
            x[0, :, 1] = torch.nan
        else:
            x.movedim(1, 3)[~mask] = torch.finfo(torch.float32).min
            x[0, :, 1] = torch.nan
    value = getattr(functional, name)(s.requires_grad_(), t, mask)
    value.backward()
    assert value == first and torch.isfinite(s.grad).all()


@pytest.mark.parametrize("name", TestAttentionMap.cases)
def test_arguments_that_do_not_go_together_are_refused(name):
    call, one = getattr(functional, name), draw(N, HEADS, L, L)
    for other in (one[:, :2], one[:1], one[0]):
        with pytest.raises(UserError, match="s and t must be"):
            call(one, other)
    for wrong in (MASK.long(), COUNTS, MASK[:1]):
        with pytest.raises(UserError, match=r"mask must be bool \(2, 4, 4\)"):
            call(one, one, wrong)


# ---------------------------------------------------------------------- the term

BLOCK = 12


def module(student=None, teacher=None, **numbers):
    """Of a student of two layers and a teacher of four."""
    student = CausalLM(tiny_llama(seed=1, **(student or {})), V, BLOCK, "small")
    teacher = CausalLM(tiny_llama(seed=2, **({"layers": 4, "hidden_size": 32} | (teacher or {}))), V, BLOCK, "large")
    return Distillation(student, teacher, {"attention_map": AttentionMap(1.0, **numbers)}, LanguageModeling())


def batch(made):
    """Two blocks of two documents, some positions of which have no label."""
    found = made.task.example_batch(made.student)
    found.inputs[0]["documents"][:, 7:] = 1
    found.labels[:, 6] = found.labels[0, :3] = IGNORED
    return found


def maps(model, inputs):
    """Attention as transformers shows it, (layers, N, heads, L, L)."""
    model.net.set_attn_implementation("eager")
    found = torch.stack(model.net(**model._arguments(**inputs), output_attentions=True).attentions)
    model.net.set_attn_implementation("sdpa")
    return found


def counted(whole):
    """What each position sees, where it has a label."""
    documents = whole.inputs[0]["documents"]
    seen = (documents[:, :, None] == documents[:, None]) & torch.ones(BLOCK, BLOCK).tril().bool()
    return seen & (whole.labels != IGNORED)[:, :, None]


GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize("heads", [{}, GROUPED], ids=["all heads", "grouped queries"])
@torch.no_grad()
def test_relations_are_those_of_the_maps_and_values_of_the_last_layers(heads):
    made = module(heads, {"num_attention_heads": heads.get("num_attention_heads", 2)})
    whole, sides = batch(made), []
    for model in (made.student, made.teacher.model):
        read = {}
        hook = model.net.model.layers[-1].self_attn.v_proj.register_forward_hook(lambda *a, r=read: r.update(v=a[-1]))
        probabilities = maps(model, whole.inputs[0])[-1]
        model(**whole.inputs[0])
        hook.remove()
        number, groups = probabilities.shape[1], model.net.config.num_key_value_heads
        values = read["v"].unflatten(2, (groups, -1)).transpose(1, 2).repeat_interleave(number // groups, 1)
        sides.append((probabilities.double().log().nan_to_num(neginf=-1e9).numpy(), values.double().numpy()))
    mask = counted(whole)
    (s_map, s_values), (t_map, t_values) = sides
    expected = of_scores(s_map, t_map, mask) + of_vectors(s_values, t_values, mask)
    assert made.losses(whole, ("attention_map",))["attention_map"].item() == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_scores_are_those_of_the_layers_that_tinybert_pairs():
    """Student layer i with teacher layer 2 i + 1; their softmax is the map, so that they are known up to a shift."""
    made = module(match="scores")
    whole = batch(made)
    assert made.strategy.terms["attention_map"].pairs == [(0, 1), (1, 3)]
    read = [made.extractors[0](**whole.inputs[0]).attentions, made.teacher(whole)[0].attentions]
    for model, found in zip((made.student, made.teacher.model), read, strict=True):
        for layer, one in zip(maps(model, whole.inputs[0]), found, strict=True):
            assert torch.allclose(one.scores.masked_fill(~one.seen[:, None], -1e9).softmax(-1), layer, atol=1e-5)
    expected = sum(
        mse(read[0][i].scores.numpy(), read[1][j].scores.numpy(), counted(whole)) for i, j in ((0, 1), (1, 3))
    )
    assert made.losses(whole, ("attention_map",))["attention_map"].item() == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_heads_that_are_cut_anew_take_models_of_other_numbers_of_heads():
    made = module(GROUPED, {"num_attention_heads": 8, "num_key_value_heads": 8}, relation_heads=2)
    whole, expected = batch(made), 0.0
    read = [made.extractors[0](**whole.inputs[0]).attentions[-1], made.teacher(whole)[0].attentions[-1]]
    for name in ("queries", "keys", "values"):
        joined = (torch.cat(list(getattr(one, name).movedim(1, 0)), -1) for one in read)
        expected += of_vectors(*(torch.stack(x.chunk(2, -1), 1).numpy() for x in joined), counted(whole))
    assert made.losses(whole, ("attention_map",))["attention_map"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("match", ["scores", "relations"])
def test_unequal_numbers_of_heads_are_refused_with_what_mends_it(match):
    made = module(GROUPED, match=match)
    said = rf"match={match} compares head by head, and small has 4 heads where large has 2: .*relation_heads=4"
    with pytest.raises(UserError, match=said):
        made.losses(batch(made), ("attention_map",))
    with pytest.raises(UserError, match="must divide small's 16 channels of attention, got 3; 4 does"):
        other = module(GROUPED, relation_heads=3)
        other.losses(batch(other), ("attention_map",))


@pytest.mark.parametrize("numbers", [{}, {"match": "scores"}, {"relation_heads": 4}])
def test_it_trains_the_student_and_not_the_teacher(numbers):
    made = module(**numbers)
    layers = made.student.net.model.layers
    made.losses(batch(made), ("attention_map",))["attention_map"].backward()
    last = layers[-1].self_attn
    for projection in (last.q_proj, last.k_proj, *([] if "match" in numbers else [last.v_proj]), layers[0].mlp.up_proj):
        assert torch.isfinite(projection.weight.grad).all() and projection.weight.grad.any()
    assert all(parameter.grad is None for parameter in made.teacher.parameters())


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"match": "maps"}, "match must be one of relations, scores"),
        ({"relation_heads": 0}, "relation_heads must be a whole number from 1"),
        ({"match": "scores", "relation_heads": 2}, "match=scores takes relation_heads=null"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(numbers, said):
    with pytest.raises(UserError, match=said):
        AttentionMap(**numbers)
