"""The last step of an experiment: every network is tested once, and what belongs to the student is written."""

from pathlib import Path
from typing import Any

from distillab.commands import run_folder
from distillab.commands.invocation import RUNS
from distillab.commands.steps import Steps
from distillab.core import distributed
from distillab.core.files import writable
from distillab.core.result import Role, gain_and_gap, reference_of
from distillab.core.result_parts import Entry, Features, Primary
from distillab.evaluation import kept
from distillab.evaluation.efficiency import measure
from distillab.evaluation.roles import Roles, with_extremes
from distillab.export.safetensors import save_model
from distillab.reporting.plots import limits_picture
from distillab.schemes.features import headed_by, judged
from distillab.schemes.measure import predictions, scores


def evaluate(steps: Steps, directory: Path) -> dict[str, Any] | None:
    """Test every network once and write what belongs to the student; the result's fields, None but in process 0."""
    if distributed.rank != 0:
        return None
    run, student, networks, records = steps.run, steps.student, steps.networks, steps.records
    data, setting, classes = run.data, run.setting, run.data.info.classes
    with steps.timer.part("evaluation"):
        deployed = networks["student"] = student if steps.module is None else steps.module.deployed()
        read = {role: data.teacher_side if role == "teacher" else data for role in networks}
        predicted = {role: predictions(networks[role], read[role], setting, records[role].folder) for role in networks}
        logits, labels = {role: rows[0] for role, rows in predicted.items()}, predicted["student"][1]
        alike = {role: network for role, network in networks.items() if read[role] is data}
        found = setting.task.compare({role: logits[role] for role in alike}, labels, classes)
        found.metrics.update({role: setting.task.figures(*predicted[role]) for role in networks if role not in alike})
        if steps.module is not None:
            for role in ("student", "random") if "random" in networks else ("student",):
                reached = scores(networks[role], data, setting, predicted[role])
                records[role] = records[role].changed(scores=reached)
        steps.scheme.finish(run, student, records["student"])
        entries = _entries(steps, found)
        text = setting.task.judge(alike, logits, data, setting.device)
        features = _features(steps, found) if data.label_source == "none" else None
    with writable(directory, RUNS):
        save_model(student, directory / "student.safetensors", run.config.student.plain, classes, deployed=deployed)
        reloaded = setting.task.save(deployed, data, directory)
        if found.kept:
            kept.write(directory / kept.NAME, found.kept)
        if found.limits:
            limits_picture(found.limits, directory / "limits.png")
    parts = {key: getattr(found, key) for key in ("limits", "paired", "gap", "against_alone")}
    if found.gap is None or found.gap.low <= 0:  # the share of a gap that may be none says nothing
        parts["gap_closed"] = None
    text = text and text.model_copy(update={"reloaded": reloaded})
    parts |= {"text": text, "features": features, "weights": run_folder.weights(directory)}
    return entries | _compared(steps, entries) | parts


def _features(steps: Steps, found: Roles) -> dict[str, Features]:
    """What the features of the student are worth, beside its teacher's and those of random weights."""
    run, known_roles = steps.run, ("teacher", "student", "random")
    networks = {role: steps.networks[role] for role in known_roles if role in steps.networks}
    known = run.data.labelled_only(repeated=False)
    fitted = {role: found.metrics[role][run.setting.task.primary] for role in headed_by(known, steps.records)}
    networks.setdefault("random", run.student())
    return judged(networks, known, run.setting.device, fitted)


def _compared(steps: Steps, entries: dict[Role, Entry]) -> dict[str, Any]:
    """The fields of the result that concern the whole run."""
    task, data = steps.run.setting.task, steps.run.data
    scores = {role: entry.metrics[task.primary] for role, entry in entries.items()}
    source = steps.module and steps.module.teacher  # None, too, where no term reads a teacher
    primary = Primary(name=task.primary, value=scores["student"], higher_is_better=task.higher_is_better)
    gain, gap_closed = gain_and_gap(scores["student"], scores.get(reference_of(scores)), scores.get("teacher"), primary)
    names = list(data.info.classes)
    return {
        "task": task.name,
        "scheme": steps.scheme.name,
        "primary": primary,
        "gain": gain,
        "gap_closed": gap_closed,
        "data": {
            "name": data.info.name,
            "fingerprint": data.identity,
            "classes": len(names),
            "class_names": names,
            **data.sizes,
        },
        "lineage": steps.scheme.lineage,
        "cache": source and source.cache_record,
        "longer": steps.longer,
    }


def _entries(steps: Steps, found: Roles) -> dict[Role, Entry]:
    """The networks' parts of the result."""
    setting, task, entries = steps.run.setting, steps.run.setting.task, {}
    measured = {role: network for role, network in steps.networks.items() if role != "random"}  # the student's costs
    if measured["student"] is steps.student:  # then the baseline is what the student is deployed as
        measured.pop("baseline", None)
    costs = {role: measure(network, setting.device) for role, network in measured.items()}
    for role, record in steps.records.items():
        curves = record.training.curves if setting.protocol.watches == "test" else []
        metrics = with_extremes(found.metrics[role], curves, task.primary, higher_is_better=task.higher_is_better)
        entries[role] = Entry(
            name=(steps.student if role == "student" else steps.networks[role]).info.name,
            per_class=metrics.pop("per_class", None),
            metrics=metrics,
            validation={task.primary: record.scores.get("validation")},
            intervals=found.intervals.get(role, {}),
            calibration=found.calibration.get(role),
            against_teacher=found.against_teacher.get(role),
            efficiency=costs.get(role, costs["student"]),
            training=record.training,
        )
    return entries
