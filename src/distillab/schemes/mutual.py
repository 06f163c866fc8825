"""Peers that learn together, each from the outputs of the others."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError
from distillab.core.output import rank_zero_print
from distillab.core.result_parts import Training
from distillab.data.batch import Batch
from distillab.models.feature_extractor import FeatureExtractor
from distillab.models.feature_info import FeatureInfo
from distillab.models.model import Model
from distillab.schemes.base import SEED_STEP, Run, Scheme, networks
from distillab.schemes.measure import scores
from distillab.schemes.record import Record
from distillab.strategies.base import Term
from distillab.strategies.strategy import Strategy
from distillab.tasks.base import Task
from distillab.teachers.base import TeacherSource
from distillab.training.module import Distillation
from distillab.training.term_inputs import mapped, term_losses, wanted_views


class Peer(TeacherSource):
    """Stands for a teaching peer, whose outputs the module computes: it runs each peer once."""

    frozen = False

    def __init__(self, info: FeatureInfo) -> None:
        super().__init__()
        self.info = info

    def request(self, needs: Iterable[str]) -> None:
        """Do nothing: the module reads all peers."""


class MutualDistillation(Distillation):
    """Trains peers with one optimiser, each by the strategy with every other one as its teacher (arXiv 1706.00384).

    A peer's loss is the mean of the strategy's over its teachers, whose outputs carry no gradient; the logged losses
    are the sums over all peers. Each pair of peers has its own copy of the strategy's connectors. Peer 0, the student,
    is validated and deployed; the other arguments are those of `Distillation`. UserError for one peer only, or a
    strategy that needs a trained teacher.
    """

    def __init__(
        self,
        peers: Sequence[nn.Module],
        strategy: Strategy | Mapping[str, Any],
        task: Task | None = None,
        **arguments: Any,
    ) -> None:
        if len(peers) < 2:
            raise UserError("mutual learning takes two peers at least; scheme.peers=null adds a copy of the student")
        strategy = Strategy.of(strategy, None if task is None else task.name)
        check_strategy(strategy)
        further = {pair: copy.deepcopy(strategy) for pair in permutations(range(len(peers)), 2) if pair != (0, 1)}
        super().__init__(peers[0], Peer(peers[1].info), strategy, task, **arguments)
        self.extractors.pop().remove()
        self.peers = nn.ModuleList(peers[1:])
        needs = strategy.needs("student") | strategy.needs("teacher")
        self.extractors = [FeatureExtractor(peer, needs) for peer in peers]
        for number, ((learner, teacher), own) in enumerate(further.items(), 1):
            own.connect(peers[learner].info, peers[teacher].info, self.seed + SEED_STEP * number)
        self.further = nn.ModuleList(further.values())
        self._pairs = {(0, 1): strategy, **further}
        self.trainable += [p for p in (*self.peers.parameters(), *self.further.parameters()) if p.requires_grad]
        self.task.place(self)

    def _to_epoch(self, epoch: int) -> None:
        super()._to_epoch(epoch)
        for strategy in self.further:
            for term in strategy.terms.values():
                term.set_epoch(epoch, self.trainer.max_epochs)

    def losses(self, batch: Batch, names: tuple[str, ...]) -> dict[str, Tensor]:
        """The weighted loss of each named term, over all peers."""
        terms = {name: self.strategy.terms[name] for name in names}
        views = wanted_views(batch, terms, self.task)
        read = [[extractor(**view) for view in views] for extractor in self.extractors]
        taught = [[_detached(view) for view in outputs] for outputs in read]
        seen = self.seen(batch, taught[0])
        losses: dict[str, list[Tensor]] = {name: [] for name in names}
        with torch.autocast(batch.index.device.type, enabled=False):
            for (learner, teacher), strategy in self._pairs.items():
                own = {name: strategy.terms[name] for name in names}
                for name, loss in term_losses(own, read[learner], taught[teacher], seen, task=self.task).items():
                    losses[name].append(loss)
        return {name: torch.stack(parts).sum() / len(self.peers) for name, parts in losses.items()}


def _detached(view: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(**{name: mapped(value, Tensor.detach) for name, value in vars(view).items()})


def check_strategy(strategy: Strategy) -> None:
    """Raise UserError if a term needs a trained teacher, or its layers."""
    if strategy.phases:
        raise UserError("scheme=mutual has no phases: all peers learn from the first step; choose strategy=kd")
    for name, term in strategy.terms.items():
        if lent := sorted({"teacher.head", "teacher.norms"} & set(term.needs)):
            why = f"uses {lent[0]}, and the peer would learn through it"
        elif term.prepares:
            why = "looks at the data beforehand"
        elif term.learns_from_steps:
            why = "learns from the steps of one student"
        elif type(term).deploy is not Term.deploy:
            why = "ships more than the student"
        else:
            continue
        raise UserError(f"scheme=mutual: strategy.{name} {why}; choose another, e.g. strategy=kd, or scheme=offline")


class Mutual(Scheme):
    """Deep mutual learning (arXiv 1706.00384): the student and its peers; the student is the result.

    `peers` are configs of the others; None is one more student with another seed. UserError for an empty list.
    """

    name = "mutual"

    def __init__(self, peers: Sequence[Mapping[str, Any]] | None = None) -> None:
        super().__init__()
        if peers is not None and not peers:
            raise UserError("scheme.peers is empty; name models, or null for one more copy of the student")
        self.configs = peers

    def prepare(self, run: Run, student: Model) -> FeatureInfo:
        """Build the peers; each must be able to learn from each."""
        self.check(run, unlabelled="the peers are not trained yet")
        check_strategy(run.strategy)
        self.peers = []
        for i, config in enumerate(networks(self.configs, "scheme.peers") or [run.config.student]):
            seed = run.config.seed + SEED_STEP * (i + 1) if config.seed is None else config.seed
            self.peers.append(run.network(config, f"scheme.peers.{i}", seed))
        everyone = [student, *self.peers]
        for learner, teacher in permutations(everyone, 2):
            copy.deepcopy(run.strategy).connect(learner.info, teacher.info, run.config.seed)
        self.names = [f"{peer.info.name} (peer {i})" for i, peer in enumerate(everyone)]
        self.parent = ", ".join(self.names[1:])
        return self.peers[0].info

    def module(self, run: Run, student: Model, teacher: TeacherSource | None) -> Distillation:
        """The module that trains all peers."""
        peers = [student, *self.peers]
        return MutualDistillation(peers, run.strategy, run.setting.task, recipe=run.config.recipe, seed=run.config.seed)

    def finish(self, run: Run, student: Model, record: Record) -> None:
        """Measure the peers and add all to the lineage; they share the seconds of the fit."""
        reached = [record.scores, *(scores(peer, run.data, run.setting) for peer in self.peers)]
        for name, own in zip(self.names, reached, strict=True):
            others = ", ".join(other for other in self.names if other != name)
            rank_zero_print(f"{name}: {run.setting.words(own)}")
            self.note(run, name, Record(scores=own, training=Training(seconds=record.training.seconds)), others)
