"""The page of published figures: each with its setting and the command that would reproduce it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from page_tables import table

from distillab.core.files import replacing
from distillab.reporting.metric_table import NOTHING
from methods_page.published import Figure, Published, Table, read

OPENING = """\
# Published figures, and the command for each

Made by `python scripts/methods.py` from docs/published.yaml. The figures are others'; none of them was measured here. On
CIFAR-100 every command trains the teacher once (240 epochs, kept in the store), the student, and the same student without a
teacher, under `protocol=paper`: all training images, the test images watched. The student's metrics in `result.json` then have
`top1_last` and `top1_best`; compare the one that *epoch* names. Most published figures are means of several runs:
`-m seed=0,1,2,3,4`. `equal_compute=false` leaves out the student alone that is trained longer.

CIFAR-100 is downloaded where the network allows (`data.root=…` names another place). The learning rate of 0.05 is too high
for MobileNetV2 and the ShuffleNets: their students learn at 0.01, which `experiment=light_pair` sets. No recipe changes a
number behind the name of a student: `experiment=crd_pair student=mobilenetv2` does learn at 0.05.

## Their teachers, and other checkpoints

    python train.py experiment=crd_pair strategy=kd teacher.checkpoint=save/models/resnet32x4_vanilla/ckpt_epoch_240.pth
    python train.py experiment=crd_pair strategy=dkd teacher.checkpoint=download_ckpts/cifar_teachers/resnet32x4_vanilla/ckpt_epoch_240.pth

Checkpoints of RepDistiller and mdistiller load as they are, `student.checkpoint` too, out of `{'epoch', 'model', 'best_acc',
'opt'}` or the state of a whole distiller (its student's part). They were trained with the mean and deviation of CIFAR-100 that
`data=cifar100` has.

Their networks are the same as here, and their tensors have other names. Where the names do not fit, the tensors are taken in
their order, and a line says so. That is done for the CIFAR networks, and for torchvision's ResNets with either stem, whose
modules are registered in the order of those repositories; and only where nothing speaks against it: the same number of tensors,
each of the same shape and with the same last word (`weight`, `running_mean`, …), names that the network has too in the
places where it has them, and numbered modules in the order of their numbers. A file that was sorted or put together in
another order is refused: safetensors, which keep no order, take their tensors by name alone. So do one's own networks, timm's
and the rest of torchvision's: nothing tells that they register their modules as the file's network did, and two tensors of
one shape that change places give a network that runs and is wrong.

No code in a file is run. Weights are read out of what stands beside them (an argparse namespace, numbers of numpy, an
optimiser's state). A pickled network, whole or under `model`, `state_dict`, `net` or `module`, and a TorchScript program are
refused; the message ends in one line of Python that writes their weights into a file that can be read."""

CRD = """\
## The table of CRD

[RepDistiller](https://github.com/HobbitLong/RepDistiller), arXiv 1910.10699, tables 1 and 2: {epochs} epochs, batch
{batch_size}, learning rate {lr} ({light} for MobileNetV2 and the ShuffleNets), the *{epoch}* epoch. `ab`, `ft` and `fsp` were
given 30 epochs before the {epochs}, at a constant rate, and are here. (For `ft` with vgg8 that rate was {lr}:
`strategy.phases.0.lr.sgd={lr}`.)"""

OTHERS = """\
## mdistiller's table, and other methods

mdistiller ([2203.08679](https://arxiv.org/abs/2203.08679)) gives the *best* epoch on test, a mean of five runs. `srrl` is SimKD's
rerun, which adds KD and projects the pooled embedding instead of the map. `wttm`'s weight and γ are those of vgg13→vgg8, the
one pair that its code names; the paper has others for every pair (appendix A.4). The code behind `mlkd`'s figure
computes less than the paper's sum, which is built here. ReviewKD and ND have Nesterov momentum; their experiments set it."""

IMAGENET = """\
## A pair on ImageNet

torchvision's ResNet-34 (73.31) teaches ResNet-18, whose 69.76 alone are torchvision's weights (90 epochs). ×0.1 after 30, 60
and 90 epochs; on several GPUs add `trainer=ddp trainer.devices=8`, the batch is that of all together. `kd` has equal weights
at temperature 1, `attention` the last two stages, `dkd` β 0.5 at temperature 1; `reviewkd` reads the student's maps before their
ReLU. `experiment=imagenet_pair` has torchvision's own 90 epochs, ×0.1 after 30 and 60, and chooses on images of its own."""
OF_IMAGENET = ("torchdistill", "mdistiller_imagenet", "reviewkd_imagenet")


def page(docs: Path) -> str:
    """The whole page in Markdown; `docs` is the folder of published.yaml."""
    published = read(docs)
    tables = {name: [one for one in published.tables if one.source.name == name] for name in _sources(published)}
    crd, imagenet = tables.pop("repdistiller"), [one for name in OF_IMAGENET for one in tables.pop(name)]
    source = crd[0].source
    known = {"epochs": source.epochs, "batch_size": source.batch_size, "lr": source.lr, "epoch": source.epoch}
    parts = [OPENING, CRD.format(**known, light=source.lr_of["mobilenetv2"])]
    for one in crd:
        parts += [_matrix(one), _sweeps(one)]
    others = [figure for found in tables.values() for one in found for figure in one.figures]
    parts += [OTHERS, _rows(others), IMAGENET, _rows([figure for one in imagenet for figure in one.figures])]
    return "\n\n".join(parts) + "\n"


def write(docs: Path) -> None:
    """Write reproduce.md into `docs`."""
    with replacing(docs / "reproduce.md") as temporary:
        temporary.write_text(page(docs))


def _sources(published: Published) -> list[str]:
    return list(dict.fromkeys(one.source.name for one in published.tables))


def _matrix(one: Table) -> str:
    """A row for each method, a column for each pair."""
    rows = [["teacher", *(f"{value:.2f}" for value in one.teacher)]]
    for method, figures in one.rows.items():
        rows.append([f"`{method}`", *(f"{figure.top1:.2f}" if figure else NOTHING for figure in figures)])
    return table(["", *one.pairs], rows)


def _sweeps(one: Table) -> str:
    """One command for each column of the table."""
    return "\n".join(f"    {one.sweep(column)}" for column in range(len(one.pairs)))


def _rows(figures: Iterable[Figure]) -> str:
    head = ["method", "pair", "published", "epochs", "batch", "rate", "epoch", "from", "command"]
    rows = [
        [
            f"`{one.method}`",
            f"{one.teacher}→{one.student}",
            f"{one.top1:.2f}",
            f"{one.source.epochs}",
            f"{one.source.batch_size}",
            f"{one.lr:g}",
            one.source.epoch or "not said",
            one.source.link,
            f"`{one.command}`",
        ]
        for one in figures
    ]
    return table(head, rows, left=(0, 1, 6, 7, 8))
