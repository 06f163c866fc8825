"""What each of two processes computes of its part of a batch, and one process of the whole."""

import copy
import os
import traceback
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace

import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from distillab import Distillation
from distillab.core.configuration import CacheConfig, Paths, TrainerConfig
from distillab.core.gather import gather
from distillab.core.recipe import Recipe
from distillab.data.images.sources import Digits
from distillab.schemes.cache import with_cache
from distillab.strategies.strategy import Strategy
from distillab.teachers.frozen import FrozenTeacher
from distillab.teachers.sharded import ShardedTeacher
from distillab.training.phases import reachable_parameters
from distillab.training.term_inputs import term_losses
from helpers.fits import strategy, trainer
from helpers.two_networks import (
    BATCH,
    EQUAL,
    PLAIN_SGD,
    UNEQUAL,
    StepGradients,
    distillation,
    in_double,
    models,
    part,
    rows,
    samples,
    show_data,
    terms_that,
)

SHARDED = ("hint", "simkd", "ofd")  # they read maps, the head, which is shipped too, and BatchNorm's parameters


class Losses(nn.Module):
    """What DDP can wrap: the losses of some terms."""

    def __init__(self, module, names):
        super().__init__()
        self.module, self.names = module, names

    def forward(self, batch):
        return self.module.losses(batch, self.names)


def end_to_end(name, split, rank=None, among=None):
    """Losses, parameters' gradients and buffers of each phase, through student, terms and DDP.

    `among` are the terms that act; all of the phase, unless said.
    """
    with distillation(name) as module:
        show_data(module, rank)
        phases = module.strategy.plan(1000)
        acting = [tuple(n for n in phase.terms if n in (among or phase.terms)) for phase in phases]
        phases = [replace(phase, terms=names) for phase, names in zip(phases, acting, strict=True) if names]
        trained = [reachable_parameters(module, phase) for phase in phases]
        in_double(module)
        return [step(module, phase, ps, split, rank) for phase, ps in zip(phases, trained, strict=True)]


def step(module, phase, trained, split, rank):
    for parameter in module.trainable:
        parameter.requires_grad_(parameter in trained)
        parameter.grad = None
    torch.manual_seed(5 + (rank or 0))  # what is drawn is the first process's
    whole = Losses(module, phase.terms)
    if rank is not None:  # in small buckets: reductions of gradients fall between those of the gathers
        whole = DistributedDataParallel(whole, bucket_cap_mb=0.01)
    losses = whole(part(rows(samples(), 3, 3 + BATCH, torch.float64), split, rank))
    sum(losses.values()).backward()
    return {
        "losses": {key: value.detach() for key, value in losses.items()},
        "gradients": {key: p.grad.clone() for key, p in module.named_parameters() if p in trained},
        "buffers": {key: x.clone() for key, x in module.strategy.named_buffers()},
    }


def input_gradients(name, rank=None):
    """For each term that compares samples: its loss, and the gradients with respect to what it reads of the student."""
    with distillation(name) as module, torch.no_grad():
        show_data(module, rank)
        in_double(module)
        batch = part(rows(samples(), 3, 3 + BATCH, torch.float64), UNEQUAL, rank)
        student, teacher = [module.extractors[0](**view) for view in batch.inputs], module.teacher(batch)
        found = {}
        for key in terms_that(name, "global_batch"):
            term = module.strategy.terms[key]
            inputs = []
            views = [SimpleNamespace(**{k: leaf(v, inputs) for k, v in vars(view).items()}) for view in student]
            torch.manual_seed(5)
            with torch.enable_grad():
                seen = SimpleNamespace(labels=batch.labels, index=batch.index, batch_rows=None, step_labels=None)
                loss = term_losses({key: term}, views, teacher, seen, task=module.task)[key]
            gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
            found[key] = (loss.detach(), [gradient for gradient in gradients if gradient is not None])
        return found


def leaf(value, inputs):
    """A copy that takes a gradient, noted among the inputs."""
    if isinstance(value, list):
        return [leaf(v, inputs) for v in value]
    if not isinstance(value, torch.Tensor):
        return value
    inputs.append(value.clone().requires_grad_())
    return inputs[-1]


