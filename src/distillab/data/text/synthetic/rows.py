"""A row of synthetic text, and whom and what it is from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from distillab.data.text.synthetic.config import Generation


@dataclass(frozen=True)
class Row:
    """One text. Tokens are counted by the teacher; None where a server does not tell, as with the perplexity."""

    row: int  # its number in the root
    prompt: str
    text: str
    finish: str  # "stop": the teacher ended the text; "length": the limit did
    tokens: int | None
    prompt_tokens: int | None
    perplexity: float | None  # of what the teacher wrote, under the teacher at temperature 1

    @property
    def words(self) -> list[str]:
        """The words of the text, in lower case and without punctuation."""
        return words(self.text)


def words(text: str) -> list[str]:
    """The words of a text, in lower case and without punctuation."""
    return "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()


@dataclass(frozen=True)
class Origin:
    """All that a text depends on besides its row number and its prompt; a root holds text of one."""

    teacher: str
    teacher_hash: str | None  # of weights, structure and tokenizer; None for a server
    served_at: str | None  # the server's address; None for a network in this process
    source: str
    source_hash: str  # of all prompts
    prefix_tokens: int | None  # None where the source is no documents
    chat: bool
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int
    dtype: str | None
    shard_rows: int

    @classmethod
    def of(cls, config: Generation, writer: "Writer", source_hash: str) -> "Origin":
        """The origin of the texts that a config asks for."""
        how = config.sampling
        return cls(
            teacher=writer.name,
            teacher_hash=writer.hash,
            served_at=writer.url,
            source=config.source,
            source_hash=source_hash,
            prefix_tokens=config.prefix_tokens if config.source == "documents" else None,
            chat=config.chat,
            temperature=float(how.temperature),
            top_p=float(how.top_p),
            max_new_tokens=how.max_new_tokens,
            seed=how.seed,
            dtype=None if writer.url else config.dtype,
            shard_rows=config.shard_rows,
        )


Report = Callable[[int, int], None]  # is told of so many new tokens and new rows as soon as they are written


class Writer(Protocol):
    """Who writes: a network in this process, or a server."""

    name: str
    hash: str | None
    url: str | None
    device: str

    def check(self, prompts: Sequence[str]) -> None:
        """Raise UserError for a prompt from which nothing can be written."""

    def write(self, prompts: Iterator[tuple[int, str]], report: Report) -> list[Row]:
        """A row for each row number and prompt, in their order."""
        ...
