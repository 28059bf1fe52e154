"""The rule-based labeler: hand-made cases, the synthetic texts exactly, the real Open-i texts against their tags."""

import tarfile
import textwrap

import pytest

from raddino.corpus.sections import openi_sections, parse_xml
from raddino.corpus.sources.chexpert import LABELS
from raddino.sample.generate import manifest_row
from raddino.sample.studies import draw_scene
from raddino.tasks.findings.labeler import NAME, OBSERVATIONS, label_findings

CASES = [
    # negation, forms
    ("No pneumothorax.", {"pneumothorax": 0}),
    ("No evidence of effusion or consolidation.", {"pleural_effusion": 0, "consolidation": 0}),
    ("There is no pleural effusion, pneumothorax, or focal consolidation.",
     {"pleural_effusion": 0, "pneumothorax": 0, "consolidation": 0}),
    ("Lungs expanded without effusion or pneumothorax.", {"pleural_effusion": 0, "pneumothorax": 0}),
    ("Negative for pneumothorax or effusion.", {"pneumothorax": 0, "pleural_effusion": 0}),
    ("The lungs are free of consolidation.", {"consolidation": 0}),
    ("Absence of effusion.", {"pleural_effusion": 0}),
    ("Neither effusion nor pneumothorax.", {"pleural_effusion": 0, "pneumothorax": 0}),
    ("The film does not show a pneumothorax.", {"pneumothorax": 0}),
    ("No definite rib fracture.", {"fracture": 0}),
    ("No new consolidation.", {"consolidation": 0}),
    ("No findings to suggest pneumonia.", {"pneumonia": 0}),
    ("No consolidation consistent with pneumonia.", {"consolidation": 0, "pneumonia": 0}),
    # negation after the finding
    ("Pneumothorax is not seen.", {"pneumothorax": 0}),
    ("Pleural effusion and pneumothorax are not identified.", {"pleural_effusion": 0, "pneumothorax": 0}),
    ("The effusion has resolved.", {"pleural_effusion": 0}),
    ("The previous consolidation is no longer visible.", {"consolidation": 0}),
    ("Pneumothorax: none.", {"pneumothorax": 0}),
    ("The chest tube has been removed.", {"support_devices": 0}),
    ("Interval removal of the endotracheal tube.", {"support_devices": 0}),
    ("Interval resolution of edema.", {"edema": 0}),
    ("A small effusion is present, pneumothorax is not seen.", {"pleural_effusion": 1, "pneumothorax": 0}),
    # no negation, though it looks like one
    ("No change in effusion.", {"pleural_effusion": 1}),
    ("No significant interval change in the small left pneumothorax.", {"pneumothorax": 1}),
    ("No significant change in pneumothorax or effusion.", {"pneumothorax": 1, "pleural_effusion": 1}),
    ("The opacity is not significantly changed.", {"lung_opacity": 1}),
    ("Not only edema but also effusion.", {"edema": 1, "pleural_effusion": 1}),
    ("Near complete resolution of the effusion.", {"pleural_effusion": 1}),
    ("The consolidation has not cleared.", {"consolidation": 1}),
    ("Unchanged small effusion.", {"pleural_effusion": 1}),
    ("Resolving edema.", {"edema": 1}),
    # clauses
    ("No effusion but there is pneumothorax.", {"pleural_effusion": 0, "pneumothorax": 1}),
    ("There is no effusion, however a consolidation is seen.", {"pleural_effusion": 0, "consolidation": 1}),
    ("No pneumothorax; small effusion.", {"pneumothorax": 0, "pleural_effusion": 1}),
    ("No pneumothorax, small left effusion.", {"pneumothorax": 0, "pleural_effusion": 1}),
    ("No pneumothorax and there is a nodule on the left.", {"pneumothorax": 0, "lung_lesion": 1}),
    ("No effusion is seen and atelectasis is present.", {"pleural_effusion": 0, "atelectasis": 1}),
    ("Edema without effusion.", {"edema": 1, "pleural_effusion": 0}),
    ("Clear lungs except for left atelectasis.", {"lung_opacity": 0, "atelectasis": 1}),
    ("No pneumothorax.No effusion.Old rib fracture.", {"pneumothorax": 0, "pleural_effusion": 0, "fracture": 1}),
    ("1. No effusion\n2. Pneumothorax", {"pleural_effusion": 0, "pneumothorax": 1}),
    ("- No effusion\n- Consolidation", {"pleural_effusion": 0, "consolidation": 1}),
    ("No large\neffusion.", {"pleural_effusion": 0}),
    ("A 1.2 cm nodule, no effusion.", {"lung_lesion": 1, "pleural_effusion": 0}),
    # doubt
    ("Opacity may represent pneumonia.", {"lung_opacity": 1, "pneumonia": -1}),
    ("Cannot exclude a small effusion.", {"pleural_effusion": -1}),
    ("A small pneumothorax cannot be excluded.", {"pneumothorax": -1}),
    ("Pneumonia is not excluded.", {"pneumonia": -1}),
    ("Possible left lower lobe consolidation.", {"consolidation": -1}),
    ("Opacity, likely atelectasis.", {"lung_opacity": 1, "atelectasis": -1}),
    ("Opacity suspicious for pneumonia.", {"lung_opacity": 1, "pneumonia": -1}),
    ("Findings suggestive of edema.", {"edema": -1}),
    ("Atelectasis versus pneumonia.", {"atelectasis": -1, "pneumonia": -1}),
    ("Atelectasis vs. consolidation.", {"atelectasis": -1, "consolidation": -1}),
    ("Basal atelectasis or scarring.", {"atelectasis": -1}),
    ("Changes which could be secondary to edema, pneumonia, or atelectasis.",
     {"edema": -1, "pneumonia": -1, "atelectasis": -1}),
    ("Differential diagnosis includes edema, infection.", {"edema": -1, "pneumonia": -1}),
    ("Small effusions suspected.", {"pleural_effusion": -1}),
    ("Opacity compatible with pneumonia in the appropriate clinical setting.",
     {"lung_opacity": -1, "pneumonia": -1}),
    ("Consolidation consistent with pneumonia.", {"consolidation": 1, "pneumonia": 1}),
    ("No consolidation concerning for pneumonia.", {"consolidation": 0, "pneumonia": 0}),
    ("Previously noted effusion has decreased.", {"pleural_effusion": 1}),
    ("Sternotomy with intact wires.", {"support_devices": 1}),
    ("Nothing suspicious for edema.", {"edema": 0}),
    (
        "A suggestion of pneumonia in the right lower lobe next to the known scar is not identified.",
        {"pneumonia": 0},
    ),
    # said of no present finding
    ("Compatible with history of pneumonia.", {}),
    ("Small fractures may not be visible.", {}),
    ("Calcified node of old granulomatous infection.", {}),
    # heart and mediastinum
    ("Heart size is normal.", {"cardiomegaly": 0}),
    ("The heart is normal in size.", {"cardiomegaly": 0}),
    ("Normal heart size and mediastinal contours.", {"cardiomegaly": 0, "enlarged_cardiomediastinum": 0}),
    ("The heart is not enlarged.", {"cardiomegaly": 0}),
    ("The heart is mildly enlarged.", {"cardiomegaly": 1}),
    ("Stable enlarged cardiac silhouette.", {"cardiomegaly": 1}),
    ("Moderate enlargement of the cardiac silhouette.", {"cardiomegaly": 1}),
    ("Heart size is stable.", {}),
    ("Heart size is stable and normal.", {"cardiomegaly": 0}),
    ("Heart size at the upper limits of normal.", {"cardiomegaly": -1}),
    ("Borderline cardiomegaly.", {"cardiomegaly": -1}),
    ("The heart is enlarged, the mediastinum is normal.", {"cardiomegaly": 1, "enlarged_cardiomediastinum": 0}),
    ("The cardiomediastinal silhouette is within normal limits.", {"enlarged_cardiomediastinum": 0}),
    ("The superior mediastinum is widened.", {"enlarged_cardiomediastinum": 1}),
    ("There is no mediastinal widening.", {"enlarged_cardiomediastinum": 0}),
    ("No cardiomegaly.", {"cardiomegaly": 0}),
    # what a finding is and what it is not
    ("Clear lungs.", {"lung_opacity": 0}),
    ("The lungs are clear.", {"lung_opacity": 0}),
    ("Pericardial effusion.", {}),
    ("Mediastinal mass.", {}),
    ("Hydropneumothorax.", {"pneumothorax": 1, "pleural_effusion": 1}),
    ("Nodular opacity on the right.", {"lung_lesion": 1}),
    ("Right apical pleural thickening.", {"pleural_other": 1}),
    ("Pulmonary vascular congestion.", {"edema": 1}),
    ("Vascular congestion is within normal limits.", {"edema": 0}),
    ("Vertebral collapse.", {}),
    ("Lead wires of a pacemaker; PICC line tip at the carina.", {"support_devices": 1}),
    ("The trachea is midline.", {}),
    ("The catheter fracture is known.", {"support_devices": 1}),
    # several mentions
    ("Left pneumothorax. No right pneumothorax.", {"pneumothorax": 1}),
    ("No consolidation. Possible consolidation on the left.", {"consolidation": -1}),
    ("Possible effusion. Small effusion on the lateral view.", {"pleural_effusion": 1}),
    # spelling
    ("NO PNEUMOTHORAX. Cardiomegaly", {"pneumothorax": 0, "cardiomegaly": 1}),
    ("Ｎｏ ｅｆｆｕｓｉｏｎ。", {"pleural_effusion": 0}),
    ("Pneumothoraces, oedema and haziness.", {"pneumothorax": 1, "edema": 1, "lung_opacity": 1}),
]  # fmt: skip

