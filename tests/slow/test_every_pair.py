"""Slow: every strategy learns from real digits within a family, across families, and between CNN and ViT."""

import lightning as L
import pytest
import torch
import yaml
from helpers.fits import assert_every_term_reaches_the_student, own_loss, seen_batch, strategy, taught, weights

from distillab import Distillation
from distillab.commands.composition import conf_dir
from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.models.build import build_model

STRATEGIES = sorted({path.stem for path in (conf_dir() / "strategy").glob("*.yaml")} - {"none"})
EPOCHS = 4
VIT = {"architecture": "vit_tiny_patch16_224", "patch_size": 2, "depth": 4, "embed_dim": 48, "num_heads": 2}
DEIT = VIT | {"architecture": "deit_tiny_distilled_patch16_224"}
PAIRS = {  # student, teacher: a file of conf/model and what is changed in it
    "same family": (("resnet8", {}), ("resnet14", {})),
    "other family": (("resnet8", {}), ("vgg8", {})),
    "CNN from ViT": (("resnet8", {}), ("timm", VIT)),
    "ViT from CNN": (("timm", VIT), ("resnet8", {})),
}
STUDENTS = {("deit", "ViT from CNN"): ("timm", DEIT)}  # where a method needs another one of the same kind
# Where a method cannot work it must be refused, with the words that say why.
CHANNELS, HEAD = "equal channels at every stage.*choose", "does not read the mean of its last map.*take kd"
REFUSED = {(name, pair): CHANNELS for name in ("fsp", "kdsvd") for pair in PAIRS if pair != "same family"}
REFUSED |= {("sdd", pair): HEAD for pair in PAIRS if "ViT" in pair}
REFUSED |= {("cat", pair): HEAD for pair in PAIRS if "ViT" in pair}
REFUSED |= {("deit", pair): "has no distillation token.*deit_tiny" for pair in PAIRS if pair != "ViT from CNN"}
REFUSED |= {("hidden", pair): "place by place.*choose strategy=hint" for pair in PAIRS if pair != "same family"}
REFUSED |= {("attention_map", pair): "shows no attention" for pair in PAIRS}
REFUSED[("simkd", "CNN from ViT")] = HEAD
REFUSED[("ofd", "CNN from ViT")] = "BatchNorm that ends a stage.*choose strategy=reviewkd"
REFUSED[("ft", "other family")] = "factor of one pixel.*choose"
REFUSED[("wkd", "other family")] = "a map of one pixel has no deviation.*choose"


def model(role, name, changes, data, seed):
    config = yaml.safe_load((conf_dir() / "model" / f"{name}.yaml").read_text()) | changes
    config = ModelConfig.of(config, role)
    spec = data.info
    shape = (spec.channels, spec.image_size, spec.image_size)
    return build_model(config, role, spec.classes, shape, mean=spec.mean, std=spec.std, seed=seed)


def sure(teacher, data):
    """The same teacher with logits of deviation 10: as one that is trained, it is sure of what it says."""
    images = next(iter(data.configure(64, 0).train_dataloader())).pixels[0].float() / 255
    with torch.no_grad():
        teacher.net.get_submodule(teacher.info.head).weight.data *= 10 / teacher.eval()(images).std()
    return teacher


def fit(module, data, epochs):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    engine = L.Trainer(max_epochs=epochs, use_distributed_sampler=False, enable_model_summary=False, **quiet)
    engine.fit(module, datamodule=data.configure(64, 0, module.strategy.num_views))


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_term_reaches_the_student_who_learns(name, pair, digits):
    (student, teacher), parts = PAIRS[pair], strategy(name)
    student = model("student", *STUDENTS.get((name, pair), student), digits, 0)
    teacher = model("teacher", *teacher, digits, 1)
    if reason := REFUSED.get((name, pair)):
        with pytest.raises(UserError, match=reason):
            fit(Distillation(student, teacher, parts), digits, 1)
        return
    module = Distillation(student, sure(teacher, digits), taught(parts))
    batch = seen_batch(digits.configure(64, 0, module.strategy.num_views), module)
    assert_every_term_reaches_the_student(module, batch)
    start, before = own_loss(module, batch), weights(module)
    fit(module, digits, EPOCHS)
    after = weights(module)
    assert all(torch.isfinite(value).all() for value in after.values() if value.is_floating_point())
    assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith("student."))
    assert own_loss(module, batch) < start
