"""Whole runs with Weights & Biases, read back from what it wrote: the curves are those of the result."""

import pytest
from helpers.small_run import run
from helpers.wandb_files import read, wandb_records

QUICK = ["debug=quick", "logger=wandb", "logger.mode=offline", "student=resnet8", "teacher=resnet8", "recipe.epochs=2"]


@pytest.mark.slow
def test_runs_hold_the_curves_of_their_result_also_where_the_training_was_an_earlier_one(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_SILENT", "true")
    for strategy, terms in (("kd", ("ce", "kd")), ("none", ("ce",))):
        result = run(tmp_path, f"strategy={strategy}", base=QUICK)
        assert result.student.training.reused is (True if strategy == "none" else None)  # it was kd's baseline
        wandb.teardown()  # W&B's own process has written all when it has ended
        history, summary = [], {}
        for record in wandb_records(tmp_path / "runs" / "debug" / result.config_hash):
            if record.WhichOneof("record_type") == "history":
                history.append(read(record.history.item))
            elif record.WhichOneof("record_type") == "summary":
                summary |= read(record.summary.update)
        for key in ("val/top1", "train/loss", *(f"train/{term}" for term in terms)):
            logged = [(row["epoch"], row[key]) for row in history if key in row]
            curve = [(epoch["epoch"] - 1, pytest.approx(epoch[key])) for epoch in result.student.training.curves]
            assert len(curve) == 2 and logged == curve, (strategy, key)
        assert (summary["strategy"], summary["top1"]) == (strategy, result.primary.value)
