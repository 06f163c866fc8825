"""Who teaches whom: every scheme end to end, and what each source of teacher outputs says."""

import copy

import lightning as L
import numpy as np
import pytest
import torch
from loss_checks import softmax
from omegaconf import OmegaConf
from test_module import stop_and_resume, strategy, trainer
from torch.nn import functional as F

from distillab import Distillation, config, experiment
from distillab.data.batch import Batch
from distillab.errors import UserError
from distillab.evaluation import efficiency
from distillab.functional import kd
from distillab.models.image_model import ImageModel
from distillab.schemes.ema import EMATeacher
from distillab.schemes.ensemble import EnsembleTeacher
from distillab.schemes.members import with_members
from distillab.schemes.mutual import MutualDistillation
from distillab.schemes.self_teaching import LabelTeacher
from distillab.tracking.result import config_hash

SHAPE = (1, 8, 8)
SMALL = ["student=resnet8", "teacher=resnet14", "logger=none", "data.samples=128", "recipe.epochs=1"]
SMALL += ["teacher.recipe.epochs=1"]
SCHEMES = sorted(path.stem for path in (config.conf_dir() / "scheme").glob("*.yaml"))
# Overrides, the result's teacher, and the lineage: who, and from whom.
EXPECTED = {
    "offline": ([], "resnet14", [("resnet14", None), ("resnet8", "resnet14")]),
    "ensemble": (
        ["scheme.teachers=[resnet14,resnet8]", "scheme.weighting=confidence"],
        "resnet14+resnet14+resnet8",
        [
            ("resnet14 (seed 0)", None),
            ("resnet14 (seed 1)", None),
            ("resnet8", None),
            ("resnet8", "resnet14+resnet14+resnet8"),
        ],
    ),
    "ema": ([], None, [("resnet8", "average of resnet8")]),
    "self": ([], None, [("resnet8", "smoothed labels")]),
    "born_again": (
        ["scheme.generations=2"],
        None,
        [
            ("resnet8 generation 0", None),
            ("resnet8 generation 1", "resnet8 generation 0"),
            ("resnet8", "resnet8 generation 1"),
        ],
    ),
    "assistant": (
        ["teacher=resnet20", "scheme.assistants=[resnet14]"],
        "resnet20",
        [("resnet20", None), ("resnet14", "resnet20"), ("resnet8", "resnet14")],
    ),
    "mutual": (
        ["scheme.peers=[resnet14,resnet8]"],
        None,
        [
            ("resnet8 (peer 0)", "resnet14 (peer 1), resnet8 (peer 2)"),
            ("resnet14 (peer 1)", "resnet8 (peer 0), resnet8 (peer 2)"),
            ("resnet8 (peer 2)", "resnet8 (peer 0), resnet14 (peer 1)"),
        ],
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:  # timings and plots take a second each, and are tested elsewhere
        figures = dict.fromkeys(("latency_ms", "latency_p95_ms", "latency_batch_ms"), 1.0)
        patch.setattr(efficiency, "latency", lambda *_, **__: figures)
        patch.setattr(experiment, "show", lambda *_: None)
        yield tmp_path_factory.mktemp("place")


def composed(place, *overrides):
    paths = [f"paths.runs={place}/runs", f"paths.store={place}/store"]
    return OmegaConf.to_container(config.compose([*SMALL, *paths, *overrides]), resolve=True)


def run(place, *overrides):
    cfg = composed(place, *overrides)
    return experiment.run(cfg, config.strategy_label(cfg["strategy"]))


def models(network, *depths):
    return [ImageModel(network(seed, depth), SHAPE, f"resnet{depth}") for seed, depth in enumerate(depths)]


def test_every_scheme_is_expected():
    assert set(EXPECTED) == set(SCHEMES)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_runs(name, place):
    overrides, teacher, lineage = EXPECTED[name]
    result = run(place, f"scheme={name}", *overrides)
    assert result["scheme"] == name
    assert (result["teacher"] and result["teacher"]["name"]) == teacher
    assert [(one["name"], one["parent"]) for one in result["lineage"]] == lineage
    for one in result["lineage"]:
        assert set(one["top1"]) == {"validation", "test"} and one["seconds"] >= 0
    own = next(one for one in reversed(result["lineage"]) if name != "mutual" or "peer 0" in one["name"])
    assert own["top1"]["test"] == result["student"]["top1"]
    assert result["student"]["name"] == "resnet8" and result["student"]["parameters"] < 80_000
    assert result["gain"] == pytest.approx(result["student"]["top1"] - result["baseline"]["top1"])


def test_the_student_alone_may_teach(place):
    result = run(place, "scheme=self", "scheme.source=student")
    assert result["lineage"][0]["name"] == "resnet8 alone"
    assert result["lineage"][0]["top1"]["test"] == result["baseline"]["top1"] and result["teacher"] is None


def test_a_plan_goes_on_from_what_is_kept(place, capsys):
    words = ["scheme=born_again", "scheme.generations=2"]
    first = run(place, *words)
    capsys.readouterr()
    again = run(place, *words, "name=again")
    told = capsys.readouterr().out
    assert "generation 1 from resnet8 generation 0  epoch" not in told and "(reused from the store)" in told
    assert again["lineage"][1]["reused"] and again["student"]["top1"] == first["student"]["top1"]
    longer = run(place, "scheme=born_again", "scheme.generations=3")
    assert [one.get("reused") for one in longer["lineage"]] == [True, True, False, None]
    other = run(place, *words, "strategy.kd.temperature=2")
    assert not other["lineage"][1]["reused"], "another strategy is another lesson"


def test_the_hash_sees_the_scheme(place):
    cases = (
        [],
        ["scheme=ema"],
        ["scheme=ema", "scheme.decay=.9"],
        ["scheme=mutual"],
        ["scheme=mutual", "scheme.peers=[resnet14]"],
        ["scheme=mutual", "scheme.peers=[{model: resnet14, seed: 3}]"],
    )
    assert len({config_hash(with_members(composed(place, *words))) for words in cases}) == len(cases)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["scheme=ema", "strategy=none"], "scheme=ema teaches nobody"),
        (["scheme=ema", "scheme.decay=1"], "scheme: decay must be a number from 0 to below 1, got 1"),
        (["scheme=self", "strategy=hint"], "a virtual teacher has logits alone, and the strategy reads teacher.stages"),
        (["scheme=self", "scheme.correct=0.1"], "correct must be above 1/10"),
        (["scheme=self", "scheme.source=teacher"], 'scheme.source must be one of labels, student, got "teacher"'),
        (["scheme=ensemble", "strategy=hint"], "an ensemble has logits alone"),
        (["scheme=ensemble", "scheme.teachers=[]"], "an ensemble takes more than one teacher"),
        (["scheme=ensemble", "scheme.weighting=sum"], 'weighting must be one of mean, confidence, got "sum"'),
        (["scheme=ensemble", "scheme.teachers=[resnet15]"], 'scheme.teachers has no "resnet15"; did you mean "resnet'),
        (["scheme=ensemble", "scheme.teachers=resnet14"], "scheme.teachers must list models"),
        (["scheme=ensemble", "scheme.teachers=[{seed: 1}]"], "names no model"),
        (["scheme=ensemble", "scheme.teachers=[{model: resnet14, checkpoint: no.pt}]"], "there is no file no.pt"),
        (["scheme=born_again", "scheme.generations=0"], "scheme.generations must be a whole number from 1, got 0"),
        (["scheme=assistant", "scheme.assistants=[]"], "scheme.assistants is empty"),
        (["scheme=mutual", "scheme.peers=[]"], "scheme.peers is empty"),
        (["scheme=mutual", "strategy=hint_two_phase", "recipe.epochs=4"], "scheme=mutual has no phases"),
        (["scheme=mutual", "strategy=crd"], "scheme=mutual: strategy.crd looks at the data beforehand"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_trained(place, tmp_path, overrides, said):
    with pytest.raises(UserError) as caught:
        run(place, f"paths.store={tmp_path}", "name=bad", *overrides)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "networks").exists()


def test_an_assistant_larger_than_its_teacher_is_said(place, capsys):
    run(place, "scheme=assistant", "scheme.assistants=[resnet20]", "name=large")
    assert "resnet20 (272,186 parameters) is not smaller than resnet14" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- sources


def test_the_ensemble_is_the_mixture(network):
    members = models(network, 8, 14, 8)
    for i, member in enumerate(members):
        member.net.fc.weight.data *= 10 * (i + 1)  # so that they differ in what they are sure of
    images, labels = torch.rand(5, *SHAPE), torch.arange(5)
    with torch.no_grad():
        said = np.stack([softmax(m.eval()(images).double().numpy()) for m in members])
    mean = said.mean(0)
    confidence = said[:, np.arange(5), labels.numpy()]
    weighted = (said * (confidence / confidence.sum(0))[..., None]).sum(0)
    for weighting, expected in (("mean", mean), ("confidence", weighted)):
        teacher = EnsembleTeacher(members, weighting)
        teacher.tap({"logits"})
        views = teacher.outputs([images, images.flip(0)], labels)
        assert np.allclose(views[0].logits.exp().numpy(), expected, atol=1e-6)
        assert not views[0].logits.requires_grad and len(views) == 2
        one_hot = teacher.outputs([images], F.one_hot(labels, 10).float())[0].logits
        assert torch.allclose(one_hot, views[0].logits, atol=1e-6)
    assert not np.allclose(mean, weighted, atol=1e-2)


def test_an_ensemble_is_frozen_and_left_out_of_the_checkpoint(network, digits, tmp_path):
    student, *members = models(network, 8, 14, 8)
    before = copy.deepcopy([member.state_dict() for member in members])
    module = Distillation(student, EnsembleTeacher(members), strategy("kd"))
    engine = trainer(1)
    engine.fit(module, datamodule=digits.configure(64, 0))
    engine.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert not [key for key in saved if key.startswith("teacher.")]
    for member, old in zip(members, before, strict=True):
        assert all(torch.equal(value, old[key]) for key, value in member.state_dict().items())


def test_the_virtual_teacher_is_the_smoothed_label():
    teacher = LabelTeacher(4, 0.9)
    said = teacher.outputs([torch.zeros(2, 1)] * 2, torch.tensor([2, 0]))
    rest = 0.1 / 3
    expected = torch.tensor([[rest, rest, 0.9, rest], [0.9, rest, rest, rest]])
    assert len(said) == 2 and torch.allclose(said[1].logits.exp(), expected)
    mixed = teacher.outputs([torch.zeros(1, 1)], torch.tensor([[0.5, 0.0, 0.5, 0.0]]))[0].logits.exp()
    assert torch.allclose(mixed, expected.mean(0)[None])


@pytest.mark.parametrize("decay", [0.6, 0.99])
def test_the_average_has_its_closed_form(network, decay):
    """First the plain mean of all states, then Σ (1 − d) d^k s_(n−k) from that mean on."""
    (student,) = models(network, 8)
    teacher = EMATeacher(student, decay)
    generator, states = torch.Generator().manual_seed(0), [copy.deepcopy(student.state_dict())]
    for step in range(1, 7):
        for value in student.state_dict().values():
            value.add_(torch.randn(value.shape, generator=generator) if value.is_floating_point() else 1)
        states.append(copy.deepcopy(student.state_dict()))
        teacher.after_step(student)
        grown = max(n for n in range(step + 1) if n / (n + 1) <= decay)  # steps with a plain mean
        for key in ("net.fc.weight", "net.layer1.0.bn1.running_mean"):
            expected = sum(state[key] for state in states[: grown + 1]) / (grown + 1) * decay ** (step - grown)
            expected = expected + sum(
                (1 - decay) * decay ** (step - n) * states[n][key] for n in range(grown + 1, step + 1)
            )
            assert torch.allclose(teacher.model.state_dict()[key], expected, atol=1e-5), (step, key)
    counter = "net.layer1.0.bn1.num_batches_tracked"
    assert torch.equal(teacher.model.state_dict()[counter], student.state_dict()[counter])
    assert not any(p.requires_grad for p in teacher.parameters()) and not teacher.train().model.training


def test_the_average_follows_optimiser_steps_not_batches(network, digits):
    (student,) = models(network, 8)
    module = Distillation(student, EMATeacher(student, 0.5), strategy("kd"))
    engine = trainer(1, accumulate_grad_batches=2)
    engine.fit(module, datamodule=digits.configure(64, 0))
    assert module.teacher.steps == engine.global_step == 2


# ---------------------------------------------------------------------------------------- peers


def mutual(network, name="kd", depths=(8, 14)):
    return MutualDistillation(models(network, *depths), strategy(name), recipe={"lr": 1e-3})


def batch_of(n=6):
    return Batch([torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0))], torch.arange(n), torch.arange(n))


