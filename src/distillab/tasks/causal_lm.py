"""Text: the next token of every position, judged in bits per byte."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError, first_few
from distillab.core.output import rank_zero_warn
from distillab.core.places import located
from distillab.core.rounding import rounded
from distillab.core.text_parts import Text
from distillab.data.batch import ALIGNMENTS, IGNORED, Batch
from distillab.data.text.datamodule import TextData
from distillab.data.text.tokenizer import check_same
from distillab.evaluation.judge import judge
from distillab.evaluation.roles import Roles
from distillab.evaluation.text_roles import compare
from distillab.evaluation.token_scores import Column, bits_per_byte, text_metrics, token_scores
from distillab.export.language_model import read_back, save_language_model
from distillab.models.build_language_model import build_language_model, check_language_model
from distillab.models.causal_lm import CausalLM
from distillab.models.feature_info import FeatureInfo
from distillab.models.logit_rows import LogitRows
from distillab.models.model import Model
from distillab.models.trace import evaluation_mode
from distillab.tasks.base import Task

NEAR = 1e-3  # of a logit: what is written and read back sums in the same order


class Bits(Metric):
    """Negative log-likelihood in bits over the size of the text, in bytes or in tokens; less is better."""

    higher_is_better = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nats", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("size", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, nats: Tensor, sizes: Tensor) -> None:
        """Add tokens: the negative log-likelihood and the size of each, (R,)."""
        self.nats += nats.double().sum()
        self.size += sizes.sum()

    def compute(self) -> Tensor:
        """Bits per byte, or per token."""
        return (self.nats / log(2) / self.size.clamp(min=1)).float()


class LanguageModeling(Task):
    """The next token of text (`task=causal_lm`): bits per byte, and what goes with it.

    `length` and `vocabulary` are needed to wrap plain networks: the positions of a block, and the tokens.
    """

    name = "causal_lm"
    primary = "bits_per_byte"
    higher_is_better = False
    label = "bits per byte"

    def __init__(self, length: int | None = None, vocabulary: int | None = None) -> None:
        self.length, self.vocabulary = length, vocabulary

    def wrap(self, network: nn.Module, role: str) -> Model:
        """A plain network with the task's length and vocabulary, a model unchanged."""
        if isinstance(network, Model):
            return network
        vocabulary = self.vocabulary or getattr(getattr(network, "config", None), "vocab_size", None)
        if self.length is None or vocabulary is None:
            raise UserError(f"the {role} is a plain network; say length=… and vocabulary=… of its tokens")
        return CausalLM(network, vocabulary, self.length)

    def check_model(self, config: ModelConfig, role: str) -> None:
        """Where it lies, and what it is not."""
        check_language_model(config, role)

    def build_model(self, config: ModelConfig, role: str, data: TextData, seed: int) -> CausalLM:
        """A language model of the data's tokens."""
        place = located(str(config.builder.get("path") or ""), f"{role}.path")
        if config.builder.get("path") and (place / "tokenizer.json").exists():
            check_same(data.info.tokenizer, str(place), role)
        return build_language_model(config, role, data.info.vocabulary, data.info.length, seed=seed)

    def as_batch(self, batch: Any, outputs: int, *, look: bool = True) -> Batch:
        """A Batch as it is, or the mapping of a plain loader: `input_ids` and, optionally, what goes with each token.

        `labels` (N, L) stand at their own position, as transformers has them; without them every token is one.
        `attention_mask` is 0 at padding. `sizes` are the bytes of each token's text: without them the loss is told in bits
        per token.
        """
        if isinstance(batch, Batch):
            return batch
        _check_mapping(batch, outputs, look=look)
        ids = batch["input_ids"]
        seen = batch.get("attention_mask", torch.ones_like(ids))
        labels = batch.get("labels", ids).masked_fill(seen == 0, IGNORED)
        targets = {"labels": torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], IGNORED)], 1)}
        if (sizes := batch.get("sizes")) is not None:
            targets["sizes"] = torch.cat([sizes[:, 1:], torch.zeros_like(sizes[:, :1])], 1)
        index = torch.full((len(ids),), -1, device=ids.device)
        documents = torch.where(seen > 0, 0, -1)
        return Batch([{"input_ids": ids, "documents": documents}], targets, index)

    def example_batch(self, model: Model, num_views: int = 1, labels: Tensor | None = None) -> Batch:
        """Two blocks of random tokens, each the label of the one before."""
        inputs = model.example_inputs(2)
        ids = inputs["input_ids"]
        following = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], IGNORED)], 1)
        index = torch.arange(2, device=ids.device)
        return Batch([inputs] * num_views, {"labels": following, "sizes": torch.ones_like(ids)}, index)

    def with_teacher(self, batch: Batch, student: FeatureInfo, teacher: FeatureInfo) -> Batch:
        """An example batch with tokens of the teacher's, where it reads others."""
        if (student.outputs, student.positions) == (teacher.outputs, teacher.positions):
            return batch
        count, places = len(batch), torch.arange(teacher.positions, device=batch.index.device)
        ids = (places % teacher.outputs).expand(count, -1)
        pairs = torch.arange(student.positions, device=batch.index.device).clamp(max=teacher.positions - 1)
        pairs = pairs[:, None].expand(count, -1, len(ALIGNMENTS))
        inputs = [{"input_ids": ids, "documents": torch.zeros_like(ids)}] * len(batch.inputs)
        return replace(batch, targets=batch.targets | {"pairs": pairs}, teacher_inputs=inputs)

    def rows(self, logits: Tensor | LogitRows, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One row for each position (N, L) that has a label."""
        kept = labels != IGNORED
        return logits[kept], labels[kept]

    def metrics(self, info: FeatureInfo) -> MetricCollection:
        """Bits per byte, and per token, for batches that do not say how many bytes their tokens have."""
        return MetricCollection({"bits_per_byte": Bits(), "bits_per_token": Bits()}, compute_groups=False)

    def update(self, metrics: MetricCollection, logits: Tensor | LogitRows, batch: Batch) -> None:
        """Add a batch to the figure that it has the sizes for."""
        scores = self._scores(logits, batch).to(batch.index.device)
        figure = metrics["bits_per_byte" if "sizes" in batch.targets else "bits_per_token"]
        figure.update(scores[:, Column.NLL], scores[:, Column.SIZE])

    def _scores(self, logits: Tensor | LogitRows, batch: Batch) -> Tensor:
        kept = batch.labels != IGNORED
        sizes = batch.targets.get("sizes", kept.long())  # one for each token, where its bytes are not known
        return token_scores(logits[kept], batch.labels[kept], sizes[kept], batch.inputs[0]["documents"][kept])

    def score(self, logits: Tensor, labels: Tensor) -> float:
        """Bits per byte of token scores (R, 6)."""
        return bits_per_byte(logits)

    def figures(self, logits: Tensor, labels: Tensor) -> dict[str, Any]:
        """The figures of `distillab.evaluation.token_scores.text_metrics`."""
        return text_metrics(logits, labels)

    def compare(self, logits: Mapping[str, Tensor], labels: Tensor, class_names: Sequence[str]) -> Roles:
        """Agreement with the teacher, calibration and the difference to the student alone as well, by document."""
        return compare(logits, labels)

    def text(self, score: float) -> str:
        """With three decimals."""
        return f"{rounded(score, 3):.3f}"

    @torch.no_grad()
    def predictions(self, model: Model, data: TextData, split: str, device: str) -> tuple[Tensor, Tensor]:
        """Token scores (R, 6) and labels (R,) of a split: all logits of a text would not fit into memory."""
        model.to(device)
        scores, labels = [], []
        with evaluation_mode(model):
            for batch in data.evaluation_dataloader(split):
                batch = batch.to(device)
                scores.append(self._scores(model.outputs(**batch.inputs[0]), batch))
                labels.append(batch.labels[batch.labels != IGNORED].cpu())
        return torch.cat(scores), torch.cat(labels)

    def judge(self, networks: Mapping[str, Model], scores: Mapping[str, Tensor], data: TextData, device: str) -> Text:
        """Intervals, kinds of documents, drafts, speed of writing, samples and canaries."""
        try:
            return judge(networks, scores, data, device)
        except torch.OutOfMemoryError:
            pass  # after this block the error no longer holds the tensors
        return judge(networks, scores, data, "cpu")

    def save(self, model: Model, data: TextData, directory: Path) -> float | None:
        """A folder that transformers loads by itself: config, weights, tokenizer; a line where it answers otherwise."""
        folder = directory / "student"
        if not save_language_model(model, data.info.tokenizer, folder):
            return None
        try:
            apart = read_back(model, folder)
        except UserError as error:  # a class of the person's own, which transformers does not know
            rank_zero_warn(f"transformers does not read {folder} ({error}); student.safetensors has the weights")
            return None
        if not apart <= NEAR:
            rank_zero_warn(f"{folder} read back by transformers is not the student: logits differ by {apart:.2g}")
        return apart


def _check_mapping(batch: Any, outputs: int, *, look: bool) -> None:
    """Raise UserError for what is no batch of tokens of so many; without a `look` types and shapes alone are checked."""
    if not isinstance(batch, Mapping) or "input_ids" not in batch:
        got = f"a mapping of {first_few([*map(str, batch)])}" if isinstance(batch, Mapping) else type(batch).__name__
        raise UserError(
            f"a batch of text is a mapping with input_ids (N, L) and, optionally, labels, attention_mask and sizes; got {got}"
        )
    ids = batch["input_ids"]
    for key in ("input_ids", "labels", "attention_mask", "sizes"):
        found = batch.get(key, ids)
        if not isinstance(found, Tensor) or found.ndim != 2 or found.shape != ids.shape:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(f"{key} of a batch must be a tensor (N, L), of the shape of input_ids; got {got}")
        if key != "attention_mask" and found.dtype not in (torch.int64, torch.int32):
            raise UserError(f"{key} of a batch must be whole numbers, e.g. torch.int64; got {found.dtype}")
        if key in ("input_ids", "labels") and look and found.numel():
            least, most = int(found.min()), int(found.max())
            if most >= outputs or least < (IGNORED if key == "labels" else 0):
                allowed = f"{IGNORED} or " if key == "labels" else ""
                raise UserError(
                    f"{key} of a batch must be {allowed}from 0 to {outputs - 1}, got {least} to {most}; "
                    f"LanguageModeling(vocabulary=…) says how many tokens there are"
                )