def fitted(optimizer, rank=None):
    """The student after a fit of two epochs of two steps, two batches to a step."""
    with distillation("sp", recipe=PLAIN_SGD | {"optimizer": optimizer}) as module:
        batches = [rows(samples(), first, first + BATCH) for first in (0, 1, 3, 6)]
        loader = DataLoader([part(batch, EQUAL, rank) for batch in batches], batch_size=None)
        many = {"devices": 2, "strategy": "ddp"} if rank is not None else {}
        trainer(2, accumulate_grad_batches=2, **many).fit(module, loader)
        return {key: value.clone() for key, value in module.student.state_dict().items()}


def shares(rank=None):
    """TAID's share behind each of eight steps, which the losses move further than the straight line does."""
    found = []
    with distillation("taid", recipe=PLAIN_SGD) as module:
        term = module.strategy.terms["taid"]
        term.alpha, term.momentum, after_step = 0.9, 0.5, term.after_step

        def note(loss, progress):
            after_step(loss, progress)
            found.append(term.share.item())

        term.after_step = note
        batches = [rows(samples(), first, first + BATCH) for first in (0, 1, 3, 6)]
        loader = DataLoader([part(batch, EQUAL, rank) for batch in batches], batch_size=None)
        many = {"devices": 2, "strategy": "ddp"} if rank is not None else {}
        trainer(2, **many).fit(module, loader)
    return found


def accumulated(folder, batch_size, accumulate, rank=None):
    """The student's gradient at each optimiser step of an epoch of 64 samples, which the loader shares out."""
    data = Digits("digits", folder / f"rows{rank}", samples=64).configure(batch_size, 0, accumulate=accumulate)
    look, many = StepGradients(), {"devices": 2, "strategy": "ddp"} if rank is not None else {}
    with distillation("kd", recipe=PLAIN_SGD) as module:
        trainer(1, accumulate_grad_batches=accumulate, callbacks=[look], **many).fit(module, datamodule=data)
    return look.seen


def replayed(rank, folder):
    """Student and counts of two fits of two epochs with one cache: the first fills it, the second reads it."""
    data = Digits("digits", folder / f"data{rank}", samples=64)
    config = SimpleNamespace(
        cache=CacheConfig(limit_gb=1),
        paths=Paths(store=str(folder)),
        recipe=Recipe.of(PLAIN_SGD | {"epochs": 2}),
        trainer=TrainerConfig(accelerator="cpu", channels_last=False),
    )
    found = []
    for _ in range(2):
        ready = data.configure(16, 0)

        def cached(teacher, ready=ready):
            return with_cache(teacher, Strategy.of(strategy("kd")), ready, config)

        with distillation("kd", cached, recipe=PLAIN_SGD | {"epochs": 2}) as module:
            trainer(2, devices=2, strategy="ddp").fit(module, datamodule=ready)
            module.teacher.flush()
            distributed.barrier()
            weights = {key: value.clone() for key, value in module.student.state_dict().items()}
            found.append({"student": weights, "read": module.teacher.replayed, "computed": module.teacher.computed})
    return found


def taught(name, teacher_of, rank):
    """A fit of two steps beside such a teacher: what was seen on the way, and what is there afterwards."""
    student, network = copy.deepcopy(models())
    before, found = {key: value.clone() for key, value in network.float().state_dict().items()}, {}
    module = Distillation(student.float(), teacher_of(network), strategy(name), recipe=PLAIN_SGD, channels_last=True)

    def look(_, __):
        parameters = list(module.teacher.model.parameters())
        found["share"] = sum(getattr(p, "to_local", lambda p=p: p)().numel() for p in parameters)
        found["losses"], found["deployed"] = module.mean_losses(), module.deployed()(pixels=samples().pixels[0][:2])
        found["checkpoint"] = list(engine._checkpoint_connector.dump_checkpoint()["state_dict"])

    loader = DataLoader([part(rows(samples(), i, i + BATCH), EQUAL, rank) for i in (0, 3)], batch_size=None)
    engine = trainer(1, devices=2, strategy="ddp", callbacks=[LambdaCallback(on_train_epoch_end=look)])
    engine.fit(module, loader)
    after = module.teacher.model.state_dict()
    found["whole"] = module.teacher.model is network and all(torch.equal(after[key], before[key]) for key in before)
    if rank == 0:  # one process may ask alone
        found["alone"] = module.teacher(rows(samples(), 0, 12))[0]
    return found | {"student": student.state_dict()}


def gathers(rank):
    """Rows of unequal counts, none among them, and of every type that a batch has."""
    return {
        "rows": gather(torch.full((2 * rank, 3), float(rank))),
        "labels": gather(torch.arange(rank + 1)),
        "flags": gather(torch.tensor([True] * (2 - rank))),
    }