def test_the_loss_is_that_of_each_peer_with_each_other_one(network):
    module = mutual(network, depths=(8, 14, 8)).eval()
    batch = batch_of()
    losses = module.losses(batch, ("ce", "kd"))
    logits = [peer(batch.views[0]) for peer in (module.student, *module.peers)]
    ce = sum(0.1 * F.cross_entropy(z, batch.labels) for z in logits)
    pairs = sum(0.9 * kd(logits[i], logits[j]) for i in range(3) for j in range(3) if i != j) / 2
    assert torch.allclose(losses["ce"], ce) and torch.allclose(losses["kd"], pairs)


@pytest.mark.parametrize("name", ["kd", "hint"])
def test_no_gradient_reaches_the_peer_who_teaches(network, name):
    """A peer's gradient is that of its own lesson, from a teacher that is fixed."""
    module, batch = mutual(network, name).eval(), batch_of()
    total = sum(module.losses(batch, tuple(module.strategy.terms)).values())
    peers = [module.student, module.peers[0]]
    lessons = [module.strategy, module.further[0]]
    for i, (learner, lesson) in enumerate(zip(peers, lessons, strict=True)):
        alone = Distillation(copy.deepcopy(learner), copy.deepcopy(peers[1 - i]), strategy(name)).eval()
        alone.strategy.load_state_dict(lesson.state_dict())
        expected = torch.autograd.grad(
            sum(alone.losses(batch, tuple(alone.strategy.terms)).values()), list(alone.student.parameters())
        )
        own = torch.autograd.grad(total, list(learner.parameters()), retain_graph=True)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(own, expected, strict=True))
        assert any(a.abs().sum() > 0 for a in own)


