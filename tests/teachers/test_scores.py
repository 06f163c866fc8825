"""What servers answer, line by line: both forms, and every way in which an answer is none."""

import json
import math

import numpy as np
import pytest
import torch

from distillab.core.errors import UserError
from distillab.data.batch import IGNORED
from distillab.data.text.blocks import Blocks
from distillab.data.text.requests import pieces
from distillab.teachers.filing import nothing_known
from distillab.teachers.scores import Line, read_scores, told
from distillab.teachers.token_layout import TokenLayout

IDS = [5, 2, 7]
VLLM = [
    None,
    {"2": {"logprob": -0.5, "rank": 1}, "9": {"logprob": -1.5}},
    {"3": {"logprob": -0.1}, "7": {"logprob": -4.0}},
]
SGLANG = [None, [[-0.5, 2, None], [-1.5, 9, None]], [[-0.1, 3, "x"], [-4.0, 7, "y"]]]


def line(**changes):
    row = {"id": "a-0-0", "token_ids": IDS, "prompt_logprobs": VLLM} | changes
    return Line("scores.jsonl, line 1", {key: value for key, value in row.items() if value is not ...})


def read(given, keep=2):
    return told(given, np.array(IDS), keep=keep, vocabulary=10)


@pytest.mark.parametrize("given", [{}, {"prompt_logprobs": ..., "input_top_logprobs": SGLANG}])
def test_both_forms_tell_the_same(given):
    found = read(line(**given))
    assert found.tokens.tolist() == [[2, 9], [3, 7]] and found.log_p.tolist() == [[-0.5, -1.5], [-0.1, -4.0]]
    assert read(line(**given), keep=1).tokens.tolist() == [[2], [3]]


def test_the_own_token_of_a_prompt_is_no_likely_one():
    more = [None, {**VLLM[1], "1": {"logprob": -0.9}}, VLLM[2]]
    assert read(line(prompt_logprobs=more)).tokens.tolist() == [[2, 1], [3, 7]], (
        "by their log-probability, not by their place"
    )


def sglang(**changes):
    return {"prompt_logprobs": ..., "input_top_logprobs": SGLANG} | changes


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"token_ids": [5, 2]}, "token_ids are not those of the request a-0-0"),
        ({"token_ids": ...}, "token_ids are not those"),
        ({"prompt_logprobs": ...}, "it needs prompt_logprobs or input_top_logprobs .* has nothing else"),
        ({"prompt_logprobs": ..., "logprobs": []}, "has logprobs"),
        ({"prompt_logprobs": VLLM[:2]}, "has 2 positions for 3 tokens"),
        ({"prompt_logprobs": {}}, "has dict for 3 tokens"),
        ({"prompt_logprobs": VLLM[1:] + VLLM[1:2]}, "starts with null"),
        ({"prompt_logprobs": [None, None, VLLM[2]]}, "position 1 is null"),
        ({"prompt_logprobs": [None, {"2": -0.5}, VLLM[2]]}, "position 1 is neither"),
        ({"prompt_logprobs": [None, VLLM[2], VLLM[1]]}, "position 1 the server has scored another token"),
        (
            {"prompt_logprobs": [None, {**VLLM[1], "10": {"logprob": -9}}, VLLM[2]]},
            "token 10 is none of the tokenizer's 10",
        ),
        (
            {"prompt_logprobs": [None, {"2": {"logprob": 0.7}, "9": {"logprob": -1}}, VLLM[2]]},
            "0.7 is no log-probability",
        ),
        (sglang(input_top_logprobs=[None, [[-0.5, 2.7, ""], [-1.5, 9, ""]], SGLANG[2]]), "position 1 is neither"),
        (
            {"prompt_logprobs": [None, {"2": {"logprob": -math.inf}, "9": {"logprob": -math.inf}}, VLLM[2]]},
            "all tokens have a probability of 0",
        ),
        (
            {"prompt_logprobs": [None, {"2": {"logprob": math.nan}, "9": {"logprob": -1}}, VLLM[2]]},
            "nan is no log-prob",
        ),
        (
            {"prompt_logprobs": [None, {"2": {"logprob": -0.1}, "9": {"logprob": -0.1}}, VLLM[2]]},
            "sum to 1.81, above 1",
        ),
        (
            {"prompt_logprobs": [None, {"2": {"logprob": -0.1}}, VLLM[2]]},
            r"1 tokens and the cache keeps 2: cache\.top_k=1",
        ),
        (sglang(input_top_logprobs=[None, [[-0.5, 2, None], [-1, 2, None]], SGLANG[2]]), "a token stands twice"),
        (sglang(input_top_logprobs=[None, [-0.5, 2], SGLANG[2]]), "position 1 is neither"),
        (sglang(input_top_logprobs=[]), "has 0 positions for 3 tokens.*logprob_start_len=0"),
        (sglang(input_token_logprobs=[[None, 5, None], [-1, 4, None], [-1, 7, None]]), "scored another token"),
    ],
)
def test_what_is_no_answer_is_one_line(changes, said):
    with pytest.raises(UserError, match=said) as caught:
        read(line(**changes))
    assert str(caught.value).startswith("scores.jsonl, line 1") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, said",
    [
        ('{"id": "a"}\n{"id": "b', "line 2 is a half-written line"),
        ("{]\n", "line 1 is no JSON"),
        ("[1]\n", "is no object"),
        ("[" * 200_000, "line 1 is a half-written line"),
    ],
)
def test_broken_lines_are_named(text, said, tmp_path):
    (tmp_path / "s.jsonl").write_text(text)
    with pytest.raises(UserError, match=said):
        list(read_scores(tmp_path / "s.jsonl"))