def attempt(function, *arguments):
    try:
        return function(*arguments)
    except Exception:  # one check's; both processes go on to the next
        return traceback.format_exc()


def of_a_strategy(name, rank):
    """Everything that is asked of two processes with one strategy."""
    found = {"equal": attempt(end_to_end, name, EQUAL, rank)}
    for kind, key in (("global_batch", "unequal"), ("rowwise", "rows")):
        if terms := terms_that(name, kind):
            found[key] = attempt(end_to_end, name, UNEQUAL, rank, terms)
    if terms_that(name, "global_batch"):
        found["inputs"] = attempt(input_gradients, name, rank)
    return found


def answer(asked, rank, folder):
    """What a process finds: of a gather, of a fit under Lightning's DDP, or of the strategy of that name."""
    if asked == "gather":
        return attempt(gathers, rank)
    if asked == "accumulated":
        return attempt(accumulated, folder, 25, 3, rank)
    if asked in ("sgd", "dot"):
        return attempt(fitted, asked, rank)
    if asked == "shares":
        return attempt(shares, rank)
    if asked == "replayed":
        return attempt(replayed, rank, folder)
    if asked.startswith("sharded "):
        return [attempt(taught, asked.split()[1], how, rank) for how in (ShardedTeacher, FrozenTeacher)]
    return of_a_strategy(asked, rank)


def work(rank, folder, questions, answers):
    """One of two processes: answers what it is asked, until it is asked for None."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}  # Lightning wants to see them; nobody listens
    meeting = {"init_method": f"file://{folder}/meeting", "timeout": timedelta(seconds=20)}
    distributed.init_process_group("gloo", rank=rank, world_size=2, **meeting)
    for asked in iter(questions.get, None):
        torch.save(answer(asked, rank, folder), folder / f"{asked}-{rank}.pt")
        answers.put(asked)
    distributed.destroy_process_group()


class Pair:
    """Two processes that talk over gloo. Each finds what it is asked for once, both at the same time."""

    def __init__(self, folder):
        # A fork of this process could not differentiate once this one has; a server that has the imports can be forked.
        multiprocessing.set_forkserver_preload(["distillab.training.module"])
        context = multiprocessing.get_context("forkserver")
        self.folder, self.known = folder, {}
        self.queues = [(context.Queue(), context.Queue()) for _ in range(2)]
        arguments = [(rank, folder, *queues) for rank, queues in enumerate(self.queues)]
        self.processes = [context.Process(target=work, args=each, daemon=True) for each in arguments]
        for process in self.processes:
            process.start()

    def found(self, rank, asked):
        """What this process found."""
        if asked not in self.known:
            for questions, _ in self.queues:
                questions.put(asked)
            for _, answers in self.queues:
                answers.get(timeout=120)
            files = [self.folder / f"{asked}-{each}.pt" for each in range(2)]
            self.known[asked] = [torch.load(file, weights_only=False) for file in files]
        return self.known[asked][rank]

    def end(self):
        for (questions, _), process in zip(self.queues, self.processes, strict=True):
            questions.put(None)
            process.join(20)


@dataclass
class Rank:
    """One process of a pair: what it found, by name."""

    pair: Pair
    number: int

    def __getitem__(self, asked):
        return self.pair.found(self.number, asked)


def of_both(ranks, *keys):
    """One entry of what each process found, if there was no error."""
    for key in keys:
        ranks = [found[key] for found in ranks]
    for value in ranks:
        assert not isinstance(value, str), value
    return ranks


def assert_close(value, expected, what, **tolerances):
    tolerances = tolerances or {"rtol": 1e-6, "atol": 1e-9}  # what was prepared is in float32
    torch.testing.assert_close(value, expected, **tolerances, msg=lambda text: f"{what}: {text}")


def assert_same_phases(both, whole, loss_of):
    """Each phase: the loss, as `loss_of` the two processes', and in each of them all gradients and buffers."""
    for phases in zip(*both, whole, strict=True):
        *found, expected = phases
        assert any(gradient.any() for gradient in expected["gradients"].values())
        for key, value in expected["losses"].items():
            assert_close(loss_of([one["losses"][key] for one in found]), value, key)
        for one in found:
            for kind in ("gradients", "buffers"):
                assert one[kind].keys() == expected[kind].keys()
                for key, value in expected[kind].items():
                    assert_close(one[kind][key], value, key)
