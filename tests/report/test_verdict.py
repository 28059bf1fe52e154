from raddino.report.tables import blocks
from raddino.report.verdict import verdict


def rows(values: dict[str, dict[str, float]], **more: object) -> list[dict]:
    """Rows of an AUROC per task and encoder; the first encoder is the reference."""
    made = []
    for task, by_encoder in values.items():
        reference, first = next(iter(by_encoder.items()))
        for name, value in by_encoder.items():
            gap = value - first
            made.append({
                "task": task, "encoder": name, "metric": "auroc", "value": value, "low": value - 0.05,
                "high": value + 0.05, "n": 200, "positives": 100, "prevalence": 0.5,
                "difference": None if name == reference else
                {"to": reference, "value": gap, "low": gap - 0.05, "high": gap + 0.05, **more},
            })  # fmt: skip
    return made


def say(values: dict[str, dict[str, float]], encoders: list[dict] | None = None, **more: object):
    return verdict(blocks({"rows": rows(values, **more)}), encoders or [])


def test_the_headline_follows_the_values() -> None:
    assert say({"a": {"x": 0.8, "y": 0.7}, "b": {"x": 0.9, "y": 0.6}}).headline == "x leads on both tasks"
    mixed = {"a": {"x": 0.8, "y": 0.7}, "b": {"x": 0.6, "y": 0.9}, "c": {"x": 0.6, "y": 0.9}}
    assert say(mixed).headline == "y leads on 2 of 3 tasks, x on 1"
    assert say({"a": {"x": 0.8, "y": 0.8}}).headline == "x and y lead on a"
    assert say({"a": {"x": 0.8}}).headline == "x: AUROC 0.800 on a"


def test_comparisons_count_what_is_clear() -> None:
    values = {"a": {"x": 0.8, "y": 0.7}, "b": {"x": 0.8, "y": 0.79}, "c": {"x": 0.8, "y": 0.82}}
    assert say(values).comparisons == ("y: ahead on 1 of 3 tasks, behind on 2 (1 clearly)",)
    assert say(values).reference == "x"
    strict = say(values, p_holm=0.2)
    assert strict.comparisons == ("y: ahead on 1 of 3 tasks, behind on 2; no difference is clear",)
    assert "Holm" in strict.clear
    assert say({"a": {"x": 0.8, "y": 0.7}, "b": {"x": 0.8, "y": 0.7}}).comparisons == (
        "y: behind on all 2 tasks (2 clearly)",
    )


def test_lower_is_better_for_errors() -> None:
    made = [row | {"metric": "mae"} for row in rows({"age": {"x": 12.0, "y": 9.0}})]
    found = verdict(blocks({"rows": made}), [])
    assert found.headline == "y leads on age"
    assert found.comparisons == ("y: ahead on 1 of 1 task (1 clearly)",)


def test_caveats_name_chance_small_classes_and_contamination() -> None:
    weak = {"a": {"x": 0.52, "y": 0.5}}
    assert "On a no encoder is distinguishable from chance." in say(weak).caveats
    small = [row | {"positives": 9} for row in rows({"a": {"x": 0.8, "y": 0.7}})]
    assert "has 9 images (a)" in " ".join(verdict(blocks({"rows": small}), []).caveats)
    seen = say({"a": {"x": 0.8, "y": 0.7}}, [{"name": "x", "seen": "image seen"}, {"name": "y", "seen": "clean"}])
    assert len(seen.caveats) == 1
    assert seen.caveats[0].startswith("x was pre-trained on images of a source of the corpus, and the test images may")
    told = {"name": "x", "seen": "label seen", "contamination": {"nih": "label seen", "cohen": "clean"}}
    named = say({"a": {"x": 0.8, "y": 0.7}}, [told])
    assert named.caveats == (
        "x was pre-trained on images and labels of the source “nih”, and the test images may be among them.",
    )


