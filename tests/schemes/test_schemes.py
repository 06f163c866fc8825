"""Who teaches whom: every scheme end to end."""

from functools import partial

import pytest
from helpers import small_run

from distillab.commands import composition as config
from distillab.commands.invocation import with_members
from distillab.core.errors import UserError
from distillab.core.run_identity import config_hash

SMALLER = (*small_run.SMALL, "data.samples=128", "recipe.epochs=1", "teacher.recipe.epochs=1")
SCHEMES = sorted(path.stem for path in (config.conf_dir() / "scheme").glob("*.yaml"))
SCHEMES.remove("imported")  # of text alone: tests/commands/test_served.py
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
    with small_run.unmeasured():
        yield tmp_path_factory.mktemp("place")


run = partial(small_run.run, base=SMALLER)


def test_every_scheme_is_expected():
    assert set(EXPECTED) == set(SCHEMES)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_runs(name, place):
    overrides, teacher, lineage = EXPECTED[name]
    result = run(place, f"scheme={name}", *overrides)
    assert result.scheme == name
    assert (result.teacher and result.teacher.name) == teacher
    assert [(one.name, one.parent) for one in result.lineage] == lineage
    for one in result.lineage:
        assert one.metrics and one.validation and one.seconds >= 0
    own = next(one for one in reversed(result.lineage) if name != "mutual" or "peer 0" in one.name)
    assert own.metrics["top1"] == result.primary.value
    assert result.student.name == "resnet8" and result.student.efficiency.parameters < 80_000
    assert result.gain == pytest.approx(result.primary.value - result.score("baseline"))


def test_the_student_alone_may_teach(place):
    result = run(place, "scheme=self", "scheme.source=student")
    assert result.lineage[0].name == "resnet8 alone"
    assert result.lineage[0].metrics["top1"] == result.score("baseline") and result.teacher is None


def test_a_plan_goes_on_from_what_is_kept(place, capsys):
    words = ["scheme=born_again", "scheme.generations=2", "equal_compute=false"]
    first = run(place, *words)
    capsys.readouterr()
    again = run(place, *words, "name=again")
    told = capsys.readouterr().out
    assert "generation 1 from resnet8 generation 0  epoch" not in told and "(reused from the store)" in told
    assert again.lineage[1].reused and again.primary.value == first.primary.value
    longer = run(place, "scheme=born_again", "scheme.generations=3", "equal_compute=false")
    assert [one.reused for one in longer.lineage[:3]] == [True, True, False] and not longer.lineage[3].reused
    other = run(place, *words, "strategy.kd.temperature=2")
    assert not other.lineage[1].reused, "another strategy is another lesson"


def test_the_hash_sees_the_scheme(place):
    cases = (
        [],
        ["scheme=ema"],
        ["scheme=ema", "scheme.decay=.9"],
        ["scheme=mutual"],
        ["scheme=mutual", "scheme.peers=[resnet14]"],
        ["scheme=mutual", "scheme.peers=[{model: resnet14, seed: 3}]"],
    )
    assert len({config_hash(with_members(small_run.composed(place, *words))) for words in cases}) == len(cases)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["scheme=ema", "strategy=none"], "scheme=ema has nothing to teach"),
        (["scheme=ema", "strategy=simkd"], "scheme=ema: strategy.simkd ships a head that this scheme does not train"),
        (["scheme=ema", "strategy=nd"], "scheme=ema: strategy.nd needs a trained teacher"),
        (["scheme=ema", "scheme.decay=1"], "scheme.decay must be a number from 0 below 1, got 1"),
        (
            ["scheme=self", "strategy=hint"],
            "smoothed labels can only give logits, and the strategy reads teacher.stages",
        ),
        (["scheme=self", "scheme.correct=0.1"], "scheme.correct must be a number above 0.1 below 1, got 0.1"),
        (["scheme=self", "scheme.source=teacher"], 'scheme.source must be one of labels, student, got "teacher"'),
        (["scheme=ensemble", "strategy=hint"], "an ensemble can only give logits"),
        (["scheme=ensemble", "scheme.teachers=[]"], "an ensemble takes more than one teacher"),
        (["scheme=ensemble", "scheme.weighting=sum"], 'scheme.weighting must be one of mean, confidence, got "sum"'),
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
    run(place, "scheme=assistant", "scheme.assistants=[resnet20]", "name=large", "equal_compute=false")
    assert "resnet20 (272,186 parameters) is not smaller than resnet14" in capsys.readouterr().err
