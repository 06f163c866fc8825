"""Vision models of transformers, made here with random weights, against transformers alone."""

import json

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from distillab.core.configuration import ModelConfig
from distillab.core.errors import UserError
from distillab.core.instantiate import conf_dir
from distillab.export.safetensors import load_student, save_model
from distillab.models.build import build_model
from distillab.models.feature_extractor import FeatureExtractor

transformers = pytest.importorskip("transformers")
SMALL = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 16, "patch_size": 4}
DATA = {"classes": list("abc"), "input_shape": (3, 16, 16), "mean": [0.1] * 3, "std": [0.9] * 3, "seed": 0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A DINOv2 that says how it normalises, a ViT of three classes, a convolutional network, and a language model."""
    place, kinds = tmp_path_factory.mktemp("vision"), transformers
    made = {
        "dino": kinds.AutoModel.from_config(kinds.Dinov2Config(**SMALL)),
        "vit": kinds.AutoModelForImageClassification.from_config(
            kinds.ViTConfig(**SMALL, intermediate_size=32, num_labels=3)
        ),
        "resnet": kinds.AutoModel.from_config(
            kinds.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
        ),
        "text": kinds.AutoModel.from_config(
            kinds.LlamaConfig(
                hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=32
            )
        ),
    }
    for name, net in made.items():
        net.eval().save_pretrained(place / name)
    said = {
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
        "size": {"shortest_edge": 16},
        "image_processor_type": "x",
    }
    (place / "dino" / "preprocessor_config.json").write_text(json.dumps(said))
    return place, made


def node(folder):
    return OmegaConf.to_container(OmegaConf.load(conf_dir() / "model" / "transformers.yaml")) | {"path": str(folder)}


def built(folder, role="teacher", **more):
    return build_model(ModelConfig.of(node(folder) | more, role), role, **DATA).eval()


def test_a_backbone_gives_its_class_token_and_its_layers(folders):
    place, made = folders
    model, images = built(place / "dino", adapt="none"), torch.rand(2, 3, 16, 16)
    assert model.new_head == "teacher.adapt=none" and model.assumed is None and model.info.outputs == 3
    assert model.info.name == "dino" and [stage.size for stage in model.info.stages] == [(4, 4)] * 4
    read = FeatureExtractor(model, {"embedding", "stages"})(pixels=images)
    with torch.no_grad():
        alone = made["dino"](pixel_values=(images - 0.5) / 0.25, output_hidden_states=True)
    assert torch.allclose(read.embedding, alone.last_hidden_state[:, 0], atol=1e-6)
    for stage, hidden in zip(read.stages, alone.hidden_states[1:], strict=True):
        patches = hidden[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
        assert torch.allclose(stage, patches, atol=1e-6)


def test_a_classifier_of_as_many_classes_keeps_its_head(folders):
    place, made = folders
    model, images = built(place / "vit"), torch.rand(2, 3, 16, 16)
    assert model.new_head is None and model.assumed == "ImageNet's mean and std"
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        alone = made["vit"](pixel_values=(images - mean) / std).logits
        assert torch.allclose(model(pixels=images), alone, atol=1e-6)


def test_a_network_without_tokens_gives_what_it_pools(folders):
    place, made = folders
    model, images = built(place / "resnet", mean=[0.0] * 3, std=[1.0] * 3), torch.rand(2, 3, 16, 16)
    assert (
        model.assumed is None and built(place / "resnet").assumed == "ImageNet's mean and std, and images of 224 pixels"
    )
    read = FeatureExtractor(model, {"embedding"})(pixels=images)
    side = torch.nn.functional.interpolate(images, (224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        assert torch.allclose(read.embedding, made["resnet"](pixel_values=side).pooler_output.flatten(1), atol=1e-5)


def test_a_student_of_fresh_weights_has_a_head_of_its_own(folders):
    model = built(folders[0] / "dino", "student", pretrained=False)
    assert model.info.head == "head" and model.info.outputs == 3 and model.new_head is None


def test_what_holds_no_vision_model_is_refused(folders, tmp_path):
    place, _ = folders
    with pytest.raises(UserError, match="no model of images alone"):
        built(place / "text")
    with pytest.raises(UserError, match="there is no folder"):
        built(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no vision model of transformers"):
        built(tmp_path / "empty")
    (tmp_path / "half").mkdir()
    weights = load_file(place / "dino" / "model.safetensors")
    save_file(dict(list(weights.items())[5:]), tmp_path / "half" / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "half" / "config.json").write_text((place / "dino" / "config.json").read_text())
    with pytest.raises(UserError, match="its weights lack 5 of the parameters"):
        built(tmp_path / "half")


@pytest.mark.parametrize("kind", ["ViTConfig", "DeiTConfig"])
def test_a_pooler_that_is_called_and_dropped_is_not_the_head(tmp_path, kind):
    body = transformers.AutoModel.from_config(getattr(transformers, kind)(**SMALL, intermediate_size=32)).eval()
    body.save_pretrained(tmp_path)
    model, images = built(tmp_path), torch.rand(2, 3, 16, 16)
    assert model.info.head == "new_head" and model.info.embedding == 16 and model.new_head is not None
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        token = body(pixel_values=(images - mean) / std).last_hidden_state[:, 0]
        assert torch.allclose(model(pixels=images), model.net.new_head(token), atol=1e-6)


@pytest.mark.parametrize("name", ["dino", "vit"])
def test_a_student_keeps_the_backbone_of_a_folder_and_its_file_is_read_back(folders, tmp_path, capfd, name):
    place, made = folders
    model, images = built(place / name, "student", pretrained=True), torch.rand(2, 3, 16, 16)
    said = capfd.readouterr()
    assert f"student {name}: its head starts anew" in said.out and "LOAD REPORT" not in said.out + said.err
    body = made[name] if name == "dino" else made[name].vit
    kept = {key: value for key, value in body.state_dict().items() if not key.startswith("pooler.")}
    own = model.net.body.state_dict()
    assert model.info.head == "head" and all(torch.equal(own[key], value) for key, value in kept.items())
    save_model(model, file := tmp_path / "student.safetensors", node(place / name), list("abc"))
    with torch.no_grad():
        assert torch.equal(load_student(file).eval()(pixels=images), model(pixels=images))


def test_a_masked_autoencoder_masks_nothing_and_keeps_its_patches_in_order(tmp_path):
    body = transformers.AutoModel.from_config(transformers.ViTMAEConfig(**SMALL, intermediate_size=32)).eval()
    body.save_pretrained(tmp_path)
    model, images = built(tmp_path, mean=[0.0] * 3, std=[1.0] * 3), torch.rand(2, 3, 16, 16)
    read = FeatureExtractor(model, {"embedding", "stages"})
    body.config.mask_ratio = 0.0
    with torch.no_grad():  # in the order that transformers draws, and back
        alone, found = body(pixel_values=images, output_hidden_states=True), read(pixels=images)
    back = alone.ids_restore[:, :, None].expand(-1, -1, 16)
    patches = alone.hidden_states[1][:, 1:].gather(1, back).transpose(1, 2).unflatten(2, (4, 4))
    assert not torch.equal(back[0, :, 0], torch.arange(16))
    assert torch.allclose(found.embedding, alone.last_hidden_state[:, 0], atol=1e-5)
    assert torch.allclose(found.stages[0], patches, atol=1e-5)


def test_tokens_without_a_class_token_are_averaged_and_layers_that_give_tuples_are_stages(tmp_path):
    body = transformers.AutoModel.from_config(transformers.IJepaConfig(**SMALL, intermediate_size=32)).eval()
    body.save_pretrained(tmp_path / "jepa")
    sizes = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1, 1], "num_heads": [1, 2, 2]}
    swin = transformers.AutoModel.from_config(transformers.SwinConfig(**sizes, window_size=4))
    swin.save_pretrained(tmp_path / "swin")
    model, images = built(tmp_path / "jepa", mean=[0.0] * 3, std=[1.0] * 3), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        expected = body(pixel_values=images).last_hidden_state.mean(1)
        assert torch.allclose(FeatureExtractor(model, {"embedding"})(pixels=images).embedding, expected, atol=1e-5)
    stages = built(tmp_path / "swin").info.stages
    assert [(stage.channels, *stage.size) for stage in stages] == [(16, 8, 8), (32, 4, 4), (32, 4, 4)]


def test_a_model_that_asks_for_more_than_images_is_refused(tmp_path):
    small = {key: value for key, value in SMALL.items() if key != "image_size"}
    transformers.AutoModel.from_config(transformers.Siglip2VisionConfig(**small)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="asks for pixel_attention_mask and spatial_shapes beside images"):
        built(tmp_path)


@pytest.mark.parametrize(("own", "order"), [(["C", "a", "b"], [1, 2, 0]), (["x", "y", "z"], None)])
def test_a_classifier_that_names_its_classes_is_taken_in_their_order(tmp_path, capsys, own, order):
    config = transformers.ViTConfig(**SMALL, intermediate_size=32, id2label=dict(enumerate(own)))
    transformers.AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path / f"vit_{own[0]}")
    model, told = built(tmp_path / f"vit_{own[0]}"), capsys.readouterr().out
    assert (model.class_order.tolist() if order else model.class_order) == order and model.new_head is None
    assert ("its outputs have other names (x, y, z, …)" in told) == (order is None)


def test_a_crop_that_is_not_taken_is_not_the_size(folders, tmp_path):
    for crops, side in ((True, 24), (False, 16), (None, 24)):
        folders[1]["dino"].save_pretrained(place := tmp_path / str(crops))
        said = {
            "crop_size": {"height": 24, "width": 24},
            "size": {"height": 16, "width": 16},
            "image_processor_type": "x",
        }
        said |= {} if crops is None else {"do_center_crop": crops}
        (place / "preprocessor_config.json").write_text(json.dumps(said))
        assert built(place).net.pretrained_cfg["input_size"] == (3, side, side)


def test_what_pools_its_tokens_before_its_last_norm_gives_that(tmp_path):
    body = transformers.AutoModel.from_config(transformers.BeitConfig(**SMALL, intermediate_size=32)).eval()
    body.save_pretrained(tmp_path)
    model, images = built(tmp_path, mean=[0.0] * 3, std=[1.0] * 3), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        expected = body(pixel_values=images).pooler_output
        assert torch.allclose(FeatureExtractor(model, {"embedding"})(pixels=images).embedding, expected, atol=1e-5)