WRITTEN = [
    ("No findings.", "+no_finding"),
    ("No finding", "+no_finding"),
    ("NO FINDINGS", "+no_finding"),
    ("There are no findings.", "+no_finding"),
    ("No significant findings.", "+no_finding"),
    ("No pathological findings.", "+no_finding"),
    ("No pathology.", "+no_finding"),
    ("Nothing abnormal detected.", "+no_finding"),
    ("No abnormalities.", "+no_finding"),
    ("Without findings.", "+no_finding"),
    ("Without pathological findings.", "+no_finding"),
    ("Findings: none.", "+no_finding"),
    ("No findings. Pneumothorax.", "+pneumothorax -no_finding"),
    ("No change in findings.", ""),
    ("No findings to explain the fever.", "+no_finding"),
    ("No pneumothorax\nSmall effusion\nCardiomegaly", "-pneumothorax +pleural_effusion +cardiomegaly -no_finding"),
    ("No effusion\nPneumothorax", "-pleural_effusion +pneumothorax -no_finding"),
    ("Effusion\nNo pneumothorax\nConsolidation", "+pleural_effusion -pneumothorax +consolidation -no_finding"),
    ("No effusion; consolidation; edema", "-pleural_effusion +consolidation +edema -no_finding"),
    ("• No effusion • Consolidation", "-pleural_effusion +consolidation -no_finding"),
    ("No effusion • Consolidation • Edema", "-pleural_effusion +consolidation +edema -no_finding"),
    ("1. No effusion 2. Consolidation 3. Edema", "-pleural_effusion +consolidation +edema -no_finding"),
    ("1) No effusion 2) Consolidation", "-pleural_effusion +consolidation -no_finding"),
    ("(1) No effusion (2) Consolidation", "-pleural_effusion +consolidation -no_finding"),
    ("a) No effusion\nb) Consolidation", "-pleural_effusion +consolidation -no_finding"),
    ("No effusion - consolidation", "-pleural_effusion +consolidation -no_finding"),
    ("No effusion \u2013 consolidation", "-pleural_effusion +consolidation -no_finding"),
    ("No pneumothorax \u2014 small effusion", "-pneumothorax +pleural_effusion -no_finding"),
    (
        "Pneumothorax: no\nEffusion: yes\nConsolidation: no",
        "-pneumothorax +pleural_effusion -consolidation -no_finding",
    ),
    ("Heart size normal\nLungs clear\nNo effusion", "-cardiomegaly -lung_opacity -pleural_effusion +no_finding"),
    ("Lungs: clear\nHeart: enlarged\nBones: no fracture", "-lung_opacity +cardiomegaly -fracture -no_finding"),
    (
        "No pleural effusion,\npneumothorax or\nconsolidation.",
        "-pleural_effusion -pneumothorax -consolidation +no_finding",
    ),
    ("There is no evidence of pleural\neffusion or pneumothorax.", "-pleural_effusion -pneumothorax +no_finding"),
    (
        "There is no focal consolidation, pleural effusion or\nPneumothorax.",
        "-consolidation -pleural_effusion -pneumothorax +no_finding",
    ),
    ("The lungs show no\nconsolidation.", "-consolidation +no_finding"),
    ("No evidence of\nPneumothorax.", "-pneumothorax +no_finding"),
    ("Without pneumothorax, effusion remains.", "-pneumothorax +pleural_effusion -no_finding"),
    ("Without change, effusion remains.", "+pleural_effusion -no_finding"),
    ("Without change, the pneumothorax persists.", "+pneumothorax -no_finding"),
    ("Without pneumothorax, small effusion persists.", "-pneumothorax +pleural_effusion -no_finding"),
    ("No pneumothorax, effusion persists.", "-pneumothorax +pleural_effusion -no_finding"),
    ("No pneumothorax, consolidation is present on the left.", "-pneumothorax +consolidation -no_finding"),
    ("No pneumothorax, edema is unchanged.", "-pneumothorax +edema -no_finding"),
    ("No pneumothorax, effusion has increased.", "-pneumothorax +pleural_effusion -no_finding"),
    ("Without pneumothorax, effusion or consolidation.", "-pneumothorax -pleural_effusion -consolidation +no_finding"),
    (
        "No pneumothorax, effusion, or consolidation is seen.",
        "-pneumothorax -pleural_effusion -consolidation +no_finding",
    ),
    ("Without significant change, bibasilar atelectasis.", "+atelectasis -no_finding"),
    (
        "Chest tube removed without pneumothorax, effusion remains.",
        "-support_devices -pneumothorax +pleural_effusion -no_finding",
    ),
    ("Pneumonia?", "?pneumonia -no_finding"),
    ("? effusion", "?pleural_effusion -no_finding"),
    ("?effusion", "?pleural_effusion -no_finding"),
    ("Opacity, ?pneumonia.", "+lung_opacity ?pneumonia -no_finding"),
    ("Right basal opacity (pneumonia?).", "+lung_opacity ?pneumonia -no_finding"),
    ("Right basal opacity ?consolidation ?atelectasis", "+lung_opacity ?consolidation ?atelectasis -no_finding"),
    ("Pneumonia? No effusion.", "?pneumonia -pleural_effusion -no_finding"),
    ("Cardiomegaly. Effusion?", "+cardiomegaly ?pleural_effusion -no_finding"),
    ("Small left effusion? Atelectasis.", "?pleural_effusion +atelectasis -no_finding"),
    ("?? pneumothorax", "?pneumothorax -no_finding"),
    ("Pneumonia??", "?pneumonia -no_finding"),
    ("Heart enlarged?", "?cardiomegaly -no_finding"),
    ("No pneumothorax?", "?pneumothorax -no_finding"),
    ("Effusion without pneumothorax.", "+pleural_effusion -pneumothorax -no_finding"),
    ("No pneumothorax but small effusion.", "-pneumothorax +pleural_effusion -no_finding"),
    ("No pneumothorax, although effusion has increased.", "-pneumothorax +pleural_effusion -no_finding"),
    ("No pneumothorax with small effusion.", "-pneumothorax +pleural_effusion -no_finding"),
    ("Atelectasis rather than consolidation.", "+atelectasis -consolidation -no_finding"),
    ("Pneumonia cannot be excluded.", "?pneumonia -no_finding"),
    ("Cannot exclude pneumonia.", "?pneumonia -no_finding"),
    ("Pneumonia not excluded.", "?pneumonia -no_finding"),
    ("Effusion no longer seen.", "-pleural_effusion +no_finding"),
    ("There is no longer a pneumothorax.", "-pneumothorax +no_finding"),
    ("Pneumothorax has resolved, effusion persists.", "-pneumothorax +pleural_effusion -no_finding"),
    ("Resolved pneumothorax.", "-pneumothorax +no_finding"),
    (
        "The lungs are free of focal consolidation, effusion and pneumothorax.",
        "-consolidation -pleural_effusion -pneumothorax +no_finding",
    ),
    ("Neither effusion nor consolidation, but edema.", "-pleural_effusion -consolidation +edema -no_finding"),
    ("No effusion, consolidation or pneumothorax.", "-pleural_effusion -consolidation -pneumothorax +no_finding"),
    ("No effusion/consolidation/pneumothorax.", "-pleural_effusion -consolidation -pneumothorax +no_finding"),
    ("Not without effusion.", "+pleural_effusion -no_finding"),
    ("The film is not without a small pneumothorax.", "+pneumothorax -no_finding"),
    ("Effusion, not resolved.", "+pleural_effusion -no_finding"),
    ("Not free of effusion.", "+pleural_effusion -no_finding"),
    ("S/p chest tube removal, no pneumothorax.", "-support_devices -pneumothorax +no_finding"),
    ("Status post chest tube removal. No PTX.", "-support_devices -pneumothorax +no_finding"),
    ("Compared to prior, no change in effusion.", "+pleural_effusion -no_finding"),
    ("Compared to prior, no effusion.", "-pleural_effusion +no_finding"),
    ("In comparison to the prior study, no pneumothorax.", "-pneumothorax +no_finding"),
    ("Effusion is stable, no pneumothorax.", "+pleural_effusion -pneumothorax -no_finding"),
    ("NO PTX. SMALL EFFUSION.", "-pneumothorax +pleural_effusion -no_finding"),
    ("LUNGS CLEAR W/O EFFUSION OR PTX", "-lung_opacity -pleural_effusion -pneumothorax +no_finding"),
    ("Lungs w/o consolidation.", "-consolidation +no_finding"),
    ("No ptx/effusion", "-pneumothorax -pleural_effusion +no_finding"),
    ("No PTX or pleural eff.", "-pneumothorax +no_finding"),
    ("Prior pneumothorax is not seen.", "-pneumothorax +no_finding"),
    ("Pneumothorax is absent, atelectasis is present.", "-pneumothorax +atelectasis -no_finding"),
    ("No pneumothorax nor effusion.", "-pneumothorax -pleural_effusion +no_finding"),
    ("Nor is there effusion.", "-pleural_effusion +no_finding"),
    ("There isn't a pneumothorax.", "-pneumothorax +no_finding"),
    ("The film doesn't show an effusion.", "-pleural_effusion +no_finding"),
    ("Non\u2011displaced rib fracture.", "+fracture -no_finding"),
    ("No non-displaced rib fracture.", "-fracture +no_finding"),
    ("Ruled out pneumothorax.", "-pneumothorax +no_finding"),
    ("R/o pneumonia.", "?pneumonia -no_finding"),
    ("Pneumothorax (-), effusion (+)", "-pneumothorax +pleural_effusion -no_finding"),
    ("Follow-up chest radiograph: no pneumothorax.", "-pneumothorax +no_finding"),
    ("X-ray shows well-defined nodule - no effusion.", "+lung_lesion -pleural_effusion -no_finding"),
    ("Without acute findings.", "+no_finding"),
    ("Unremarkable.", "+no_finding"),
    ("Pneumothorax: no, effusion: yes", "-pneumothorax +pleural_effusion -no_finding"),
]
"""As reports are typed: without full stops, as lists, with question marks, in capitals, with several negations.

Signs before the names: + positive, - denied, ? uncertain.
"""


