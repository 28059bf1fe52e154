import pytest

from raddino.report.tables import blocks, labels_of, metric, number, positives_of, sheets


def test_blocks_carry_the_numbers_of_metrics_json(metrics: dict) -> None:
    found = {block.task: block for block in blocks(metrics)}
    assert [kind.key for kind in found["Sex, NIH"].metrics] == ["auroc", "auprc"]
    assert [kind.key for kind in found["Age"].metrics] == ["mae", "r2"]
    for row in metrics["rows"]:
        block = found[row["task"]]
        column = [kind.key for kind in block.metrics].index(row["metric"])
        cell = next(line for line in block.lines if line.encoder == row["encoder"]).cells[column]
        assert cell is not None
        assert cell.row is row
        assert float(cell.text.replace("−", "-")) == pytest.approx(row["value"], rel=0.005, abs=5e-4)
        assert (block.n, block.positives, block.patients) == (row["n"], row["positives"], row["patients"])


def test_best_and_second_follow_the_direction_of_the_metric(metrics: dict) -> None:
    block = next(block for block in blocks(metrics) if block.task == "Age")
    values = [line.cells[0].row["value"] for line in block.lines if line.cells[0]]
    best = [line.cells[0].row["value"] for line in block.lines if line.cells[0] and line.cells[0].best]
    second = [line.cells[0].row["value"] for line in block.lines if line.cells[0] and line.cells[0].second]
    assert best == [min(values)]
    assert second == [sorted(values)[1]]


def test_ties_share_the_first_place_and_a_single_encoder_has_none(metrics: dict) -> None:
    tied = [row | {"value": 0.7} for row in metrics["rows"] if row["metric"] == "auroc"]
    for block in blocks(metrics | {"rows": tied, "absent": []}):
        assert all(line.cells[0].best and not line.cells[0].second for line in block.lines if line.cells)
    alone = [row for row in metrics["rows"] if row["encoder"] == "pca"]
    for block in blocks(metrics | {"rows": alone, "absent": []}):
        assert not any(cell.best or cell.second for line in block.lines for cell in line.cells if cell)


def test_a_sheet_is_encoders_by_tasks_with_the_cells_of_the_blocks(metrics: dict) -> None:
    extra = [row | {"task": f"finding {i}"} for i in range(7) for row in metrics["rows"] if row["task"] == "Pneumonia"]
    found = blocks(metrics | {"rows": metrics["rows"] + extra})
    made = sheets(found)
    assert [sheet.metric.key for sheet in made] == ["auroc", "auroc", "auprc", "auprc", "mae", "r2"]
    assert [len(sheet.blocks) for sheet in made] == [6, 3, 6, 3, 1, 1]
    for sheet in made:
        assert [name for name, _, _ in sheet.lines] == ["trained", "initial", "pca", "hog"]
        for name, _, cells in sheet.lines:
            for block, cell in zip(sheet.blocks, cells, strict=True):
                line = next(line for line in block.lines if line.encoder == name)
                assert cell is line.cells[block.metrics.index(sheet.metric)]


def test_a_sheet_has_gaps_where_an_encoder_has_no_value(metrics: dict) -> None:
    rows = [row for row in metrics["rows"] if (row["encoder"], row["task"]) != ("pca", "Pneumonia")]
    auroc = sheets(blocks(metrics | {"rows": rows}))[0]
    assert {name: [cell is None for cell in cells] for name, _, cells in auroc.lines}["pca"] == [False, True]
    assert all(name != "biovil" for sheet in sheets(blocks(metrics)) for name, _, _ in sheet.lines)


def test_only_differences_that_survive_holm_are_marked(metrics: dict) -> None:
    for row in metrics["rows"]:
        if row["difference"]:
            row["difference"]["p_holm"] = {"initial": 0.049, "pca": 0.051, "hog": None}[row["encoder"]]
    for sheet in sheets(blocks(metrics)):
        assert sheet.references == ["trained"]
        assert {name for name, _, cells in sheet.lines for cell in cells if cell.marked} == {"initial"}


def test_an_analysis_that_failed_is_no_task(metrics: dict) -> None:
    gap = {"task": None, "encoder": None, "analysis": "subgroups", "reason": "too few"}
    assert len(blocks(metrics | {"absent": [*metrics["absent"], gap]})) == len(blocks(metrics))