def test_blank_lines_and_a_byte_order_mark_are_passed_over(tmp_path):
    (tmp_path / "s.jsonl").write_text("\ufeff" + json.dumps({"id": "a"}) + "\n\n")
    assert [one.row["id"] for one in read_scores(tmp_path / "s.jsonl")] == ["a"]


def test_pieces_end_with_the_label_of_the_next_block_and_leave_out_what_is_not_learned():
    x = IGNORED
    columns = (
        ([1, 2, 3, 4, 5, 6], [2, x, x, x, 6, 7], [0, 0, 1, 1, 2, 2]),
        ([7, 8, 0, 0, 0, 0], [8, x, x, x, x, x], [2, 2] + 4 * [-1]),
    )
    ids, labels, documents = (torch.tensor([block[place] for block in columns]) for place in range(3))
    found = [(one.block, one.start, one.ids.tolist()) for one in pieces(Blocks(ids, labels, documents, labels))]
    assert found == [(0, 0, [1, 2]), (0, 4, [5, 6, 7]), (1, 0, [7, 8])]


@pytest.mark.parametrize("about", [{"top_k": 3}, {}])
def test_positions_that_nobody_learns_hold_a_distribution(about):
    layout = TokenLayout(10, None, "float32", about.get("top_k"), positions=4)
    found = layout.decode(nothing_known(layout)).logits
    whole = (found.dense() if about else found).softmax(-1)
    assert torch.allclose(whole, torch.full((1, 4, 10), 0.1), atol=1e-6)


def test_what_k_tokens_leave_over_is_the_tail_of_the_whole_distribution():
    log_p = (2 * torch.randn(6, 20, generator=torch.Generator().manual_seed(0))).double().log_softmax(-1)
    layout = TokenLayout(20, None, "float32", 5, positions=6)
    found, exact = layout.scored(*log_p.topk(5)), log_p.sort(-1, descending=True).values[:, 5:].logsumexp(-1)
    assert torch.allclose(found["tail"][:, 0].double(), exact, atol=1e-6)
    sure = layout.scored(torch.tensor([[0.0, -50, -60, -70, -80]]).double(), torch.arange(5)[None])
    assert sure["tail"].isfinite().all() and sure["tail"].item() < -1000