def test_names():
    assert NAME == "raddino-rules"
    assert len(OBSERVATIONS) == len(LABELS) == 14
    assert OBSERVATIONS[0] == "no_finding"


@pytest.mark.parametrize(("text", "labels"), CASES, ids=[text[:60] for text, _ in CASES])
def test_hand_made_cases(text, labels):
    found = label_findings(text)
    found.pop("no_finding", None)
    assert found == labels


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Normal chest.", 1),
        ("No acute disease.", 1),
        ("No effusion. Pacemaker in place.", 1),
        ("Effusion.", 0),
        ("Possible effusion.", 0),
        ("Scoliosis.", None),
        ("", None),
        ("肺野清晰。", None),
        ("the the the", None),
    ],
)
def test_no_finding(text, value):
    assert label_findings(text).get("no_finding") == value


@pytest.mark.parametrize(("text", "signs"), WRITTEN, ids=[ascii(text)[1:60] for text, _ in WRITTEN])
def test_lists_question_marks_and_scopes(text, signs):
    labels = {word[1:]: {"+": 1, "-": 0, "?": -1}[word[0]] for word in signs.split()}
    assert label_findings(text) == labels
    assert label_findings(f"  {text.upper()}\r\n") == labels


def test_a_line_break_within_a_sentence_is_none():
    """A report wrapped at two widths reads as the same report in one line."""
    for sentence, labels in CASES:
        report = f"The patient was examined upright and in full inspiration. {sentence}"
        for width in (60, 72):
            lines = [report] if "\n" in sentence else textwrap.wrap(report, width)
            found = label_findings("\n".join(lines))
            found.pop("no_finding", None)
            assert found == labels, lines


