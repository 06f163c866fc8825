"""Tasks for lm-evaluation-harness out of a run's test text: what is asked, and what the files say."""

import json
import runpy
from pathlib import Path

import pytest
import yaml
from helpers.texts import write
from omegaconf import OmegaConf

from distillab.commands.composition import compose
from distillab.core.errors import UserError
from distillab.core.instantiate import build

script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "lm_eval_task.py"))


def test_each_beginning_has_its_own_continuation_among_others():
    texts = [" ".join(f"{name}{place}" for place in range(300)) for name in "ab"]
    rows = list(script["questions"](texts))
    assert rows == list(script["questions"](texts)) and len(rows) == 10
    for row in rows:
        words, right = row["given"].split(), row["choices"][row["answer"]]
        assert len(words) == 40 and f"{row['given']} {right}" in " ".join(texts)
        assert len({*row["choices"]}) == 4 and all(len(one.split()) == 12 for one in row["choices"])
    assert len({row["answer"] for row in rows}) > 1
    assert list(script["questions"](["too short"])) == []


def test_the_files_hold_the_test_documents_of_the_run(tmp_path, capsys):
    words = ["data=text", f"data.path={write(tmp_path, 20)}", "data.vocabulary=300", "data.length=32"]
    config = OmegaConf.to_container(compose(words), resolve=True)
    OmegaConf.save(OmegaConf.create(config), tmp_path / "config.yaml")
    script["main"]([f"run={tmp_path}", f"out={tmp_path}/tasks"])
    held_out = build(config["data"], "data").split_documents()["test"]
    lines = (tmp_path / "tasks" / "held_out_bits.jsonl").read_text().splitlines()
    assert held_out and [json.loads(line)["text"] for line in lines] == [one.text for one in held_out]
    for name, kind in (("held_out_bits", "loglikelihood_rolling"), ("held_out_choice", "multiple_choice")):
        task = yaml.safe_load((tmp_path / "tasks" / f"{name}.yaml").read_text())
        assert (task["task"], task["output_type"]) == (name, kind)
        assert Path(task["dataset_kwargs"]["data_files"]["test"]).is_file()
    with pytest.raises(UserError, match=r"there is no .*config\.yaml"):
        script["main"]([f"run={tmp_path}/nowhere", "out=tasks"])
