"""Text of 64 tokens, and Llamas of two layers that can learn it in seconds."""

import json
from pathlib import Path
from types import SimpleNamespace

import torch

from distillab.core.recipe import Recipe
from distillab.data.text.datamodule import TextData
from distillab.data.text.tokenizer import END
from distillab.models.causal_lm import CausalLM, llama
from distillab.strategies.ce import CrossEntropy
from distillab.strategies.kd import KD
from distillab.strategies.strategy import Strategy
from distillab.tasks.causal_lm import LanguageModeling
from distillab.teachers.cache import TeacherCache
from distillab.teachers.cached import CachedTeacher
from distillab.teachers.frozen import FrozenTeacher
from distillab.teachers.token_layout import TokenLayout
from distillab.training.module import Distillation

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,?!'-;:"
TOKENS = 64
LENGTH = 32
ANSWERS = "{% generation %}{{ m['content'] }}<|endoftext|>{% endgeneration %}"
TEMPLATE = "{% for m in messages %}{% if m['role'] == 'user' %}<u>{{ m['content'] }}{% else %}<a>ANSWERS{% endif %}{% endfor %}"
WORDS = ("the", "sea", "is", "green", "and", "deep", "a", "boat", "goes", "over", "it", "slowly", "at", "night")


def tokenizer_folder(folder: Path, answers: str = ANSWERS) -> str:
    """A tokenizer of 64 tokens, one for each letter, with a chat template whose answers look so."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = [END, "<u>", "<a>"]
    vocabulary = {token: place for place, token in enumerate([*specials, *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="-"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(specials)
    found = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
    found.chat_template = TEMPLATE.replace("ANSWERS", answers)
    found.save_pretrained(folder)
    return str(folder)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of nine words, each followed by one of two."""
    drawn = torch.randint(2, (count, 9), generator=torch.Generator().manual_seed(seed)).tolist()
    found = []
    for number, steps in enumerate(drawn):
        place, words = number % len(WORDS), []
        for step in steps:
            words.append(WORDS[place])
            place = (place + 1 + step) % len(WORDS)
        found.append(" ".join(words))
    return found


def text_data(place: Path, tokenizer: str, *, conversations: bool = False, **how: object) -> TextData:
    """Such sentences, or as answers to questions, split and packed."""
    file = place / f"{'talk' if conversations else 'text'}.jsonl"
    rows = [{"text": one} for one in sentences(400)]
    if conversations:
        rows = [
            {"messages": [{"role": "user", "content": f"say {n} a"}, {"role": "assistant", "content": row["text"]}]}
            for n, row in zip(map(str.upper, (row["text"][:6] for row in rows)), rows, strict=True)
        ]
    file.write_text("\n".join(map(json.dumps, rows)))
    data = TextData("small", path=str(file), tokenizer=tokenizer, length=LENGTH, overlap=1.0, **how)
    data.prepare()
    return data


def small_llama(seed: int, outputs: int = TOKENS, width: int = 32) -> CausalLM:
    """An untrained one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = llama(outputs, LENGTH, width=width, layers=2, heads=2, hidden=2 * width)
    return CausalLM(net, TOKENS, LENGTH, f"llama_{width}")


def taught(model: CausalLM, data: TextData, steps: int) -> CausalLM:
    """The model after some steps of cross-entropy."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    batches = data.configure(16, 0).train_dataloader()
    for step in range(steps):
        if step % len(batches) == 0:
            batches.sampler.set_epoch(step // len(batches))
            stream = iter(batches)
        batch = next(stream)
        loss = torch.nn.functional.cross_entropy(model(**batch.inputs[0]).flatten(0, 1), batch.labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()
    return model


def distilling(
    student: CausalLM, teacher: CausalLM, *, folder: Path | None = None, temperature: float = 1.0, recipe: object = None
) -> tuple[Distillation, SimpleNamespace]:
    """A module that distils the one into the other, behind a cache in a folder, and the run's config as far as it matters."""
    config = SimpleNamespace(recipe=Recipe.of(recipe or {"epochs": 1}))
    strategy = Strategy({"ce": CrossEntropy(weight=0.5), "kd": KD(weight=0.5, temperature=temperature)})
    source = FrozenTeacher(teacher)
    if folder is not None:
        layout = TokenLayout(TOKENS, None, "float16", 8, positions=LENGTH)
        source = CachedTeacher(teacher, TeacherCache(folder, {}, layout, samples=1000, limit=1e9, strong={}))
    task = LanguageModeling(LENGTH, TOKENS)
    return Distillation(student, source, strategy, task, recipe=config.recipe), config
