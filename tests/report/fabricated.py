"""Small fabricated folders and objects: random numbers that follow the schema, nothing that was measured."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from raddino.encoders.base import Features, Provenance

ENCODERS = {"trained": 0.9, "initial": 0.15, "pca": 0.4, "hog": 0.8}
TASKS = [
    ("Sex, NIH", "sex", "binary"),
    ("Pneumonia", "label_pneumonia", "binary"),
    ("Age", "age", "regression"),
]


def fabricate_predictions(n: int = 120, seed: int = 0) -> pd.DataFrame:
    """Scores that follow the target as strongly as ``ENCODERS`` says; several images a patient."""
    draw = np.random.default_rng(seed)
    parts = []
    for task, _, kind in TASKS:
        target = (draw.random(n) < 0.3).astype(float) if kind == "binary" else draw.uniform(20, 90, n).round()
        spread = 1.0 if kind == "binary" else 20.0
        for name, strength in ENCODERS.items():
            centred = target - target.mean()
            score = target.mean() + strength * centred + draw.normal(0, 0.7 * spread, n)
            parts.append(pd.DataFrame({
                "task": task, "encoder": name, "id": [f"secret-{i}" for i in range(n)],
                "patient": [f"person-{i // 2}" for i in range(n)], "split": "test", "target": target,
                "score": score,
            }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def fabricate_metrics(predictions: pd.DataFrame, synthetic: bool = True) -> dict:
    """A ``metrics.json`` whose values come from scikit-learn and whose intervals are made up around them."""
    from sklearn.metrics import average_precision_score, mean_absolute_error, r2_score, roc_auc_score

    rows = []
    for task, _, kind in TASKS:
        scores = {"auroc": roc_auc_score, "auprc": average_precision_score}
        scores = scores if kind == "binary" else {"mae": mean_absolute_error, "r2": r2_score}
        for metric, function in scores.items():
            reference = None
            for name in ENCODERS:
                part = predictions[(predictions["task"] == task) & (predictions["encoder"] == name)]
                value = float(function(part["target"], part["score"]))
                half = 0.06 if metric != "mae" else 1.8
                binary = kind == "binary"
                rows.append({
                    "task": task, "encoder": name, "metric": metric, "value": value, "low": value - half,
                    "high": value + half, "median": value, "seed_mean": value, "seed_sd": 0.004,
                    "n": len(part),
                    "positives": int(part["target"].sum()) if binary else None,
                    "prevalence": float(part["target"].mean()) if binary else None, "patients": 60,
                    "split": "test",
                    "interval": "patient bootstrap, t, scale logit", "resamples": 1000, "seed": 0,
                    "encoder_fingerprint": "ab" * 32, "data_fingerprint": "cd" * 32,
                    "difference": None if reference is None else {
                        "to": "trained", "value": value - reference, "low": value - reference - half,
                        "high": value - reference + half, "p": 0.031,
                    },
                })  # fmt: skip
                reference = value if reference is None else reference
    return {
        "format": 1, "synthetic": synthetic, "seed": 0,
        "corpus": {
            "name": "fabricated", "fingerprint": "cd" * 32, "images": 1234, "patients": 617,
            "sources": {"synthetic": 1234},
            "left_out": {"skipped": {"file not found <b>": 7}, "warnings": {"all pixels are equal": 3},
                         "notes": ["2 rows left out by where & more"]},
        },
        "environment": {"torch": "2.0", "device": "cpu", "hostname": "ward-7", "cwd": "/home/somebody/x"},
        "encoders": [
            {"name": name, "spec": f"/home/somebody/{name}", "fingerprint": f"{i}" * 64, "dim": 192,
             "seen": "clean",
             "provenance": Provenance(["synthetic"], "self-supervised", "Apache-2.0", True).to_dict()}
            for i, name in enumerate(ENCODERS)
        ],
        "tasks": [
            {"name": task, "target": target, "kind": kind, "where": None, "n": {"train": 400, "val": 60},
             "by_source": {"ward <x>": {"used": 128, "left_out": 50}}}
            for task, target, kind in TASKS
        ],
        "rows": rows,
        "absent": [{"task": "Nodule", "encoder": None, "reason": "no positives in the test split"},
                   {"task": "Age", "encoder": "biovil", "reason": "weights not provided"}],
    }  # fmt: skip


def write_results(folder: Path, metrics: dict, predictions: pd.DataFrame | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    if predictions is not None:
        predictions.to_parquet(folder / "predictions.parquet")
    return folder


def log_lines(steps: int = 400, seed: int = 0) -> list[dict]:
    """Lines of a ``metrics.jsonl``."""
    draw, lines = np.random.default_rng(seed), []
    for step in range(steps):
        t = step / max(steps - 1, 1)
        noise = draw.normal(0, 0.15, 8)
        fall = 6.9 - 3.0 * t**0.5
        lines.append({
            "step": step, "samples": 64 * (step + 1), "loss": 3 * fall + noise[0],
            "dino_local": fall + noise[1], "dino_global": fall - 0.2 + noise[2],
            "ibot": fall + 0.4 + noise[3], "koleo": -0.2 - t + noise[4],
            "lr": 1e-3 * min(1, 10 * t) * (1 - 0.9 * t), "weight_decay": 0.04 + 0.36 * t,
            "momentum": 0.99 + 0.01 * t,
            "teacher_temperature": 0.04 + 0.03 * min(1, 2 * t), "grad_norm_backbone": float(np.exp(noise[5])),
            "grad_norm_dino_head": float(np.exp(noise[6]) * 0.5), "images_per_second": 60 + 5 * noise[7],
            "data_wait": 0.004, "guide_accuracy_detector": 0.5 + 0.3 * t,
        })  # fmt: skip
        if step % 40 == 39:
            lines.append({
                "step": step, "monitor": True, "student_entropy": 6.5 - t, "teacher_entropy": 6.9 - 0.1 * t,
                "student_sharpness_entropy": 6.4 - 2 * t, "teacher_sharpness_entropy": 6.0 - 3.5 * t,
                "log_prototypes": 6.93, "effective_rank": 10 + 40 * t, "mean_cosine": 0.9 - 0.6 * t,
                "patch_locality": 0.4 - 0.1 * t, "cls_patch_cosine": 0.1,
                "koleo_distance": 0.1 + 0.4 * t, "knn_sex": 0.5 + 0.2 * t, "knn_pneumonia": 0.5 + 0.1 * t,
                "verdict": "healthy: no sign of collapse",
            })  # fmt: skip
    return lines


def write_run(folder: Path, lines: list[dict], tail: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + tail, encoding="utf-8")
    (folder / "config.yaml").write_text(
        "optim:\n  lr: 0.001\ncorpus: /home/somebody/corpus\nsteps: 400\n", encoding="utf-8"
    )
    (folder / "environment.json").write_text(
        json.dumps({"torch": "2.0", "user": "somebody", "synthetic": True}), encoding="utf-8"
    )
    return folder


class FakeCorpus:
    """Blurred random images of 40 patients in three splits."""

    synthetic, fingerprint = True, "cd" * 32

    def __init__(self, n: int = 80, side: int = 96, source: str = "synthetic", path: Path = Path("nowhere")) -> None:
        self.path, self.info = path, {"synthetic": True}
        draw = np.random.default_rng(3)
        patient = np.arange(n) // 2
        self.manifest = pd.DataFrame({
            "id": [f"secret-{i}" for i in range(n)], "patient": [f"person-{p}" for p in patient],
            "source": source, "licence": "Apache-2.0", "view": "PA",
            "split": np.array(["train", "test", "val", "train"])[patient % 4],
            "sex": np.where(draw.random(n) < 0.5, "M", "F"), "age": draw.uniform(20, 95, n),
            "label_pneumonia": np.where(draw.random(n) < 0.1, np.nan, (draw.random(n) < 0.4).astype(float)),
        })  # fmt: skip
        coarse = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        fine = torch.nn.functional.interpolate(coarse, size=(side, side + 20), mode="bicubic").clamp(0, 1)
        self.images = (fine[:, 0] * 255).to(torch.uint8).numpy()

    def __len__(self) -> int:
        return len(self.manifest)

    def read(self, i: int) -> np.ndarray:
        return self.images[i]

    def rows(self, split: str | None = None, where: str | None = None) -> np.ndarray:
        return np.flatnonzero(self.manifest["split"] == split) if split else np.arange(len(self))


class FakeEncoder:
    """Random projections of an 8 x 8 grid of patches."""

    name, dim, grid, fingerprint = "fake", 6, (8, 8), "0" * 64
    provenance = Provenance()

    def preprocess(self, images: list[np.ndarray]) -> torch.Tensor:
        squares = []
        for image in images:
            side, left = min(image.shape), (image.shape[1] - min(image.shape)) // 2
            square = torch.from_numpy(image[:side, left : left + side].copy())[None, None].float()
            squares.append(torch.nn.functional.interpolate(square, size=(64, 64), mode="bilinear", antialias=True)[0])
        return (torch.stack(squares) - 128) / 64

    def encode(self, batch: torch.Tensor) -> Features:
        patches = batch.unfold(2, 8, 8).unfold(3, 8, 8).reshape(len(batch), 8, 8, 64)
        patches = patches @ torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
        return Features(patches.mean((1, 2)), patches)

    def attention(self, batch: torch.Tensor) -> torch.Tensor:
        return self.encode(batch).patches.movedim(-1, 1)[:, :3].softmax(-1)


class FloorEncoder(FakeEncoder):
    """An encoder without patches or attention."""

    attention, grid, fingerprint = None, None, "1" * 64

    def encode(self, batch: torch.Tensor) -> Features:
        return Features(batch.flatten(1)[:, :6], None)


FAKES = {"fake": FakeEncoder, "floor": FloorEncoder}


FINDINGS = ("cardiomegaly", "pleural_effusion", "pneumothorax", "consolidation", "fracture")
CASE_ENCODERS = {"trained": 0.86, "initial": 0.71}
TEXTS = (
    "The heart is moderately enlarged. There is a small left pleural effusion. No pneumothorax.",
    "The lungs are clear. No pleural effusion or pneumothorax. Heart size is normal.",
    "There is consolidation in the right lower zone. There is a large right pneumothorax. No pleural effusion.",
)


def add_case_tasks(metrics: dict) -> dict:
    """``metrics`` with a segmentation and a findings task; values are made up."""
    variants = {
        "trained": {}, "initial": {}, "trained (shuffled images)": {"variant": "shuffled images"},
        "prior": {"variant": "prior"},
    }  # fmt: skip
    lungs = {"dice": 0.86, "dice_nonempty": 0.88, "dice_all": 0.9, "iou": 0.8, "surface_dice": 0.7, "hd95": 14.2,
             "false_alarm_rate": 0.1, "dice (left lung)": 0.84, "dice (right lung)": 0.88}  # fmt: skip
    texts = {"rules_f1_14_micro": 0.6, "rules_f1_14_macro": 0.4, "rules_f1_14+_micro": 0.6, "rouge_l": 0.5,
             "bleu_4": 0.2, "length": 31.0, "length_reference": 34.0, "repetition": 0.1, "verbatim": 0.3,
             **{f"rules_f1 ({name})": 0.5 for name in FINDINGS}}  # fmt: skip
    tasks, rows = list(metrics["tasks"]), list(metrics["rows"])
    for task, kind, values, names in (
        ("lungs", "segmentation", lungs, ("trained", "initial")),
        ("findings text", "findings", texts, tuple(variants)),
    ):
        notes = {"absent": {"radgraph_er": "weights not provided"},
                 "signatures": {"rules_f1": "raddino-rules|uncertain:negative"}}  # fmt: skip
        tasks.append({"name": task, "target": "mask_lungs", "kind": kind, "where": None, "n": {"train": 40, "val": 20},
                      **(notes if kind == "findings" else {})})  # fmt: skip
        for metric, value in values.items():
            for place, name in enumerate(names):
                low = metric in ("hd95", "false_alarm_rate")
                now = value * (1 + 0.2 * place) if low else value * (1 - 0.2 * place)
                gap = {"to": names[0], "value": now - value, "low": now - value - 0.05, "high": now - value + 0.05}
                folder = f"models/{task.replace(' ', '-')}/{name.partition(' (')[0].replace('prior', 'trained')}"
                rows.append({
                    "task": task, "encoder": name, "metric": metric, "value": now, "low": now * 0.95,
                    "high": now * 1.05, "median": now, "seed_mean": now, "seed_sd": None, "n": 20, "positives": None,
                    "prevalence": None, "patients": 10, "split": "test", "resamples": 1000, "seed": 0,
                    "interval": "patient bootstrap, t, scale logit", "encoder_fingerprint": "ab" * 32,
                    "data_fingerprint": "cd" * 32,
                    "difference": {**gap, "p": 0.01, "p_holm": 0.02} if place else None,
                    "detail": {
                        "model": folder, "variant": "", "cleaning": "none", **variants.get(name, {}),
                    },
                })  # fmt: skip
    suite = {"tasks": [
        {"name": "lungs", "target": "mask_lungs", "kind": "segmentation",
         "options": {"classes": {"left lung": 1, "right lung": 2}}},
        {"name": "findings text", "target": "report", "kind": "findings",
         "options": {"language_model": "tiny", "chexbert": "/home/somebody/chexbert"}},
    ]}  # fmt: skip
    encoders = [*metrics["encoders"]] + [{**metrics["encoders"][0], "name": name} for name in list(variants)[2:]]
    return {**metrics, "tasks": tasks, "rows": rows, "suite": suite, "encoders": encoders}


def only_case_tasks(metrics: dict) -> dict:
    """``metrics`` of :func:`add_case_tasks` without the tasks of probes."""
    kinds = {"lungs", "findings text"}
    return {
        **metrics,
        "tasks": [task for task in metrics["tasks"] if task["name"] in kinds],
        "rows": [row for row in metrics["rows"] if row["task"] in kinds],
        "absent": [],
    }


def write_models(folder: Path, corpus: "MaskedCorpus") -> None:
    """Model folders with cases to show: masks that are off by a few pixels, reports that are partly right."""
    from raddino.tasks.segmentation.shown import write_shown

    rows = corpus.rows("test")
    ids = corpus.manifest["id"].iloc[rows].tolist()
    for shift, name in enumerate(CASE_ENCODERS, 1):
        bits = [np.roll(corpus.bits(row), 4 * shift, axis=1) for row in rows]
        write_shown(
            folder / "models" / "lungs" / name, ("left lung", "right lung"), np.linspace(0.9, 0.3, len(rows)).tolist(),
            lambda at: {"id": ids[at], "row": int(rows[at])}, bits.__getitem__,
        )  # fmt: skip
        texts = [TEXTS[row % 3] for row in rows]
        place = folder / "models" / "findings-text" / name
        place.mkdir(parents=True)
        pd.DataFrame({
            "variant": "", "id": ids, "reference": texts, "hypothesis": [TEXTS[row * shift % 3] for row in rows],
            "score": np.linspace(1, 0, len(rows)), "rouge_l": 0.5,
        }).to_parquet(place / "reports.parquet")  # fmt: skip


class MaskedCorpus(FakeCorpus):
    """A fake corpus whose images have two lungs, right and left, in ``mask_lungs`` (1 and 2)."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.manifest["mask_lungs"] = "shard:0:1"
        self.mask_names = ["lungs"]

    def read_mask(self, i: int, name: str) -> np.ndarray:
        mask = np.zeros(self.images[i].shape, np.uint8)
        rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
        for value, centre in ((2, 0.7), (1, 0.3)):
            across = (columns - centre * mask.shape[1]) / (0.16 * mask.shape[1])
            mask[((rows - 48 - i % 5) / 34) ** 2 + across**2 < 1] = value
        return mask

    def bits(self, i: int) -> np.ndarray:
        """Class bits of the mask."""
        mask = self.read_mask(i, "lungs")
        return ((mask == 1) * 1 | (mask == 2) * 2).astype(np.int32)
