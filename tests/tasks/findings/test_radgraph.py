"""RadGraph's bridge, with an interpreter that has a stand-in for the package: its API, not its network."""

import stat
import sys

import numpy as np
import pytest

from raddino.errors import RaddinoError
from raddino.tasks.findings import radgraph

PACKAGE = """
import os
print("Using device: a line on standard output, as the package writes")

class F1RadGraph:
    def __init__(self, reward_level, model_type=None, cuda=None, model_cache_dir=None):
        assert reward_level == "all" and os.environ["HF_HUB_OFFLINE"] == "1"
        assert "PYTHONHOME" not in os.environ and os.listdir(".") == []
        if not os.path.exists(os.path.join(model_cache_dir, model_type, "weights.th")):
            raise OSError("no model in " + model_cache_dir)
        {setup}

    def __call__(self, refs, hyps):
        print("noise")
        {score}
        rows = [(float(bool(r) and r == h), float(len(h) / 100), 0.0) for r, h in zip(refs, hyps)]
        lists = tuple(list(column) for column in zip(*rows))
        return tuple(sum(one) / len(one) for one in lists), lists, [], []
"""


@pytest.fixture
def place(tmp_path):
    model = tmp_path / "weights/radgraph"
    model.mkdir(parents=True)
    for name in ("config.json", "weights.th"):
        (model / name).write_text("{}", encoding="utf-8")
    return tmp_path / "weights"


@pytest.fixture
def interpreter(tmp_path):
    def make(setup="pass", score="pass", version="0.1.18"):
        site = tmp_path / "site"
        (site / "radgraph").mkdir(parents=True)
        (site / "radgraph/__init__.py").write_text(
            PACKAGE.replace("{setup}", setup).replace("{score}", score), encoding="utf-8"
        )
        (site / f"radgraph-{version}.dist-info").mkdir()
        (site / f"radgraph-{version}.dist-info/METADATA").write_text(
            f"Name: radgraph\nVersion: {version}\n", encoding="utf-8"
        )
        script = tmp_path / "python"
        script.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" exec "{sys.executable}" "$@"\n', encoding="utf-8")
        script.chmod(script.stat().st_mode | stat.S_IEXEC)
        return script

    return make


def test_scores_come_back_in_order_whatever_the_package_prints(place, interpreter):
    judge = radgraph.find_radgraph(interpreter(), place, device="cpu")
    references = ["clear", "", "e̊ffusion\n"] + [f"report {n}" for n in range(40)]
    hypotheses = ["clear", "", "x"] + [f"report {n}" for n in range(40)]
    scores = judge(references, hypotheses)
    assert scores.shape == (43, 3)
    assert scores[:3].tolist() == [[1, 0.05, 0], [0, 0, 0], [0, 0.01, 0]]
    np.testing.assert_allclose(scores[3:, 1], [len(text) / 100 for text in hypotheses[3:]])
    assert judge.signature == "radgraph|version:0.1.18|model:radgraph|mean over reports"
    assert judge([], []).shape == (0, 3)


def test_the_environment_names_the_python(place, interpreter, monkeypatch):
    monkeypatch.setenv("RADDINO_RADGRAPH_PYTHON", str(interpreter(version="0.1.17")))
    monkeypatch.setenv("RADDINO_WEIGHTS", str(place.parent / "root"))
    assert radgraph.find_radgraph(device="cpu") is None
    (place.parent / "root").mkdir()
    place.rename(place.parent / "root/radgraph")
    assert radgraph.find_radgraph(device="cpu").version == "0.1.17"


def test_nothing_given_is_absent(place, monkeypatch):
    monkeypatch.delenv("RADDINO_RADGRAPH_PYTHON", raising=False)
    monkeypatch.setattr(radgraph.importlib.util, "find_spec", lambda name: None)
    assert radgraph.find_radgraph(weights=place) is None
    assert radgraph.missing("radgraph-xl").startswith("weights not provided: ")
    assert "radgraph-xl.tar.gz" in radgraph.missing("radgraph-xl")


@pytest.mark.parametrize(
    ("setup", "score", "said"),
    [
        (
            "raise OSError('no tokenizer at /home/someone/secret')",
            "pass",
            "OSError while it loads: no tokenizer at ...",
        ),
        ("pass", "raise KeyError(refs[0])", "KeyError on a report"),
        ("os._exit(3)", "pass", "gave 0 of 1 scores"),
        ("pass", "return 0, ([2.0], [1.0], [1.0])", "another API"),
        ("pass", "return 0, ([1.0], [1.0])", "another API"),
    ],
)
def test_failures_are_one_line_without_texts_or_paths(place, interpreter, setup, score, said):
    judge = radgraph.find_radgraph(interpreter(setup, score), place, device="cpu")
    with pytest.raises(RaddinoError, match=said) as caught:
        judge(["the private report"], ["another"])
    for secret in ("private", "someone", "\n"):
        assert secret not in str(caught.value)


def test_an_interpreter_that_answers_otherwise_is_refused(place, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 0.1.18\n", encoding="utf-8")
    script.chmod(0o755)
    judge = radgraph.find_radgraph(script, place, device="cpu")
    with pytest.raises(RaddinoError, match=r"answered something else than scores"):
        judge(["a"], ["b"])


def test_what_was_given_must_be_there(place, interpreter, tmp_path):
    with pytest.raises(RaddinoError, match="the Python that was named does not run"):
        radgraph.find_radgraph(tmp_path / "nowhere", place)
    plain = tmp_path / "plain"
    plain.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n', encoding="utf-8")
    plain.chmod(0o755)
    with pytest.raises(RaddinoError, match="has no package radgraph"):
        radgraph.find_radgraph(plain, place)
    (place / "radgraph/weights.th").unlink()
    with pytest.raises(RaddinoError, match=r"no radgraph/weights\.th"):
        radgraph.find_radgraph(interpreter(), place)


LISTENS = """case "$2" in *metadata*) echo 0.1.18; exit 0;; esac
"""


@pytest.mark.parametrize("answer", ["5", "[1]", '{"x": 1}', '{"rewards": "abc"}', '{"rewards": [5]}', "\xff", "null"])
def test_garbage_for_an_answer_is_one_line(place, tmp_path, answer):
    judge = radgraph.find_radgraph(_script(tmp_path, f"{LISTENS}cat > /dev/null\necho '{answer}'"), place, device="cpu")
    with pytest.raises(RaddinoError, match="answered something else than scores"):
        judge(["a"], ["b"])


@pytest.mark.parametrize("body", ["sleep 600", "cat > /dev/null\nsleep 600"])
def test_a_python_that_hangs_is_given_up(place, tmp_path, monkeypatch, body):
    monkeypatch.setattr(radgraph, "SILENCE", 0.5)
    judge = radgraph.find_radgraph(_script(tmp_path, LISTENS + body), place, device="cpu")
    with pytest.raises(RaddinoError, match="was silent"):
        judge(["a" * 200_000], ["b"])


def test_a_version_that_is_none_is_refused(place, tmp_path):
    with pytest.raises(RaddinoError, match="does not tell the package's version"):
        radgraph.find_radgraph(_script(tmp_path, "echo hello; echo world"), place, device="cpu")


def _script(folder, body):
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    script.chmod(0o755)
    return script
