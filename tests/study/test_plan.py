"""What a study says before it begins: arms, cost, disk; and refusals."""

import pytest
import yaml

from raddino.errors import ConfigError
from raddino.report.study import study
from raddino.study.plan import plan_text, price
from raddino.training.cost import step_cost
from raddino.training.hardware import ACCELERATORS


@pytest.fixture
def values(values):
    """In the precision that the table of hardware holds rates of."""
    del values["set"]["precision"]
    return values


def test_hours_by_hand(planned, values):
    made = planned(values)
    cost = price(made, hardware="h100x2")
    trained = [arm for arm in made.jobs if arm.config]
    flops = sum(step_cost(arm.config, 4, False).flops * 10 for arm in trained)
    assert cost.flops == flops
    assert cost.seconds == pytest.approx(flops / (2 * 0.3 * ACCELERATORS["h100"].flops), rel=0.05)


def test_the_plan_lists_every_arm_with_its_number(planned, values):
    values["arms"]["again"] = {"vary": {"fraction": [1.0]}}
    values["arms"]["quantity"]["vary"]["fraction"] = [0.0001, 1.0]
    made = planned(values)
    text = plan_text(made, price(made, hardware="l4"))
    table = text.partition("\n\n")[2].splitlines()
    assert [line.split()[0] for line in table] == ["#", "–", "0", "1", "0"]
    assert "cannot run: " in table[1]
    assert "1 training, 1 encoder by name, each judged by 1 evaluation: metadata" in text
    assert "16" in text
    assert all(f"{what} " in text for what in ("question", "corpus", "compute", "left", "disk"))


def test_the_plan_alone_trains_nothing(corpus, tmp_path, values, capsys):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    told = study(
        str(tmp_path / "own.yaml"), tmp_path / "out", corpora=[str(corpus.path)], plan_only=True, hardware="l4"
    )
    assert told is None
    said = capsys.readouterr().out
    assert said == (tmp_path / "out/own/plan.txt").read_text(encoding="utf-8")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["own"]


def test_this_machine_is_measured(planned, values):
    cost = price(planned(values), device="cpu")
    assert "measured, 3 steps of 4 random images" in cost.rate
    assert cost.seconds > 0


def test_an_encoder_is_looked_for_where_the_user_says(planned, values):
    made = planned(values, encoders={"hog": "pca"})
    assert [arm.encoder for arm in made.arms if arm.encoder] == ["pca"]
    assert made.arms[2].digest != planned(values).arms[2].digest
    with pytest.raises(ConfigError, match="--encoder rad-dino: no encoder of the study is called that"):
        planned(values, encoders={"rad-dino": "x"})


def test_a_study_needs_a_corpus(tmp_path):
    with pytest.raises(ConfigError, match="give --corpus FOLDER"):
        study("scaling", tmp_path / "out", plan_only=True)


def test_leave_one_out_needs_two_sources(planned, values, corpus, monkeypatch):
    monkeypatch.setattr(corpus, "manifest", corpus.manifest.assign(source="one"))
    values["tasks"] = {"sites": {"leave_one_out": True}}
    with pytest.raises(ConfigError, match="takes two sources; the corpus holds one alone"):
        planned(values)


def test_unknown_tasks_are_refused_before_the_work(planned, values):
    values["tasks"] = {"x": {"targets": ["no_such_column"]}}
    with pytest.raises(ConfigError, match="no_such_column"):
        planned(values)
