"""Checks of the networks: vocabulary, ends, labels, packing, quality."""

import torch
from torch import Tensor
from torch.nn import functional as F

from distillab.commands.doctor.examined import Examined, Verdict, fine, refused, warning
from distillab.data.batch import IGNORED
from distillab.models.causal_lm import CausalLM
from distillab.models.logit_rows import dense

UNDECIDED = 0.05  # nats between two losses that say nothing
LEAK = 1e-3  # of the logits' spread


def vocabulary(seen: Examined) -> Verdict:
    """Both models give one output for each token, and none for padding of their heads."""
    heads = []
    for role, model in seen.models.items():
        own = seen.read_by(role)
        tokens, inputs = own.data.info.vocabulary, own.batch(own.blocks).inputs[0]
        with torch.no_grad():
            sizes = {model(**inputs).shape[-1], model.outputs(**inputs).shape[-1]}
        if sizes != {tokens}:
            found = ", ".join(map(str, sorted(sizes)))
            return refused(
                f"the {role} gives {found} outputs and the tokenizer has {tokens} tokens: cut the others off before any "
                f"softmax, on both sides"
            )
        outputs = model.net.get_output_embeddings().weight.shape[0] if model.hugging else tokens
        heads.append(
            f"{role} {outputs}" if tokens == seen.data.info.vocabulary else f"{role} {outputs} for {tokens} tokens"
        )
    return fine(f"{seen.data.info.vocabulary} tokens; outputs of the heads: {', '.join(heads)}")


def ends_of_teacher(seen: Examined) -> Verdict:
    """What ends a text in the data ends one for the teacher too."""
    if not seen.teacher_ends or not seen.ready_made:
        return fine("the teacher learned them from this text" if not seen.ready_made else "the teacher names none")
    seen = seen.read_by("teacher")
    own = seen.data.info.tokenizer.eos_token_id
    known = [seen.data.info.tokenizer.convert_ids_to_tokens(one) for one in seen.teacher_ends]
    if own not in seen.teacher_ends:
        return refused(
            f"the text ends with {seen.data.info.tokenizer.eos_token} ({own}), and the teacher ends with "
            f"{', '.join(map(str, known))} ({', '.join(map(str, seen.teacher_ends))}): set eos_token in the tokenizer's "
            f"config, or eos_token_id in generation_config.json, or teacher.adapt=all"
        )
    return fine(f"the text's eos {own} is one of the teacher's")


def shift(seen: Examined) -> Verdict:
    """The teacher is better on the labels than on those one position earlier or later."""
    seen = seen.read_by("teacher")
    batch = seen.batch(seen.held_out)
    kept = F.pad(batch.labels != IGNORED, (1, 1))
    middle = kept[:, :-2] & kept[:, 1:-1] & kept[:, 2:]
    with torch.no_grad():
        log_p = dense(seen.teacher.outputs(**batch.inputs[0])[middle]).log_softmax(-1)
    padded = F.pad(batch.labels, (1, 1), value=IGNORED)
    moved = {place: padded[:, 1 + place : 1 + place + middle.shape[1]][middle] for place in (-1, 0, 1)}
    nats = {place: -log_p.gather(-1, to[:, None]).mean().item() for place, to in moved.items()}
    best = min(nats, key=nats.get)
    told = ", ".join(f"{nats[place]:.2f} nats at shift {place:+d}" for place in (-1, 0, 1)).replace("+0", "0")
    if best == 0:
        return fine(told)
    if nats[0] - nats[best] < UNDECIDED or not nats[best] < _of_frequencies(
        seen
    ):  # tied heads repeat their input at first
        return warning(
            f"the teacher does not tell the labels from their neighbours ({told}): it may know nothing of this text"
        )
    return refused(f"the labels are off by one: the teacher's loss is {told}; label the token that follows")


def _leak(model: CausalLM, one: Tensor, other: Tensor) -> float:
    """How far logits of two documents (N, l) change where they share a block, as a share of their spread."""
    length = one.shape[1]
    numbers = torch.zeros_like(one)
    with torch.no_grad():
        alone = [dense(model.outputs(input_ids=ids, documents=numbers)) for ids in (one, other)]
        both = {"input_ids": torch.cat([one, other], 1), "documents": torch.cat([numbers, numbers + 1], 1)}
        packed = dense(model.outputs(**both))
    gap = max((packed[:, :length] - alone[0]).abs().max(), (packed[:, length:] - alone[1]).abs().max())
    return (gap / alone[0].std(-1).mean().clamp(min=1e-9)).item()


def packing(seen: Examined) -> Verdict:
    """Two documents in one block have the losses that they have alone."""
    found = {}
    for role, model in seen.models.items():
        own = seen.read_by(role)
        ids = own.batch(own.blocks).inputs[0]["input_ids"]
        half = ids.shape[1] // 2
        most = LEAK if model.held_in in (None, torch.float32) else 50 * LEAK
        found[role] = _leak(model, ids[:, :half], ids.roll(1, 0)[:, half : 2 * half])
        if not found[role] < most:
            what = f"the {role} sees across the documents of a block (its logits move by {found[role]:.2g} of their spread)"
            if model.hugging:
                return refused(f"{what}: give it the mask and the positions of models.causal_lm.packed")
            return warning(f"{what}: a network without an attention mask is best used with one document to a block")
    return fine("; ".join(f"{role} {gap:.1g}" for role, gap in found.items()) + " of the logits' spread")


def _of_frequencies(seen: Examined) -> float:
    """The loss of a model that knows how often each token is learned, and nothing else, on the held-out blocks."""
    train = seen.text().labels
    counts = torch.bincount(train[train != IGNORED], minlength=seen.data.info.vocabulary) + 1.0
    held = seen.held_out.labels[seen.held_out.labels != IGNORED]
    return -(counts / counts.sum()).log()[held].mean().item()


def quality(seen: Examined) -> Verdict:
    """The teacher is better than the untrained student and than the frequencies of the tokens."""
    own = seen.read_by("teacher")
    teacher, others = own.nats(seen.teacher, own.held_out), {"token frequencies": _of_frequencies(own)}
    if seen.one_tokenizer:  # else their tokens are of different lengths
        others = {"the student": seen.nats(seen.student, seen.held_out)} | others
    told = ", ".join(f"{name.removeprefix('the ')} {nats:.2f}" for name, nats in {"teacher": teacher, **others}.items())
    told += " nats a token"
    better = [name for name, other in others.items() if not teacher < other]
    if not better:
        return fine(told)
    mend = (
        "teacher.adapt=all trains it on this text first" if seen.ready_made else "more teacher.recipe.epochs may help"
    )
    return warning(f"the teacher is no better than {' and '.join(better)} on this text ({told}): {mend}")


TEACHER_CHECKS = {
    "ends of the teacher": ends_of_teacher,
    "shift": shift,
    "teacher and student": quality,
}
MODEL_CHECKS = {"vocabulary": vocabulary, "packing": packing}