def test_absences_keep_their_reason(metrics: dict) -> None:
    found = {block.task: block for block in blocks(metrics)}
    assert found["Nodule"].absent == "no positives in the test split"
    assert not found["Nodule"].lines
    assert found["Age"].lines[-1].reason == "weights not provided"
    bare = blocks({"rows": [], "absent": metrics["absent"]})
    assert [(block.lines, block.absent) for block in bare] == [
        ([], "no positives in the test split"),
        ([], "biovil: weights not provided"),
    ]


def test_undefined_values_rank_nowhere(metrics: dict) -> None:
    for row in metrics["rows"]:
        if row["encoder"] == "hog":
            row |= {"value": float("nan"), "low": None, "high": float("nan")}
            row["difference"] = {"to": "trained", "value": None, "low": None, "high": None, "p": None}
    for block in blocks(metrics):
        for line in block.lines:
            for cell in line.cells:
                if cell and line.encoder == "hog":
                    assert (cell.text, cell.interval, cell.best, cell.second) == ("–", "", False, False)


def test_scale_holds_all_intervals_and_chance(metrics: dict) -> None:
    for block in blocks(metrics):
        for scale, column in zip(block.scales, range(2), strict=False):
            assert scale is not None
            rows = [line.cells[column].row for line in block.lines if line.cells[column]]
            assert all(0 < scale.at(row[key]) < 100 for row in rows for key in ("low", "value", "high"))
            assert 2 <= len(scale.ticks()) <= 6


@pytest.mark.parametrize(
    ("value", "key", "text"),
    [(0.8725, "auroc", "0.873"), (-0.0742, "r2", "−0.074"), (10.46, "mae", "10.5"), (9.0, "mae", "9.00"),
     (123.4, "mae", "123"), (0.408, "mae", "0.408"), (None, "auroc", "–"), (float("nan"), "mae", "–")],
)  # fmt: skip
def test_numbers(value: float | None, key: str, text: str) -> None:
    assert number(value, metric(key)) == text


def test_an_aggregate_names_its_members(metrics: dict) -> None:
    extra = [
        row | {"task": "findings (macro)", "detail": {"tasks": ["Sex, NIH", "Pneumonia"]}}
        for row in metrics["rows"]
        if row["task"] == "Pneumonia"
    ]
    found = blocks(metrics | {"rows": metrics["rows"] + extra})
    assert next(b for b in found if b.task == "findings (macro)").members == ("Sex, NIH", "Pneumonia")


@pytest.mark.parametrize(
    ("row", "words", "labels"),
    [
        ({"n": 57, "positives": 28, "prevalence": 28 / 57}, "28 positive (49 %)", None),
        ({"n": 57, "positives": 43, "prevalence": 43 / 171}, "43 of 171 labels positive (25 %)", 171),
        ({"n": 57, "positives": 0, "prevalence": 0.0}, "0 positive (0 %)", None),
        ({"n": 57, "positives": None, "prevalence": None}, "", None),
    ],
)
def test_positives_of_an_aggregate_are_labels(row: dict, words: str, labels: int | None) -> None:
    assert positives_of(row) == words
    assert labels_of(row) == labels


def test_a_block_knows_its_unit_and_what_is_positive() -> None:
    shared = {"encoder": "x", "value": 3.0, "n": 57}
    rows = [shared | {"task": "Age", "metric": "mae"}, shared | {"task": "sex", "metric": "auroc"}]
    tasks = [
        {"name": "Age", "target": "age", "kind": "regression"},
        {"name": "sex", "target": "sex", "kind": "binary", "positive": "M"},
    ]
    age, sex = blocks({"rows": rows, "tasks": tasks, "encoders": [{"name": "x"}]})
    assert [age.head(kind) for kind in age.metrics] == ["MAE in years"]
    assert (sex.positive, sex.unit, [sex.head(kind) for kind in sex.metrics]) == ("M", "", ["AUROC"])


def test_a_metric_of_one_class_is_named_and_ordered_as_the_metric():
    one = metric("hd95 (left lung)")
    assert one.label == f"{metric('hd95').label} (left lung)"
    assert not one.higher_is_better
    assert metric("odd (thing)").label == "odd (thing)"
