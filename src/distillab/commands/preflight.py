"""Tries a run's fit on two samples before anything is trained, so that it fails now and not hours later."""

import copy
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO

import torch

from distillab.core import distributed
from distillab.data.batch import Batch
from distillab.models.model import Model
from distillab.schemes.base import Run, Scheme
from distillab.strategies.base import Fields, Term
from distillab.training.phases import reachable_parameters
from distillab.training.term_inputs import only


def preflight(scheme: Scheme, run: Run, student: Model) -> None:
    """Let every term look at data and run in its phases, between untrained copies; UserError where one cannot work."""
    teacher = run.config.teacher
    if teacher.shard or teacher.builder.get("device_map") is not None:  # too large to be whole on a device
        return
    run = replace(run, strategy=copy.deepcopy(run.strategy))
    with torch.random.fork_rng(), redirect_stdout(StringIO()):  # the fit says it again
        scheme, student = copy.deepcopy((scheme, student))
        module = scheme.module(run, student, scheme.source(student))
        if distributed.world > 1:  # several GPUs exchange only what lies on them
            module.to(run.setting.device)
        known = None if run.data.hides_labels else run.data.training_labels
        batch = module.example_batch(labels=known)

        def shown(term: Term) -> Iterator[tuple[Fields, Batch]]:
            (outputs,) = module.teacher(module.for_teacher(batch))
            yield only(term, "teacher", outputs), batch

        for term in module.strategy.terms.values():
            term.prepare(batch.labels.cpu(), lambda term=term: shown(term))
        for phase in run.strategy.plan(run.epochs):
            reachable_parameters(module, phase)
