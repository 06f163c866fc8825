"""The data of one experiment, whatever a sample is: its splits, its known labels, and the loaders of a fit."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import Dataset

from distillab.core.allowed import Choice, Range
from distillab.core.distributed import world
from distillab.core.errors import UserError
from distillab.core.own_code import name_of, own_code
from distillab.core.recipe import Recipe
from distillab.data.batch import Writing
from distillab.data.collection import Collection, DataInfo, fingerprint
from distillab.data.labels import UNKNOWN, checked, known, numbers, wrong
from distillab.data.loader import Loader, Order, Source, limited
from distillab.data.splits import divide, draw_stratified, limit

SPLITS = ("train", "validation", "test")
EVALUATION_BATCH = 256  # constant, so that an accuracy does not depend on the batch size of a fit


class DataModule(LightningDataModule):
    """Train, validation and test samples with seeded splits, order and views.

    A subclass defines `_collect`, `_describe`, `_source` and, where it has more numbers or views, `_numbers` and
    `_check_views`.

    conf/data/digits.yaml says what each argument is for. All shares are stratified, and drawn by `split_seed`; `samples`
    are chosen after the validation was carved off, and a `validation` of 0 leaves no loader for it.

    Raises UserError for a number out of range and, in `prepare`, for data that is absent or broken.
    """

    mixes: bool = False  # whether training samples are mixed with each other
    workers: int = 0  # processes that read the samples where the source is a `Dataset`
    views_per_decode: int = 1  # batches in turn that show the same samples in other views
    evaluation_batch: int = EVALUATION_BATCH
    canaries: int = 0  # samples that a teacher which is trained here learns from alone
    writing: Writing | None = None  # whether a student that has a teacher writes some of its batches
    expected_classes: int | None = (
        None  # how many there are, where that shows before a sample is read; may raise UserError
    )

    def __init__(
        self,
        name: str,
        *,
        split_seed: int = 0,
        view_seed: int = 0,
        validation: float = 0.1,
        samples: int | None = None,
        labels: str = "all",
        labelled: float = 1.0,
        views: int | None = None,
        sampler: str | None = None,
    ) -> None:
        super().__init__()
        Range(0, high=2**32 - 1, whole=True).check(split_seed, "data.split_seed", 0)
        Range(0, high=2**63 - 1, whole=True).check(view_seed, "data.view_seed", 0)
        Range(0, below=1).check(validation, "data.validation", 0.1)
        Choice("all", "teacher", "none").check(labels, "data.labels", "all")
        Range(above=0, high=1).check(labelled, "data.labelled", 0.1)
        Range(1, whole=True, null=True).check(views, "data.views", 8)
        self.sampler = Choice("balanced", None).check(sampler, "data.sampler", "balanced")
        self.name, self.split_seed, self.view_seed = name, split_seed, view_seed
        self.validation, self.samples, self.cycle = validation, samples, views
        self.label_source, self.labelled = labels, float(labelled)
        self.batch_size, self.seed, self.num_views, self.watch, self.accumulate = None, 0, 1, "validation", 1
        self.batch_key = "recipe.batch_size"  # what sets it, for messages

    def _collect(self) -> Collection:
        raise NotImplementedError

    def _describe(self) -> DataInfo:
        raise NotImplementedError

    def _source(self, split: str, training: bool) -> Source | Dataset:
        """The samples of a split, augmented (by themselves or by `on_after_batch_transfer`) where `training`."""
        raise NotImplementedError

    def _numbers(self) -> dict[str, Any]:
        """What else a training sample depends on, as JSON has it."""
        return {}

    def _check_views(self, num_views: int) -> None:
        """Raise UserError where a sample has no such number of views."""
        if num_views != 1:
            has = f"data={self.name} has one: choose a strategy of one view, e.g. strategy=kd"
            raise UserError(f"the strategy needs {num_views} views of a sample, and {has}")

    def prepare(self) -> None:
        """Find, read and split the samples; a second call does nothing. Safe in several processes at once."""
        _ = self.rows, self.info

    def setup(self, stage: str) -> None:
        """Lightning's hook for a plain Trainer."""
        self.prepare()

    @cached_property
    def info(self) -> DataInfo:
        """What a model must know of its data."""
        return self._describe()

    @cached_property
    def collection(self) -> Collection:
        """All samples, with the labels that this data has of them. Raises UserError as `labels.checked`."""
        found = self._collect()
        try:
            labels = checked(torch.as_tensor(found.labels), len(found.classes))
        except UserError as error:
            raise UserError(f"data={self.name}: {error}") from error
        return replace(found, labels=labels.numpy())

    @cached_property
    def rows(self) -> Mapping[str, np.ndarray]:
        """By split: where its samples lie in the collection; `all` are those that `samples` chose from."""
        rows = divide(self.collection, self.validation, (self.split_seed, 0))
        return rows | {"train": self._limited(rows["all"], self.samples)}

    def _limited(self, rows: np.ndarray, samples: int | None) -> np.ndarray:
        return limit(rows, self.collection, samples, seed=(self.split_seed, 1), name=self.name)

    def _known(self, share: float) -> np.ndarray:
        return known(self.rows["train"], self.collection.labels, share, (self.split_seed, 2))

    @cached_property
    def _told(self) -> Tensor:
        rows, labels = self.rows["train"], torch.from_numpy(self.collection.labels)
        shown = self._known(self.labelled) if self.label_source == "all" else rows[:0]
        return labels.index_fill(0, torch.from_numpy(np.setdiff1d(rows, shown)), UNKNOWN)

    def _labels_of(self, split: str) -> Tensor:
        """(M,) int64: the labels in the loaders of a split; `UNKNOWN` where training may not see one."""
        return self._told if split == "train" else torch.from_numpy(self.collection.labels)

    def _clone(self, **changes: Any) -> Self:
        """The same data but for these attributes. Raises UserError where a batch cannot be filled."""
        self.prepare()
        clone = copy.copy(self)
        vars(clone).update(changes, trainer=None)
        vars(clone).pop("_told", None)
        count = len(clone.rows["train"])
        if clone.batch_size is not None and not 1 <= clone.batch_size <= count:
            allowed = f"from 1 to {count} (all training samples of {self.name}) are allowed"
            mend = f"{clone.batch_key}={min(64, count)}"
            raise UserError(f"a batch of {clone.batch_size} cannot be filled: {allowed}, {mend}")
        return clone

    def configure(
        self,
        batch_size: int,
        seed: int,
        num_views: int = 1,
        *,
        watch: str = "validation",
        accumulate: int = 1,
        **named: str,
    ) -> Self:
        """The same data for one fit, whose order follows from the seed; tensors are shared. Raises UserError.

        `batch_size` is that of the global batch, `num_views` 2 adds a strong view of each sample, `watch` is the split
        that is evaluated after every epoch, `accumulate` the number of batches in an optimiser step, and `batch_key` the
        override that sets the size of a batch, for messages.
        """
        self._check_views(num_views)
        fit = {"batch_size": batch_size, "seed": seed, "num_views": num_views, "watch": watch, "accumulate": accumulate}
        clone = self._clone(**fit, **named)
        if clone.sampler and clone.hides_labels:
            mend = "data.labels=all data.labelled=1.0, or data.sampler=null"
            raise UserError(f"data.sampler={clone.sampler} needs the label of every training sample: {mend}")
        return clone

    def with_samples(self, samples: int | None) -> Self:
        """The same data with another number of training samples; validation and test stay. Raises UserError."""
        return self._clone(samples=samples, rows=self.rows | {"train": self._limited(self.rows["all"], samples)})

    def some_of_training(self, most: int) -> Self:
        """The same data with at most so many training samples, one of each class at least, for no fit."""
        rows, labels = self.rows["train"], self.collection.labels
        count = max(most, len(np.unique(labels[rows])))
        if len(rows) > count:
            rows = draw_stratified(rows, labels, count, (self.split_seed, 4))
        return self._clone(rows=self.rows | {"train": rows}, batch_size=None)

    def labelled_only(self, labelled: float | None = None, *, repeated: bool = True) -> Self:
        """The same data with labelled samples alone (`labelled`: another share).

        They are repeated, so that an epoch keeps its steps, unless each is wanted once, for no fit.
        """
        shown = self._known(self.labelled if labelled is None else labelled)
        rows = self.rows | {"train": np.resize(shown, len(self.rows["train"])) if repeated else shown}
        return self._clone(rows=rows, label_source="all", labelled=1.0)

    def with_wrong_labels(self, classes: Sequence[str | int] | None) -> Self:
        """The same data, in which training samples of these classes have random others' labels. Raises as `numbers`."""
        bad, data = numbers(classes, self.info.classes), self.collection
        labels = wrong(data.labels, self.rows["all"], bad, len(data.classes), seed=(self.split_seed, 3))
        return self._clone(collection=replace(data, labels=labels))  # so they are in the fingerprint

    def of_teacher(self) -> Self:
        """The same data with what a teacher that is trained here learns from alone."""
        return self

    @property
    def teacher_side(self) -> Self:
        """The same samples as the teacher reads them."""
        return self

    def class_names(self, classes: Sequence[str | int] | None) -> list[str]:
        """The names of classes that are given by name or by number. Raises as `numbers`."""
        return [self.info.classes[number] for number in numbers(classes, self.info.classes)]

    def batches(self, recipe: Recipe, limit: float | None = None) -> int:
        """The batches of an epoch of a recipe's fit on these data; `limit` is Lightning's `limit_train_batches`."""
        return limited(len(Order(len(self.rows["train"]), recipe.batch_size, 0, world=world)), limit)

    def epochs(self, recipe: Recipe, limit: float | None = None) -> int:
        """The epochs of that fit; a recipe that counts steps may cut the last one."""
        return recipe.epochs or recipe.epochs_in(self.batches(recipe, limit))

    def view_numbers(self, epochs: int) -> int:
        """How many view numbers so many epochs show; a last group of epochs that is cut short shows some of each."""
        shown = -(-epochs // self.views_per_decode) * self.views_per_decode
        return min(shown, self.cycle or shown)

    def taught_epochs(self, epochs: int) -> int | None:
        """In how many of the epochs a teacher must look at the samples, where they look the same again; None: in all."""
        return None

    @property
    def training_labels(self) -> Tensor:
        """(n,) int64: the label of every training sample, by its index; -1 where it is unknown."""
        return self._told[self.rows["train"]]

    @property
    def hides_labels(self) -> bool:
        """Whether a training sample comes without its label."""
        return bool((self.training_labels == UNKNOWN).any())

    @property
    def teacher_answers(self) -> bool:
        """Whether the teacher's answers stand in for labels that are hidden."""
        return self.label_source != "none" and self.hides_labels

    @property
    def sizes(self) -> dict[str, int]:
        """Samples in train, validation and test; `labelled` ones of train where not all are."""
        labelled = {"labelled": int((self.training_labels != UNKNOWN).sum())} if self.hides_labels else {}
        return {split: len(self.rows[split]) for split in SPLITS} | labelled

    @property
    def fingerprint(self) -> str:
        """Hash of content, labels, splits, views and the person's own code, without place and name."""
        described = {"content": self.collection.content, "views": self.cycle, **self._numbers()}
        if self.sampler:  # what is off leaves no trace
            described["sampler"] = self.sampler
        if self.views_per_decode > 1:
            described["views_per_decode"] = self.views_per_decode
        if code := own_code(name_of(type(self))):
            described["code"] = code
        return fingerprint(described, [self.collection.labels, *(self.rows[split] for split in sorted(SPLITS))])

    @property
    def identity(self) -> str:
        """Hash of the data set, its classes and its test samples: results are ranked where it is the same."""
        data, test = self.collection, self.rows["test"]
        described = {"dataset": data.dataset or data.content, "classes": data.classes}
        return fingerprint(described, [data.labels[test], test])

    def _loader(self, split: str, batch_size: int, **order: Any) -> Loader:
        self.prepare()
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        source = self._source(split, training=bool(order))
        return Loader(source, batch_size, rank=rank, world=world, workers=self.workers, **order)

    def train_dataloader(self) -> Loader:
        """Shuffled batches of the fit that `configure` described."""
        if self.batch_size is None:
            raise RuntimeError("call configure(batch_size, seed) first and train on what it returns")
        steps = {"accumulate": self.accumulate, "limit": getattr(self.trainer, "limit_train_batches", 1.0)}
        labels = self.training_labels if self.sampler else None
        order = {"seed": self.seed, "cycle": self.cycle, "labels": labels, "views_per_decode": self.views_per_decode}
        return self._loader("train", self.batch_size, **order, **steps)

    def val_dataloader(self) -> Loader | list[Loader]:
        """The watched samples in order, or [] where there are none."""
        return self.evaluation_dataloader(self.watch) if self.sizes[self.watch] else []

    def test_dataloader(self) -> Loader:
        """The test samples in order."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, split: str) -> Loader:
        """The samples of a split in order, as they are."""
        return self._loader(split, self.evaluation_batch)
