"""The trained student of a run's folder: of a finished run out of its file, of an interrupted one out of its checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distillab.commands import steps
from distillab.commands.exporting import Export, notes_of
from distillab.commands.run_folder import check_weights
from distillab.core.errors import UserError
from distillab.core.instantiate import locate
from distillab.core.output import rank_zero_print
from distillab.core.result import Result
from distillab.core.timer import Timer
from distillab.export.safetensors import load_student
from distillab.strategies.base import Term
from distillab.training.fit import load_weights

if TYPE_CHECKING:
    from distillab.core.configuration import RunConfig

COPY = "a copy of the run's folder, run=…"
NEAR = 1e-3  # of the primary figure: another device sums in another order


def finished_student(result: Result, config: "RunConfig", directory: Path, parts: steps.Parts) -> Export:
    """The student of a finished run; UserError where its file does not answer as the student that was measured."""
    data, task, file = parts.data, parts.task, directory / "student.safetensors"
    if not file.is_file():
        raise UserError(f"{directory} has no student.safetensors to export; rerun=true makes the run again")
    check_weights(directory, result.weights)
    data.prepare()
    target = config.student.builder.target
    model = load_student(file, network=locate(target, "student") if target else None)
    training = result.student.training
    made = Export(model, data, task, directory, notes_of(data, training.epoch, training.epochs), place=COPY)
    reached, told = task.score(*made.predicted), result.primary.value
    if abs(reached - told) > NEAR:
        what = f"{task.text(reached)} on test here, and {task.text(told)} in result.json"
        raise UserError(f"{file} has {what}: one of the three was changed; rerun=true makes the run again")
    return made


def interrupted_student(config: "RunConfig", directory: Path, parts: steps.Parts) -> Export:
    """The student of a run that has not ended, out of its best checkpoint; it is proved on validation, test stays unseen."""
    file = directory / "checkpoints" / "best.ckpt"
    if not file.is_file():
        raise UserError(f"{directory} has no result.json and no {file.relative_to(directory)}: there is no student yet")
    made = steps.prepare(config, parts, Timer())
    run = made.run
    try:
        if any(type(term).deploy is not Term.deploy for term in run.strategy.terms.values()):
            run.setting.store.only_kept = True  # the teacher's head ships, and nothing is trained for it
            steps.ready(made)
            epoch, model = load_weights(made.module, file), made.module.deployed()
            made.module.release()
        else:
            epoch, model = _own_weights(made.student, file), made.student
    except UserError:
        raise
    except Exception as error:  # a damaged file may be taken for nearly anything
        raise UserError(f"{file} cannot be read as a checkpoint of this run; the run's command mends it") from error
    split = "validation" if run.data.sizes["validation"] else "test"
    rank_zero_print(
        f"{directory} is not finished: this is the student of epoch {epoch} of {run.epochs}, the best one so far"
    )
    notes = notes_of(run.data, epoch, run.epochs, "; the training was not finished")
    return Export(model, run.data, run.setting.task, directory, notes, split, f"epoch-{epoch}", COPY)


def _own_weights(student: Any, file: Path) -> int:
    checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    own = {key: value for key, value in checkpoint["state_dict"].items() if key.startswith("student.")}
    student.load_state_dict({key.removeprefix("student."): value for key, value in own.items()})
    return checkpoint["epoch"] + 1
