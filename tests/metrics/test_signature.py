"""A number's signature says everything in one line."""

from raddino.metrics.scales import LOGIT, method
from raddino.metrics.signature import Signature


def test_line_and_fields():
    signature = Signature("auroc", "test", 120, 30, 0.25, 80, 1000, 7, "e" * 16, "d" * 64, method(LOGIT))
    line = str(signature)
    for part in (
        "auroc",
        "split:test",
        "n:120",
        "pos:30",
        "prev:0.250",
        "patients:80",
        "B:1000",
        "seed:7",
        "enc:eeee",
    ):
        assert part in line.split("|") or part in line
    assert signature.to_dict()["signature"] == line
    assert signature.to_dict()["interval"] == "patient bootstrap, t, scale logit"
    assert "ci:patient bootstrap, t, scale logit" in line.split("|")


def test_an_average_names_its_members():
    numbers = ("auroc", "test", 9, None, None, 9, 10, 0, "e", "d", "any")
    signature = Signature(*numbers, members=("left", "noise"), listed=3)
    assert str(signature).startswith("auroc|mean of:left, noise (2 of 3)|split:test")
    assert signature.to_dict()["members"] == ["left", "noise"]
    alone = Signature(*numbers)
    assert "mean of" not in str(alone)
    assert (alone.members, alone.listed) == ((), 0)


def test_numbers_have_no_positives():
    assert "pos" not in str(Signature("mae", "test", 9, None, None, 9, 10, 0, "e", "d", "any"))
