"""Tries a run's fit on two samples before anything is trained, so that it fails now and not hours later."""

import copy
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import torch

from distillab.core import distributed
from distillab.models.model import Model
from distillab.schemes.base import Run, Scheme
from distillab.strategies.base import Term
from distillab.training.reachable import reachable_parameters
from distillab.training.term_inputs import Seen, only


def preflight(scheme: Scheme, run: Run, student: Model) -> None:
    """Let every term look at data and run in its phases, between untrained copies; UserError where one cannot work."""
    if run.config.teacher.shard:  # too large to be whole on a device
        return
    run = replace(run, strategy=copy.deepcopy(run.strategy))
    with torch.random.fork_rng(), redirect_stdout(StringIO()):  # the fit says it again
        scheme, student = copy.deepcopy((scheme, student))
        module = scheme.module(run, student, scheme.source(student))
        if distributed.world > 1:  # several GPUs exchange only what lies on them
            module.to(run.setting.device)
        known = None if run.data.hides_labels else run.data.training_labels
        batch = module.task.example_batch(module.student, labels=known)

        def shown(term: Term) -> Iterator[tuple[SimpleNamespace, Seen]]:
            (outputs,) = module.teacher(batch)
            yield only(term, "teacher", outputs), Seen(batch.labels, batch.index)

        for term in module.strategy.terms.values():
            term.prepare(batch.labels.cpu(), lambda term=term: shown(term))
        for phase in run.strategy.plan(run.config.recipe.epochs):
            reachable_parameters(module, phase)
