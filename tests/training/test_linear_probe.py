"""The head on frozen features, against scikit-learn's logistic regression."""

import numpy as np
import pytest
import torch
from helpers.fits import small
from sklearn.linear_model import LogisticRegression

from distillab.core.errors import UserError
from distillab.models.image_model import ImageModel
from distillab.training import linear_probe
from distillab.training.linear_probe import embeddings, fit_head


def model(seed=1):
    return ImageModel(small(seed), (1, 8, 8), "resnet8", mean=[0.5], std=[0.5])


def test_it_is_the_logistic_regression_of_its_decay(few_digits, monkeypatch):
    monkeypatch.setattr(linear_probe, "DECAYS", (1e-2,))
    monkeypatch.setattr(linear_probe, "STEPS", 1000)
    net, data = model(), few_digits
    features, labels = embeddings(net, data, "train", "cpu")
    body = {name: value.clone() for name, value in net.net.state_dict().items() if not name.startswith("fc.")}
    found = fit_head(net, data, "cpu")
    assert (found.samples, found.decay) == (len(labels), 1e-2) and found.seconds > 0
    x, y = features.double().numpy(), labels.numpy()
    spread = x.std(0)
    scaled = (x - x.mean(0)) / np.where(spread > 1e-6 * spread.max(), spread, 1)
    reference = LogisticRegression(C=1 / (1e-2 * len(y)), tol=1e-10, max_iter=10_000).fit(scaled, y)
    ours = net.net.fc(features).softmax(1).detach().numpy()
    assert np.abs(ours - reference.predict_proba(scaled)).max() < 2e-3
    for name, value in body.items():  # the network itself learns nothing, nor do its statistics move
        assert torch.equal(net.net.state_dict()[name], value)


def test_the_decay_is_the_one_with_the_most_right_on_validation(few_digits):
    scores = {}
    for decay in linear_probe.DECAYS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(linear_probe, "DECAYS", (decay,))
            fit_head(net := model(), few_digits, "cpu")
        features, labels = embeddings(net, few_digits, "validation", "cpu")
        scores[decay] = (net.net.fc(features).argmax(1) == labels).float().mean().item()
    chosen = fit_head(model(), few_digits, "cpu").decay
    assert scores[chosen] == pytest.approx(max(scores.values()), abs=0.02)  # its start is another's end


def test_hidden_labels_are_left_out_and_one_is_needed(few_digits):
    some = few_digits.with_samples(100)
    some.label_source, some.labelled = "all", 0.3
    vars(some).pop("_told", None)
    assert fit_head(model(), some, "cpu").samples == int((some.training_labels >= 0).sum()) < 100
    some.label_source = "teacher"
    vars(some).pop("_told", None)
    with pytest.raises(UserError, match="needs labels for a head"):
        fit_head(model(), some, "cpu")


def test_a_head_that_is_no_linear_layer_is_refused(few_digits):
    net = model()
    object.__setattr__(net.info, "head", "layer1")
    with pytest.raises(UserError, match=r"no linear head .*teacher\.adapt=all"):
        fit_head(net, few_digits, "cpu")


def test_a_feature_that_never_changes_gives_finite_weights(few_digits):
    net = model()
    with torch.no_grad():
        net.net.layer3[-1].bn2.weight[0] = 0
        net.net.layer3[-1].bn2.bias[0] = -1e6
    fit_head(net, few_digits, "cpu")
    assert net.net.fc.weight.isfinite().all() and net.net.fc.bias.isfinite().all()
