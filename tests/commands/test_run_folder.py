"""The config of a run's folder comes from others: what it names is called only where it is what its place asks for."""

import hashlib

import pytest
import yaml
from omegaconf import OmegaConf

from distillab.commands.run_folder import check_named, check_weights, read_config, weights
from distillab.core.errors import UserError

FINE = {
    "data": {"_target_": "distillab.data.images.sources.Digits"},
    "task": {"_target_": "distillab.tasks.image_classification.ImageClassification"},
    "scheme": {
        "_target_": "distillab.schemes.offline.Offline",
        "teachers": [{"_target_": "timm.models.resnet.resnet18"}],
    },
    "strategy": {"kd": {"_target_": "distillab.strategies.kd.KD"}},
    "student": {"_target_": "distillab.models.zoo.cifar_resnet.CifarResNet"},
    "teacher": {"_target_": "distillab.models.torchvision.torchvision_classifier"},
}


def test_classes_of_distillab_and_networks_are_called(tmp_path):
    check_named(FINE, tmp_path)


@pytest.mark.parametrize(
    "group, target",
    [
        ("data", "my_package.Data"),
        ("data", "distillab.data.images.decode.np.load"),  # with allow_pickle=true it runs code
        ("data", "distillab.core.files.write_json"),
        ("data", "distillab.tasks.image_classification.ImageClassification"),
        ("data", "torchvision.datasets.utils.download_url"),
        ("task", "distillab.models.checkpoint.torch.load"),
        ("scheme", "distillab.nowhere.Offline"),
        ("strategy.kd", "distillab.strategies.strategy.Strategy"),
        ("student", "torch.load"),
        ("teacher", "timm.models.load_checkpoint"),
        ("scheme.teachers.0", "os.system"),
        ("logger", "distillab.data.images.sources.Digits"),
    ],
)
def test_anything_else_is_refused(tmp_path, group, target):
    OmegaConf.update(named := OmegaConf.create(FINE), group, {"_target_": target}, merge=False, force_add=True)
    config = OmegaConf.to_container(named)
    with pytest.raises(UserError, match=f"names {target}, which is not called as only a file names it: trust=true"):
        check_named(config, tmp_path)


@pytest.mark.parametrize("content", ["- 1", "a: [", "!!python/object/apply:os.system [ls]"])
def test_what_is_no_config_is_named(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"cannot be read as the config of a run|is no folder"):
        read_config(tmp_path)


def test_a_config_is_read(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(FINE))
    assert read_config(tmp_path) == FINE


def test_a_config_whose_aliases_fill_the_memory_is_refused(tmp_path):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"config.yaml stands for [\d,]+ values, as its aliases repeat others"):
        read_config(tmp_path)


def test_weights_of_another_run_are_told_from_the_runs_own(tmp_path):
    (tmp_path / "student").mkdir()
    for name in ("student.safetensors", "student/model.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    told = weights(tmp_path)
    assert told["student.safetensors"] == hashlib.sha256(b"student.safetensors").hexdigest()
    check_weights(tmp_path, told)
    check_weights(tmp_path, {})  # a result of an earlier version knows none
    (tmp_path / "student" / "model.safetensors").write_bytes(b"another")
    with pytest.raises(UserError, match=r"student/model.safetensors is not what the run wrote.*rerun=true"):
        check_weights(tmp_path, told)