def test_marks_without_words_take_linear_time():
    for mark in ("?", "a, ", "(", "1) ", " - ", "no\n", ":\n", "query ?", "No effusion, and "):
        assert set(label_findings(mark * 5_000)) <= {"no_finding", "pleural_effusion"}


def test_order_case_and_white_space_do_not_matter():
    for text, labels in CASES:
        other = label_findings(f"  {text.upper()}\r\n")
        other.pop("no_finding", None)
        assert other == labels
    found = label_findings("Pacemaker. Effusion. Cardiomegaly.")
    assert list(found) == sorted(found, key=OBSERVATIONS.index)


def test_sentences_are_independent():
    """Two cases after one another give the union, positive before uncertain before negative."""
    best = [1, -1, 0]
    for (first, one), (second, two) in zip(CASES, CASES[7:], strict=False):
        both = label_findings(f"{first}\n\n{second}")
        both.pop("no_finding", None)
        assert both == {k: min((d[k] for d in (one, two) if k in d), key=best.index) for k in one | two}


def test_synthetic_texts_are_labelled_exactly():
    same = {"consolidation": "consolidation", "effusion": "pleural_effusion", "pneumothorax": "pneumothorax",
            "cardiomegaly": "cardiomegaly", "nodule": "lung_lesion", "rib_fracture": "fracture"}  # fmt: skip
    seen = dict.fromkeys((*same.values(), "support_devices"), 0)
    for index in range(500):
        image = draw_scene(7, index, 64)
        row = manifest_row(image, "png")
        true = {name: int(row[f"label_{ours}"]) for ours, name in same.items()}
        healthy = not any(true.values())
        true["support_devices"] = int(any(image.scene.devices.labels.values()))
        found = label_findings(row["report"])
        assert {name: int(found.get(name, 0)) for name in true} == true, row["report"]
        assert (found["no_finding"] == 1) == healthy
        seen = {name: seen[name] + true[name] for name in seen}
    assert min(seen.values()) > 10


