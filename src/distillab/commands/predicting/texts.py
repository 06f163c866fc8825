"""Predictions of texts: how many bits each takes, and how it goes on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch

from distillab.commands.predicting.networks import Network
from distillab.commands.predicting.rows import Row
from distillab.core.errors import UserError, printable, reason
from distillab.data.batch import IGNORED
from distillab.data.text.blocks import Blocks, Tokens, pack, tokenise
from distillab.data.text.documents import Document
from distillab.data.text.text_files import HALF
from distillab.evaluation.generation import write, writes
from distillab.evaluation.token_scores import by_document, token_scores
from distillab.models.causal_lm import CausalLM
from distillab.models.model import placed
from distillab.models.trace import evaluation_mode

ENDINGS = (".txt", ".jsonl")
COLUMNS = ("file", "line", "bits_per_byte", "continuation")
BESIDE = ("teacher_bits_per_byte", "teacher_continuation")
DIGITS = 4  # of bits behind the point
AT_ONCE = 8  # blocks of a long text


class Line(NamedTuple):
    """A text in a file, or why it cannot be read; without a number the refusal is of the file."""

    file: str
    number: int | None
    text: str
    refusal: str = ""


class Told(NamedTuple):
    """What a network tells of a text: bits per byte, and what it writes behind it; None where it cannot write."""

    bits_per_byte: float
    continuation: str | None


def lines(files: Sequence[str]) -> Iterator[Line]:
    """The lines of text files and the `text` of each line of .jsonl files, without blank ones."""
    for file in files:
        try:
            # Read one by one: a file may be larger than the memory. A text may hold the other ends of lines.
            with Path(file).open(encoding="utf-8-sig", newline="\n") as opened:
                for number, line in enumerate(opened, 1):
                    if line.strip():
                        yield _line(file, number, line.rstrip("\r\n"))
        except UnicodeDecodeError:
            yield Line(file, None, "", f"{printable(file)} is not UTF-8: convert it, e.g. with iconv")
        except OSError as error:
            yield Line(file, None, "", f"{printable(file)} cannot be read ({error.strerror})")


def _line(file: str, number: int, line: str) -> Line:
    if not file.lower().endswith(".jsonl"):
        return Line(file, number, line)
    where = f"line {number} of {printable(file)}"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Line(file, number, "", f"{where} is no JSON ({reason(error)})")
    text = row.get("text") if isinstance(row, Mapping) else None
    if not isinstance(text, str) or not text.strip():
        return Line(file, number, "", f'{where} has no "text"')
    if HALF.search(text):
        return Line(file, number, "", f"{where} holds half a character")
    return Line(file, number, text)


def told(network: Network, texts: Sequence[str], *, tokens: int) -> list[Told]:
    """Bits per byte of each text, as those of the test, and its likeliest continuation of so many `tokens`."""
    found = tokenise([Document(text) for text in texts], network.tokenizer)
    return [Told(*each) for each in zip(bits(network.model, found), written(network, found, tokens), strict=True)]


@torch.no_grad()
def bits(model: CausalLM, texts: Sequence[Tokens]) -> list[float]:
    """Bits per byte of each text, its end too, read in blocks as those of the training."""
    parts = []
    for place, text in enumerate(texts):  # each from the start of a block: its bits depend on no other text
        blocks = pack([text], model.length)
        parts.append(replace(blocks, documents=torch.where(blocks.documents < 0, blocks.documents, place)))
    blocks = Blocks.joined(parts)
    blocks = blocks.cut(max(1, int((blocks.documents >= 0).sum(1).max())))
    device, scores = placed(model)[0], []
    with evaluation_mode(model):
        for rows in torch.arange(len(blocks)).split(max(AT_ONCE, len(texts))):  # a long text has many blocks
            batch = blocks.batch(rows, 0).to(device)
            kept = batch.labels != IGNORED
            of_rows = (batch.labels[kept], batch.targets["sizes"][kept], batch.inputs[0]["documents"][kept])
            scores.append(token_scores(model.outputs(**batch.inputs[0])[kept], *of_rows))
    numbers, found, sizes = by_document(torch.cat(scores))
    per_text = {int(n): float(b / max(size, 1)) for n, b, size in zip(numbers, found, sizes, strict=True)}
    return [round(per_text[place], DIGITS) for place in range(len(texts))]


def written(network: Network, texts: Sequence[Tokens], new: int) -> list[str | None]:
    """The likeliest continuation of each text, of at most `new` tokens; None each where the network cannot write."""
    model, tokenizer = network.model, network.tokenizer
    if not writes(model):
        return [None] * len(texts)
    keep, new = room(model, new)
    prompts = [torch.from_numpy(text.ids[:-1][-keep:]) for text in texts]  # without the end
    found: list[str | None] = [None] * len(texts)
    for length in {len(prompt) for prompt in prompts}:  # those of one length go together
        places = [place for place, prompt in enumerate(prompts) if len(prompt) == length]
        ids = write(model, torch.stack([prompts[place] for place in places]), new, end=tokenizer.eos_token_id)
        for place, text in zip(places, tokenizer.batch_decode(ids[:, length:], skip_special_tokens=True), strict=True):
            found[place] = text
    return found


def room(model: CausalLM, new: int) -> tuple[int, int]:
    """How many tokens of a text are read, and how many are written behind them: half of a block is read at least."""
    most = getattr(getattr(model.net, "config", None), "max_position_embeddings", None) or model.length
    keep = max(1, model.length - new, model.length // 2)
    return keep, max(1, min(new, most - keep))


def predicted(
    networks: Sequence[Network], found: Iterator[Line], *, batch_size: int, tokens: int
) -> Iterator[tuple[Line, Row | None]]:
    """Each line with its row, None where it cannot be read; the first network is the student, the second its teacher."""
    while some := list(islice(found, batch_size)):
        texts = [line.text for line in some if not line.refusal]
        answers = zip(*(told(one, texts, tokens=tokens) for one in networks), strict=True) if texts else iter(())
        for line in some:
            yield line, None if line.refusal else _row(line, *next(answers))


def _row(line: Line, student: Told, teacher: Told | None = None) -> Row:
    row = dict(zip(COLUMNS, (line.file, line.number, *student), strict=True))
    return row if teacher is None else row | dict(zip(BESIDE, teacher, strict=True))


def check_tokens(networks: Sequence[Network], tokens: int) -> None:
    """Raise UserError where a network has no room for so many tokens behind a text."""
    most = min(room(one.model, tokens)[1] for one in networks)
    if most < tokens:
        raise UserError(f"tokens={tokens} are more than there is room for behind a text: tokens={most}, or less")
