"""The launcher for Ray, with a stand-in for Ray itself: what is asked of it, and what is refused."""

import sys
from types import SimpleNamespace

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from distillab.commands import ray_launcher
from distillab.commands.error_line import one_line
from distillab.core.errors import UserError


class StandIn:
    """Runs tasks here, one after another, and notes what it was asked."""

    def __init__(self, cpus=2.0):
        self.cpus, self.asked, self.ended = cpus, [], False

    def init(self, address, **options):
        if address == "nowhere":
            raise ConnectionError("no cluster at nowhere\nmore")
        self.asked.append(address)

    def cluster_resources(self):
        return {"CPU": self.cpus}

    def remote(self, **resources):
        self.asked.append(resources)
        return lambda work: SimpleNamespace(remote=work)

    def get(self, tasks):
        return list(tasks)

    def shutdown(self):
        self.ended = True


@pytest.fixture
def launch(monkeypatch, tmp_path):
    def start(ray, **settings):
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setattr(ray_launcher, "_cell", lambda job: (job.number, job.overrides))
        launcher = ray_launcher.Ray(**settings)
        config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path / "sweep")}}})
        launcher.setup(hydra_context=None, task_function=print, config=config)
        return launcher.launch([["seed=0"], ["seed=1"]], 3)

    return start


def test_every_cell_is_a_task_with_its_number_and_resources(launch, tmp_path):
    ray = StandIn()
    assert launch(ray, cpus=2, gpus=0, address="auto") == [(3, ["seed=0"]), (4, ["seed=1"])]
    assert ray.asked == ["auto", {"max_retries": 0, "num_cpus": 2, "num_gpus": 0}]
    assert ray.ended and (tmp_path / "sweep").is_dir()


def test_no_room_is_told_before_anything_waits(launch):
    ray = StandIn(cpus=1.0)
    with pytest.raises(UserError, match=r"hydra.launcher.cpus=4, and Ray has 1 of them in all"):
        launch(ray, cpus=4)
    assert ray.ended
    with pytest.raises(UserError, match=r"hydra.launcher.gpus=1, and Ray has 0"):
        launch(StandIn(), gpus=1)


def test_what_cannot_work_is_one_line(launch):
    with pytest.raises(UserError, match=r"hydra.launcher.cpus .*0"):
        ray_launcher.Ray(cpus=0)
    with pytest.raises(UserError, match=r"address=nowhere: Ray is not reached there \(.*nowhere.*null starts one"):
        launch(StandIn(), address="nowhere")
    with pytest.raises(UserError, match=r"pip install \"distillab\[ray\]\""):
        launch(None)


def test_the_command_says_what_the_launcher_refuses_and_no_more():
    with pytest.raises(InstantiationException) as caught:
        instantiate({"_target_": "distillab.commands.ray_launcher.Ray", "cpus": "abc"})
    assert one_line(caught.value) == "hydra.launcher.cpus must be a number above 0, got abc; set hydra.launcher.cpus=1"
