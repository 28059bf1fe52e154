"""Zero-shot with an encoder whose text is known."""

import numpy as np
import pytest
import torch
from scipy.special import expit

from raddino.config import validate
from raddino.errors import ConfigError, RaddinoError
from raddino.tasks.probes.base import Request
from raddino.tasks.probes.zero_shot import ZeroShotConfig, fit_zero_shot

WORDS = ("pleural effusion", "edema", "man", "woman")


class Speaking:
    """CLS features are the shared space; a sentence points along the word it holds, ``no`` turns it round."""

    name, logit_scale = "speaking", 10.0

    def project(self, cls):
        return torch.nn.functional.normalize(cls, dim=1)

    def encode_text(self, prompts):
        rows = [[(-1.0 if "no " in one else 1.0) * (word in one.split(": ")[-1].replace("woman", "WOMAN")
                 if word == "man" else word in one) for word in WORDS] for one in prompts]  # fmt: skip
        return torch.nn.functional.normalize(torch.tensor(rows), dim=1)


def fit(labels, loss="logistic", encoder=None, **settings):
    nothing = (np.zeros((1, 4)), np.zeros((1, len(labels))))
    request = Request(loss, labels=labels, encoder=encoder or Speaking())
    return fit_zero_shot(nothing, nothing, ZeroShotConfig(**settings), request)


def test_the_logit_is_the_log_odds_of_the_two_prompts():
    cls = np.array([[2.0, 0, 0, 0], [0, 3, 0, 0], [3, 4, 0, 0], [-1, 0, 0, 0]], np.float32)
    outputs = fit(("pleural_effusion", "edema")).predict(cls)
    assert outputs.shape == (1, 4, 2)
    np.testing.assert_allclose(outputs[0], 20 * np.array([[1, 0], [0, 1], [0.6, 0.8], [-1, 0]]), atol=1e-5)
    pair = np.exp(10 * np.array([0.6, -0.6]))
    np.testing.assert_allclose(expit(outputs[0, 2, 0]), pair[0] / pair.sum(), rtol=1e-6)


def test_templates_are_averaged_and_own_prompts_used():
    cls = np.eye(4, dtype=np.float32)
    twice = fit(("edema",), templates=(("{finding}", "no {finding}"), ("signs of {finding}", "nothing")))
    np.testing.assert_allclose(twice.predict(cls)[0, :, 0], [0, 15, 0, 0], atol=1e-5)
    own = fit(("sex", "edema"), prompts={"sex": [["x-ray of a man", "x-ray of a woman"]]})
    np.testing.assert_allclose(own.predict(cls)[0], [[0, 0], [0, 20], [10, 0], [-10, 0]], atol=1e-5)
    assert own.chosen[0]["prompts"] == ["x-ray of a man / x-ray of a woman"]
    assert own.chosen[1] == {"probe": "zero_shot", "features": "cls", "prompts": ["edema / no edema"]}


def test_classes_are_compared_by_their_positive_prompts():
    outputs = fit(("man", "woman"), "softmax").predict(np.eye(4, dtype=np.float32)[2:])
    np.testing.assert_allclose(outputs[0], [[10, 0], [0, 10]], atol=1e-5)


def test_what_has_no_words_is_refused():
    class Mute:
        name = "mute"

    with pytest.raises(RaddinoError, match="mute has none"):
        fit(("edema",), encoder=Mute())
    with pytest.raises(RaddinoError, match="age is a number"):
        fit(("age",), "squared")
    with pytest.raises(RaddinoError, match="NaN"):
        fit(("edema",)).predict(np.full((1, 4), np.nan, np.float32))
    with pytest.raises(ConfigError, match="templates"):
        validate(ZeroShotConfig, {"templates": []})
