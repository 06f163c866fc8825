"""The dashboard's specification, made without the network: every key in it is one that a run logs."""

import json
import socket
import sys

import pytest
from helpers.made_results import edited, made

from distillab.core.errors import UserError
from distillab.reporting import dashboard, loggers, metric_table


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    def refused(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


def texts(spec):
    """All strings of the specification, keys of objects among them."""
    if isinstance(spec, dict):
        yield from spec
        spec = list(spec.values())
    if isinstance(spec, list):
        for part in spec:
            yield from texts(part)
    elif isinstance(spec, str):
        yield spec


def inner(spec, key):
    """Every value that stands under a key, at any depth."""
    if isinstance(spec, dict):
        if key in spec:
            yield spec[key]
        spec = list(spec.values())
    if isinstance(spec, list):
        for part in spec:
            yield from inner(part, key)


def logged():
    """Summary keys and labels of a run that has every figure."""
    metrics = dict.fromkeys(metric_table.ON_TEST[1:], 0.5)
    student = {"metrics": metrics, "efficiency": {"throughput": 0.5}, "against_teacher": {"agreement": 0.9}}
    numbers, labels = loggers.summary(edited(made(scheme="offline"), student=student))
    return numbers | labels, labels


@pytest.mark.parametrize("kind", ["workspace", "report"])
def test_every_key_is_one_that_a_run_logs(no_network, kind):
    spec = dashboard.specification("distillab", "", "digits", "standard")[kind]
    summary, labels = logged()
    words = list(texts(spec))
    shown = {word.partition(mark)[2] for word in words for mark in ("summary:", "summary_metrics.") if mark in word}
    filtered = [
        filters["key"]["name"] for group in inner(spec, "filters") if isinstance(group, list) for filters in group
    ]
    ordered = [line["key"]["name"] for sort in inner(spec, "sort") for line in sort["keys"]]
    assert set(filtered) == {"data", "protocol"} and set(ordered) == {"top1"}
    assert shown | {*filtered, *ordered} <= set(summary)
    assert {"top1", "baseline_top1", "parameters", "latency_ms", "gain", "agreement"} <= shown
    grouped = {word.removeprefix("labels.value.") for word in words if word.startswith("labels.")}
    assert grouped == {"strategy", "student"} <= set(labels)
    curves = [key for panel in inner(spec, "config") if isinstance(panel, dict) and panel.get("xAxis") == "epoch"
              for key in panel["metrics"]]  # fmt: skip
    assert curves == ["val/top1", "train/loss"]
    (pictures,) = inner(spec, "mediaKeys")
    assert pictures == ["plots/limits", "plots/accuracy_vs_parameters"]


def test_curves_bear_the_names_that_training_logs():
    from distillab.tasks.image_classification import ImageClassification

    assert ImageClassification().monitor == "val/top1"


def test_the_panels_show_what_they_promise(no_network):
    spec = dashboard.specification("distillab", "team", "cifar10", "paper")["report"]
    assert spec["displayName"] == "Distillation on cifar10, protocol paper"
    assert spec["project"] == {"name": "distillab", "entityName": "team"}
    grids = [block["metadata"] for block in spec["spec"]["blocks"] if block["type"] == "panel-grid"]
    values = [
        {line["key"]["name"]: line["value"] for line in grid["runSets"][0]["filters"]["filters"]} for grid in grids
    ]
    assert values == [{"data": "cifar10", "protocol": "paper"}] * len(grids)
    kinds = [[panel["viewType"] for panel in grid["panelBankSectionConfig"]["panels"]] for grid in grids]
    assert kinds == [["Scatter Plot"] * 3, ["Bar Chart"] * 4, ["Run History Line Plot"] * 2, ["Media Browser"], []]
    size = grids[0]["panelBankSectionConfig"]["panels"][0]["config"]
    assert (size["xAxis"], size["yAxis"], size["xAxisLogScale"]) == ("summary:parameters", "summary:top1", True)
    gain = grids[1]["panelBankSectionConfig"]["panels"][0]["config"]
    assert (gain["metrics"], gain["groupBy"]) == (["summary_metrics.gain"], "labels.value.strategy")
    assert (gain["groupAgg"], gain["groupArea"]) == ("mean", "stddev")
    # Seeds fall together: the table is grouped by what is left when the seed is taken away.
    assert [key["name"] for key in grids[-1]["runSets"][0]["grouping"]] == [
        "labels.value.student",
        "labels.value.strategy",
    ]
    assert grids[-1]["runSets"][1]["grouping"] == []
    for grid in grids:
        places = [panel["layout"] for panel in grid["panelBankSectionConfig"]["panels"]]
        cells = [(x, y) for at in places for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])]  # fmt: skip
        assert len(cells) == len(set(cells)), "panels overlap"


def test_without_a_key_the_specification_is_printed(no_network, capsys):
    for words in ([], ["--offline"]):
        dashboard.main(["--project", "mine", *words])
        printed = json.loads(capsys.readouterr().out)
        assert set(printed) == {"workspace", "report"} and printed["workspace"]["project"] == "mine"


def test_with_a_key_both_are_saved_and_their_addresses_printed(no_network, monkeypatch, capsys):
    monkeypatch.setattr(dashboard, "has_key", lambda: True)
    asked = []
    monkeypatch.setattr(dashboard, "save", lambda *chosen: asked.append(chosen) or ["https://a", "https://b"])
    dashboard.main(["--project", "mine", "--entity", "team", "--data", "cifar10"])
    assert asked == [("mine", "team", "cifar10", "standard")] and capsys.readouterr().out == "https://a\nhttps://b\n"
    dashboard.main(["--offline"])
    assert len(asked) == 1


def test_what_the_server_refuses_is_told_in_one_line(no_network, monkeypatch):
    import wandb

    def refusing():
        raise RuntimeError("project\nnot found")

    monkeypatch.setattr(wandb, "Api", refusing)
    with pytest.raises(UserError, match=r"\(project not found\): check --entity and --project, or use --offline$"):
        dashboard.save("mine", "", "digits", "standard")


def test_a_missing_library_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    with pytest.raises(UserError, match="uv sync --extra dashboard"):
        dashboard.workspace("distillab", "", "digits", "standard")
    with pytest.raises(SystemExit):
        dashboard.main(["--offline"])
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: the dashboard needs") and shown.err.count("\n") == 1
