"""A run's fit tried on two images before anything is trained, so that it fails now and not hours later."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import torch

from distillab.core import distributed
from distillab.data.batch import Batch
from distillab.models.image_model import ImageModel
from distillab.schemes.base import Run, Scheme
from distillab.strategies.base import Term
from distillab.training.term_inputs import only, reachable_parameters


def preflight(scheme: Scheme, run: Run, student: ImageModel) -> None:
    """Let every term look at data and run in its phases, between untrained copies of the networks.

    Args:
        scheme: prepared; nothing is trained yet.
        run: its strategy is left as it is.
        student: likewise.

    Raises:
        UserError: a term cannot work with these networks or data.
    """
    if run.config["teacher"].get("shard"):  # too large to be whole on a device
        return
    run = replace(run, strategy=copy.deepcopy(run.strategy))
    with torch.random.fork_rng(), redirect_stdout(StringIO()):  # the fit says it again
        module = copy.deepcopy(scheme).module(run, copy.deepcopy(student))
        module.to(
            run.setting.device if distributed.world > 1 else "cpu"
        )  # several GPUs exchange only what lies on them
        device = next(module.student.parameters()).device
        known = run.data.training_labels
        known = known[known >= 0].unique()
        labels = known[[0, min(1, len(known) - 1)]] if len(known) and not run.data.hides_labels else torch.arange(2)
        batch = Batch(
            [torch.rand(2, *student.input_shape, device=device)], labels.to(device), torch.arange(2, device=device)
        )

        def said(term: Term) -> Iterator[tuple[SimpleNamespace, Batch]]:
            (outputs,) = module.teacher.outputs(batch.views, batch.labels)
            yield only(term, "teacher", outputs), batch

        for term in module.strategy.terms.values():
            term.prepare(labels, lambda term=term: said(term))
        for phase in run.strategy.plan(run.recipe.epochs):
            reachable_parameters(module, phase, module._trainable)