def test_one_optimiser_trains_all_peers_and_their_connectors(network, digits):
    module = mutual(network, "hint")
    before = copy.deepcopy(module.state_dict())
    engine = trainer(1)
    engine.fit(module, datamodule=digits.configure(64, 0))
    held = {id(p) for group in engine.optimizers[0].param_groups for p in group["params"]}
    assert held == {id(p) for p in module.parameters()}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert not torch.equal(parameter, before[name]), name
    assert module.deployed() is module.student


def test_schedules_reach_every_pair(network, digits):
    parts = strategy("kd")
    parts["kd"]["weight"] = {"value": 1.0, "start": 5}
    module = MutualDistillation(models(network, 8, 8), parts)
    seen = []

    class Look(L.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            seen.extend(own.terms["kd"].weight for own in (module.strategy, *module.further))

    trainer(1, callbacks=[Look()]).fit(module, datamodule=digits.configure(64, 0))
    assert seen and set(seen) == {0.0}


# ---------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("stop_at", [3, 6])
@pytest.mark.parametrize("scheme", ["ema", "mutual"])
def test_a_stop_in_mid_epoch_and_a_resume_end_in_the_unbroken_state(scheme, stop_at, network, digits, tmp_path):
    made = []

    def make():
        if scheme == "mutual":
            module = mutual(network, "hint")
        else:
            (student,) = models(network, 8)
            module = Distillation(student, EMATeacher(student, 0.7), strategy("kd"), recipe={"lr": 1e-3})
        made.append(module)
        return module

    stop_and_resume(make, lambda module: digits.configure(64, 0), stop_at, 2, tmp_path)  # 4 steps an epoch
    whole, _, resumed = (module.state_dict() for module in made)
    assert any(key.startswith(("teacher.", "peers.")) for key in whole)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
