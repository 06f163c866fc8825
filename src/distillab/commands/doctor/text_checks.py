"""Checks of the text alone: its labels, its ends, its mask."""

import torch

from distillab.commands.doctor.examined import Examined, Verdict, fine, refused
from distillab.data.batch import IGNORED
from distillab.data.module import SPLITS
from distillab.data.text.blocks import PADDING, pack, tokenise
from distillab.data.text.documents import Document

DIALOGUE = (("Is it green?", "Yes, it is."), ("And blue?", "No, never."))


def labels(seen: Examined) -> Verdict:
    """A label is the token that follows in the same document, and padding has none, in all splits."""
    total = 0
    for split in SPLITS:
        blocks = seen.text(split)
        kept = blocks.labels != IGNORED
        if padded := int((kept & (blocks.documents == PADDING)).sum()):
            return refused(
                f"{padded} positions of padding in {split} have a label: give them data.batch.IGNORED ({IGNORED})"
            )
        inside = kept[:, :-1]
        follows = blocks.documents[:, 1:] == blocks.documents[:, :-1]
        wrong = inside & ((blocks.labels[:, :-1] != blocks.ids[:, 1:]) | ~follows)
        if count := int(wrong.sum()):
            return refused(
                f"{100 * count / int(inside.sum()):.3g} % of the labels of {split} are not the token that follows in their "
                f"document: shift ids and mask together"
            )
        total += int(kept.sum())
    return fine(f"{total:,} of them are the tokens that follow in their documents")


def learned(seen: Examined) -> Verdict:
    """Of a probe all answers are learned, in whole, and nothing else."""
    tokenizer, spoken = seen.data.info.tokenizer, seen.data.collection.conversations
    if spoken:
        turns = [({"role": "user", "content": q}, {"role": "assistant", "content": a}) for q, a in DIALOGUE]
        probe = Document("", messages=tuple(message for turn in turns for message in turn))
        wanted = " ".join(answer for _, answer in DIALOGUE)
    else:
        wanted = " ".join(answer for _, answer in DIALOGUE)
        probe = Document(wanted)
    blocks = pack(tokenise([probe], tokenizer), 16)
    found = blocks.labels[blocks.labels != IGNORED]
    told = tokenizer.decode(found, skip_special_tokens=True)
    if "".join(told.split()) != "".join(wanted.split()):
        where = "the generation markers of the chat template" if spoken else "the tokenizer (data.tokenizer=…)"
        return refused(f'of a text "{wanted}" is learned "{told}": look at {where}')
    stops = torch.isin(found, torch.tensor(seen.ends)).sum()
    if not stops or (spoken and stops < len(DIALOGUE)):
        where = "move the end token before {% endgeneration %} in the chat template" if spoken else "learn the eos"
        return refused(f"the token that ends a text is not learned, and the student would not stop: {where}")
    return fine("answers and their ends, and nothing else" if spoken else "whole documents and their ends")


def ends_of_texts(seen: Examined) -> Verdict:
    """Some labels are the end of a text, also where the end is the padding."""
    blocks = seen.text("all")
    found = blocks.labels[blocks.labels != IGNORED]
    count = int(torch.isin(found, torch.tensor(seen.ends)).sum())
    if not count:
        return refused(
            "no label ends a text, and the student would never stop: mask padding by its place and not by its id, which is "
            "often the eos's too"
        )
    return fine(f"{count:,} of {len(found):,} labels end a text")


TEXT_CHECKS = {"labels": labels, "what is learned": learned, "ends of texts": ends_of_texts}