def test_test_images_that_were_recognised_are_counted_first() -> None:
    counts = {"nih": {"images": 30, "seen": 4}, "rsna": {"images": 9, "seen": 0}, "cohen": {"images": 5, "seen": 5}}
    told = {"name": "x", "seen": "image seen", "contamination": {"nih": "image seen"}, "recognised": counts}
    found = say({"a": {"x": 0.8, "y": 0.7}}, [told, {"name": "y", "seen": "clean", "recognised": None}])
    assert found.caveats[0] == (
        "x was trained on test images themselves, known by their pixels: 4 of 30 of nih and 5 of 5 of cohen."
    )
    assert len(found.caveats) == 2


def test_each_word_for_what_was_seen_has_its_caveat() -> None:
    said = {"a": "partly seen", "b": "may be seen", "c": "unknown", "d": "declared held out", "e": "held out"}
    found = say({"a": {"x": 0.8, "y": 0.7}}, [{"name": "x", "seen": "partly seen", "contamination": said}])
    assert [
        ("a part of" in one, "may have" in one, "not known" in one, "declared" in one) for one in found.caveats
    ] == [tuple(row == column for column in range(4)) for row in range(4)]
    assert [next(name for name in "abcd" if f"“{name}”" in one) for one in found.caveats] == list("abcd")


def test_aggregates_do_not_count_as_tasks_and_nothing_measured_is_said() -> None:
    made = rows({"a": {"x": 0.8, "y": 0.7}})
    macro = [row | {"task": "macro", "detail": {"tasks": ["a"]}} for row in made]
    assert verdict(blocks({"rows": made + macro}), []).headline == "x leads on a"
    assert verdict(blocks({"rows": []}), []).headline == "Nothing could be measured"


def at_sites(values: dict[str, dict[str, dict[str, float]]]) -> list[dict]:
    """Rows of tasks by site, ``""`` for the inside."""
    made = []
    for task, places in values.items():
        for site, by_encoder in places.items():
            called = f"{task} at {site}" if site else task
            made += [row | ({"site": site} if site else {}) for row in rows({called: by_encoder})]
    return made


def headline(values: dict[str, dict[str, dict[str, float]]], ranked: list[dict] | None = None) -> str:
    return verdict(blocks({"rows": at_sites(values)}), [], ranked).headline


HELD = {"": {"x": 0.8, "y": 0.7}, "far": {"x": 0.7, "y": 0.6}}
FLIPS = {"": {"x": 0.8, "y": 0.7}, "near": {"x": 0.8, "y": 0.7}, "far": {"x": 0.6, "y": 0.7}}


def test_a_ranking_that_flips_at_another_site_is_withheld() -> None:
    assert headline({"a": FLIPS}) == "No ranking holds over sites: x leads on a inside, y at far"
    clear = [{"role": "rank", "task": "a", "site": "far", "encoder": "x", "low": 2.0, "high": 2.0}]
    assert headline({"a": FLIPS}, clear).endswith("inside, y at far (clearly)")
    assert headline({"a": FLIPS}, [clear[0] | {"low": 1.0}]).endswith("inside, y at far")
    assert (
        headline({"a": HELD, "b": FLIPS}) == "No ranking holds over sites on 1 of 2 tasks; x leads on a, at all sites"
    )
    assert headline({"a": FLIPS, "b": FLIPS}) == "No ranking holds over sites on both tasks"


def test_a_ranking_that_holds_is_named_with_what_it_holds_over() -> None:
    assert headline({"a": HELD}) == "x leads on a, at all sites"
    assert headline({"a": HELD, "b": HELD}) == "x leads on both tasks, at all sites"
    level = {"": {"x": 0.8, "y": 0.8}, "far": {"x": 0.6, "y": 0.7}}
    assert headline({"a": level}) == "y leads on a, at all sites"


def test_a_site_left_out_in_turn_is_compared_with_the_others_and_not_with_its_insides() -> None:
    made = at_sites({"a": {"p": {"x": 0.8, "y": 0.7}, "q": {"x": 0.6, "y": 0.7}}})
    insides = [row | {"without": "p"} for row in rows({"a without p": {"x": 0.5, "y": 0.9}})]
    found = verdict(blocks({"rows": made + insides}), []).headline
    assert found == "No ranking holds over sites: x leads on a at p, y at q"