def test_long_texts():
    assert label_findings("No effusion. " * 5_000 + "Pneumothorax.")["pneumothorax"] == 1
    assert label_findings("no " + "effusion or pneumothorax or " * 40)["pleural_effusion"] == 0
    assert set(label_findings("no effusion or " * 2_000)) == {"no_finding", "pleural_effusion"}


def test_open_i_texts_against_the_tags_of_their_indexers(shared):
    """F1 of positive labels against MeSH tags that name the same thing, without those tagged borderline."""
    archive = shared / "data/cxr/text/NLMCXR_reports.tgz"
    if not archive.is_file():
        pytest.skip("the Open-i reports are not on this machine")
    tags = {"cardiomegaly": ("Cardiomegaly", "Cardiac Shadow/enlarged"), "pleural_effusion": ("Pleural Effusion",),
            "pneumothorax": ("Pneumothorax", "Hydropneumothorax"), "fracture": ("Fractures, Bone",)}  # fmt: skip
    counts = {name: [0, 0, 0] for name in tags}
    normal = [0, 0]
    with tarfile.open(archive) as tar:
        for member in tar:
            if not member.name.endswith(".xml"):
                continue
            root = parse_xml(tar.extractfile(member).read())
            majors = [element.text.strip() for element in root.findall("MeSH/major")]
            if "No Indexing" in majors:
                continue
            sections = openi_sections(root)
            found = label_findings(f"{sections['findings']}\n\n{sections['impression']}")
            for name, wanted in tags.items():
                true = any(major.startswith(wanted) and "borderline" not in major for major in majors)
                said = found.get(name) == 1
                counts[name] = [
                    a + b for a, b in zip(counts[name], (true & said, said > true, true > said), strict=True)
                ]
            if majors == ["normal"]:
                normal[0] += 1
                positive = any(v == 1 for k, v in found.items() if k not in ("no_finding", "support_devices"))
                normal[1] += positive
    scores = {name: 2 * tp / (2 * tp + fp + fn) for name, (tp, fp, fn) in counts.items()}
    assert min(scores.values()) > 0.85, scores
    assert normal[0] > 1300
    assert normal[1] < 0.01 * normal[0]
