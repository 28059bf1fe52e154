"""CheXbert's loader on random weights against the reference architecture, built here from transformers' BERT."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from raddino.errors import RaddinoError
from raddino.metrics.clinical import FINDINGS_14
from raddino.tasks.findings.chexbert import find_chexbert

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT = "no heart size is normal lungs are clear effusion edema possible pneumonia . , the of"
WORDS = TEXT.split(" ")
PUBLISHED = [
    "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
    "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices", "No Finding",
]  # fmt: skip
"""CONDITIONS of github.com/stanfordmlgroup/CheXbert, src/constants.py; classes 0 blank, 1 positive, 2 negative,
3 uncertain."""


class Reference(nn.Module):
    def __init__(self, words):
        super().__init__()
        config = BertConfig(
            vocab_size=words, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96,
            attn_implementation="eager",
        )  # fmt: skip
        self.bert = BertModel(config)
        self.linear_heads = nn.ModuleList([nn.Linear(128, 4) for _ in range(13)] + [nn.Linear(128, 2)])

    def forward(self, ids):
        hidden = self.bert(ids)[0][:, 0]
        return [head(hidden) for head in self.linear_heads]


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    model = Reference(len(SPECIAL) + len(WORDS)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


@pytest.fixture
def folder(tmp_path, reference):
    state = {f"module.{name}": weight for name, weight in reference.state_dict().items()}
    torch.save(
        {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {"state": {}}}, tmp_path / "chexbert.pth"
    )
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL + WORDS) + "\n", encoding="utf-8")
    return tmp_path


def tokens(text):
    known = SPECIAL + WORDS
    words = text.lower().replace(".", " . ").replace(",", " , ").split()
    inner = [known.index(word) if word in known else 1 for word in words]
    return torch.tensor([[2, *inner[:510], 3]])


TEXTS = [
    "No effusion. Heart size is normal.",
    "",
    "possible pneumonia,\n  the lungs are\tCLEAR",
    "edema " * 700,
    "片 clear",
    "Edema.",
    "Lungs are clear",
]


@torch.no_grad()
def test_logits_and_labels_equal_the_reference(folder, reference):
    labeler = find_chexbert(folder, device="cpu", batch_size=3)
    expected = [reference(tokens(text)) for text in TEXTS]
    for at, head in enumerate(labeler.logits(TEXTS)):
        torch.testing.assert_close(head, torch.cat([one[at] for one in expected]), atol=1e-4, rtol=1e-4)

    labels = labeler(TEXTS)
    meaning = {0: np.nan, 1: 1.0, 2: 0.0, 3: -1.0}
    assert labels.shape == (len(TEXTS), 14)
    for at, name in enumerate(PUBLISHED):
        column = FINDINGS_14.index(name.lower().replace(" ", "_"))
        wanted = [meaning[int(one[at].argmax())] for one in expected]
        np.testing.assert_array_equal(labels[:, column], wanted)
    assert len(np.unique(labels[~np.isnan(labels)])) == 3


def test_nothing_given_is_absent_and_its_place_is_found(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RADDINO_WEIGHTS", str(tmp_path / "none"))
    assert find_chexbert() is None
    monkeypatch.setenv("RADDINO_WEIGHTS", str(folder.parent))
    folder.rename(folder.parent / "chexbert")
    assert find_chexbert(device="cpu").signature.startswith("CheXbert|weights:")


def test_no_texts_give_no_labels(folder):
    assert find_chexbert(folder, device="cpu")([]).shape == (0, 14)


def save(folder, change):
    content = torch.load(folder / "chexbert.pth")
    change(content["model_state_dict"])
    torch.save(content, folder / "chexbert.pth")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "vocab.txt").unlink(), "no vocab.txt in its folder; get chexbert.pth from https"),
        (lambda f: (f / "chexbert.pth").unlink(), "no chexbert.pth in its folder"),
        (lambda f: (f / "chexbert.pth").write_bytes(b"PK\3\4 no"), "not a readable weights file|refused by the safe"),
        (lambda f: torch.save({"epoch": 1}, f / "chexbert.pth"), "holds no 'model_state_dict'"),
        (lambda f: torch.save({"model_state_dict": {"a": 1}}, f / "chexbert.pth"), "holds no 'model_state_dict'"),
        (lambda f: save(f, lambda s: s.pop("module.linear_heads.13.bias")), "does not fit CheXbert"),
        (lambda f: save(f, lambda s: s.update({"module.more": torch.ones(1)})), "does not fit CheXbert"),
        (lambda f: save(f, lambda s: s.pop("module.bert.embeddings.word_embeddings.weight")), "does not fit CheXbert"),
        (
            lambda f: save(f, lambda s: s["module.linear_heads.3.bias"].fill_(float("nan"))),
            r"heads\.3\.bias .* not finite",
        ),
        (
            lambda f: (f / "vocab.txt").write_text("\n".join([*SPECIAL, "a"]), encoding="utf-8"),
            "has 6 words where CheXbert's weights",
        ),
        (lambda f: (f / "vocab.txt").write_text("a\nb\n", encoding="utf-8"), r"lacks \[CLS\]"),
        (lambda f: (f / "vocab.txt").write_bytes(b"\xff\xfe"), "not text in UTF-8"),
    ],
)
def test_damage_is_named_in_one_line(folder, spoil, said):
    spoil(folder)
    with pytest.raises(RaddinoError, match=said) as caught:
        find_chexbert(folder, device="cpu")
    assert "\n" not in str(caught.value)
    assert str(folder) not in str(caught.value)
