"""A causal language model of transformers that writes text in this process."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from distillab.core.errors import UserError, reason
from distillab.core.places import folder_or_name
from distillab.core.ready_made import read_causal_lm, read_tokenizer
from distillab.core.weights import add_weights
from distillab.data.text.synthetic.config import Generation
from distillab.data.text.synthetic.rows import Report, Row
from distillab.data.text.synthetic.sampling import NO_NUMBERS, Drawn, Limits, prove, sample
from distillab.data.text.tokenizer import ends

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load(config: Generation) -> "LocalTeacher":
    """The teacher of a folder or of the hub. Raises UserError where there is none that can be read."""
    from transformers.utils import logging

    place = folder_or_name(config.teacher, "teacher")
    logging.disable_progress_bar()  # of the loading of weights
    try:
        tokenizer = read_tokenizer(place)
        net = read_causal_lm(place, dtype=getattr(torch, config.dtype))
        net = net.to(_device(config.device))
    except Exception as error:  # of transformers, safetensors, the hub, a device: each has its own
        raise UserError(f"teacher={place} cannot be loaded ({reason(error)}); set teacher=… or device=…") from error
    return LocalTeacher(net, tokenizer, config)


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


class LocalTeacher:
    """Writes with a network and its tokenizer."""

    url = None

    def __init__(self, net: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: Generation) -> None:
        self.net, self.tokenizer, self.config = net.eval(), tokenizer, config
        self.name, self.hash = config.teacher, teacher_hash(net, tokenizer)
        self.device = net.device.type
        outputs = net.get_output_embeddings().weight.shape[0]
        if outputs < len(tokenizer):
            raise UserError(f"{self.name} has {outputs} outputs and its tokenizer {len(tokenizer)} tokens; teacher=…")
        # A vocabulary that is padded to a round number has ids that are no tokens.
        self.limits = Limits(_ends(net, tokenizer), len(tokenizer), config.use_cache)

    def check(self, prompts: Sequence[str]) -> None:
        """Raise UserError for a prompt from which nothing can be written, or not enough."""
        prove(self.net, self.limits, self.config.batch_size)
        most, new = getattr(self.net.config, "max_position_embeddings", None), self.config.sampling.max_new_tokens
        for number, prompt in enumerate(prompts, 1):
            count = len(self.encode(prompt))
            if count == 0:
                raise UserError(f"prompt {number} has no tokens; write it out, or use source=bos")
            if most is not None and count + new > most:
                what = f"prompt {number} has {count} tokens, and with sampling.max_new_tokens={new} that is more than"
                mend = f"set sampling.max_new_tokens={most - count}" if count < most else "shorten the prompt"
                raise UserError(f"{what} the {most} positions of {self.name}; {mend}")

    def encode(self, prompt: str) -> list[int]:
        """The ids from which the teacher goes on."""
        tokenizer, source = self.tokenizer, self.config.source
        if source == "bos":
            # Where a tokenizer has no token for the beginning, the one that ends a text separates two.
            begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
            return [] if begin is None else [begin]
        if self.config.chat:
            return self._message(prompt)
        ids = list(tokenizer(prompt, verbose=False)["input_ids"])
        while len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
            ids.pop()
        if source == "documents":
            begins = len(ids) > 0 and ids[0] == tokenizer.bos_token_id
            ids = ids[: self.config.prefix_tokens + begins]
        return ids

    def _message(self, prompt: str) -> list[int]:
        if not self.tokenizer.chat_template:
            raise UserError(f"{self.name} has no chat template; set chat=false")
        message = [{"role": "user", "content": prompt}]
        try:
            said = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template is a program, of whoever made the model
            raise UserError(f"the chat template of {self.name} fails ({reason(error)}); set chat=false") from error
        return list(self.tokenizer(said, add_special_tokens=False)["input_ids"])

    def write(self, prompts: Iterator[tuple[int, str]], report: Report) -> list[Row]:
        """A row for each row number and prompt, in their order; in batches of prompts of about one length."""
        waiting = [(number, prompt, self.encode(prompt)) for number, prompt in prompts]
        waiting.sort(key=lambda one: len(one[2]))  # stable: the batches are the same in every run
        found: dict[int, Row] = {}
        for start in range(0, len(waiting), self.config.batch_size):
            batch = waiting[start : start + self.config.batch_size]
            numbers, _, ids = zip(*batch, strict=True)
            try:
                drawn = sample(self.net, ids, numbers, (self.config.sampling, self.limits), report=report)
            except torch.OutOfMemoryError as error:
                size = self.config.batch_size
                raise UserError(
                    f"batch_size={size} does not fit into memory; set batch_size={size // 2 or 1}"
                ) from error
            for (number, prompt, given), one in zip(batch, drawn, strict=True):
                found[number] = self._row(number, prompt, given, one)
        return [found[number] for number in sorted(found)]

    def _row(self, number: int, prompt: str, given: list[int], drawn: Drawn) -> Row:
        if math.isnan(drawn.mean_logprob):
            raise UserError(NO_NUMBERS)
        text = self._decode(drawn.ids)
        if self.config.source == "documents":
            # Decoded as a whole: some tokenizers leave out the space before the first word.
            prompt, text = self._decode(given), self._decode([*given, *drawn.ids])
        finish = "stop" if drawn.ended else "length"
        return Row(number, prompt, text, finish, len(drawn.ids), len(given), _exp(-drawn.mean_logprob))

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _ends(net: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """The ids that end a text: the tokenizer's, and those that the model names for generation."""
    return tuple(ends(tokenizer, getattr(getattr(net, "generation_config", None), "eos_token_id", None)))


def teacher_hash(net: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> str:
    """SHA-256 of weights and buffers, of the network's structure and of the tokenizer, 16 digits."""
    digest = hashlib.sha256(f"{net}\n{sorted(tokenizer.get_vocab().items())}{tokenizer.chat_template}".encode())
    add_weights(digest, net)
    return digest.hexdigest()[:16]
