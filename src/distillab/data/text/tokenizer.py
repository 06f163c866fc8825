"""Tokenizers: of a file, of a model's folder or the hub, or trained on the training text."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from distillab.core.errors import UserError, reason
from distillab.core.places import folder_or_name, located
from distillab.core.ready_made import Unreachable, read_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END = "<|endoftext|>"  # ends a document, and stands before it where a tokenizer has no token for its beginning


def load_tokenizer(place: str, key: str = "data.tokenizer") -> "PreTrainedTokenizerBase":
    """The tokenizer of a tokenizer.json, a folder or the hub, which `key` names. UserError where none can be used."""
    from transformers import PreTrainedTokenizerFast

    path = located(place, key)
    try:
        if path.is_file():
            found = PreTrainedTokenizerFast(tokenizer_file=str(path))
            if found.eos_token is None and END in found.get_vocab():
                found.eos_token = END
        else:
            found = read_tokenizer(folder_or_name(place, key))
    except Unreachable as error:
        raise UserError(f"{key}: {error}: {key}=…") from error
    except Exception as error:  # tokenizers raises plain exceptions
        raise UserError(f"{key}: {place} holds no tokenizer that can be read ({reason(error)})") from error
    if found.eos_token_id is None:
        if not path.is_file():
            mend = f"eos_token in {path}/tokenizer_config.json names it"
        elif (path.parent / "tokenizer_config.json").is_file():
            mend = f"{key}={path.parent} may name it"
        else:
            mend = f"call it {END}, or give a folder with its config"
        raise UserError(f"{key}: {place} names no token that ends a text (eos_token); {mend}")
    if not found.is_fast:
        raise UserError(f"{key}: {place} is no fast tokenizer, and only these tell which text a token is")
    return found


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> "PreTrainedTokenizerBase":
    """A byte-level BPE tokenizer of so many tokens, the same for the same texts. Raises UserError for too few tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocabulary < len(alphabet) + 1:
        raise UserError(
            f"data.vocabulary must be {len(alphabet) + 1} or more (a token for each byte), got {vocabulary}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    how = {"special_tokens": [END], "initial_alphabet": sorted(alphabet), "show_progress": False}
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocabulary, **how))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)


def identity(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Hash of the map from ids to tokens: two tokenizers are the same where it is."""
    tokens = sorted((place, token) for token, place in tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:16]


def another(place: str | None, tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase | None":
    """The teacher's tokenizer, which lies at a place, where it is another one than this of the student."""
    found = None if place is None else load_tokenizer(place, "data.teacher_tokenizer")
    return None if found is None or identity(found) == identity(tokenizer) else found


def check_same(tokenizer: "PreTrainedTokenizerBase", place: str, role: str) -> None:
    """Raise UserError where a model's own tokenizer maps ids to other tokens than the data's."""
    own = load_tokenizer(place)
    if identity(own) != identity(tokenizer):
        mend = f"data.tokenizer={place}" if role == "student" else f"data.teacher_tokenizer={place} strategy=uld"
        raise UserError(
            f"{role}: {place} has another tokenizer than the data ({len(own)} and {len(tokenizer)} tokens, or another "
            f"order): {mend}, or choose another {role}=…"
        )


def ends(tokenizer: "PreTrainedTokenizerBase", more: Sequence[int] | int | None = None) -> list[int]:
    """All ids that end a text: the tokenizer's, if it has one, and those of a generation config."""
    more = [more] if isinstance(more, int) else list(more or ())
    return sorted({one for one in (tokenizer.eos_token_id, *more) if one is not None})
