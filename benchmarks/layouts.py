"""What a linear probe reads of features that are averaged, laid out, or squeezed; among training patients alone.

    python benchmarks/layouts.py CORPUS raddino-tiny run/encoder --out docs/results/small-encoder/layouts.csv

CORPUS is packed from the open X-rays (NIH, Kermany, Cohen). Five folds of patients among the rows outside its test
split; logistic and ridge regression of scikit-learn on standardised features, their strength chosen on inner folds. Of
every encoder are read its class token, its patches averaged to 2 x 2 and 4 x 4 and laid out, and HOG's beside the
latter; of HOG: all, and as many principal components as a small class token has numbers, whitened.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import mean_absolute_error, roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import adaptive_avg_pool2d

from raddino.corpus.dataset import Corpus
from raddino.encoders.base import Encoder
from raddino.encoders.load import load_encoder
from raddino.progress import track

BATCH, SQUEEZED = 64, 192
STRENGTHS = 10.0 ** np.arange(-5, 0.6, 0.5)


def tasks(manifest: pd.DataFrame) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, rows and targets of each question."""
    nih, kermany = manifest["source"] == "nih", manifest["source"] == "kermany"
    bacterial, viral = (manifest[f"label_{kind}_pneumonia"] for kind in ("bacterial", "viral"))
    for name, where, target in (
        ("pneumonia", nih & manifest["label_pneumonia"].notna(), manifest["label_pneumonia"]),
        ("infiltration", nih & manifest["label_infiltration"].notna(), manifest["label_infiltration"]),
        ("sex", nih & manifest["sex"].isin(["M", "F"]), manifest["sex"] == "M"),
        ("view", nih & manifest["view"].isin(["AP", "PA"]), manifest["view"] == "AP"),
        ("bacterial", kermany & ((bacterial == 1) | (viral == 1)), bacterial),
        ("age", manifest["age"].notna(), manifest["age"]),
    ):
        rows = np.flatnonzero(where & (manifest["split"] != "test"))
        yield name, rows, target.to_numpy(float)[rows]


def layouts(corpus: Corpus, encoder: Encoder, name: str) -> dict[str, np.ndarray]:
    """(N, D) of every way to read the encoder."""
    found: dict[str, list[np.ndarray]] = {}
    for start in track(range(0, len(corpus), BATCH), f"embed {name}"):
        images = [corpus.read(row) for row in range(start, min(start + BATCH, len(corpus)))]
        features = encoder.encode(encoder.preprocess(images))
        read = {"cls": features.cls}
        if features.patches is not None:
            patches = features.patches.movedim(-1, 1)
            read |= {f"{side} x {side}": adaptive_avg_pool2d(patches, side).flatten(1) for side in (2, 4)}
        for layout, part in read.items():
            found.setdefault(layout, []).append(part.float().numpy())
    return {layout: np.concatenate(parts) for layout, parts in found.items()}


def score(x: np.ndarray, y: np.ndarray, patients: np.ndarray) -> float:
    """AUROC, or MAE where there are more than two values: the mean of five folds."""
    binary, found = len(np.unique(y)) == 2, []
    for fit, held in GroupKFold(5).split(x, y, patients):
        scaler = StandardScaler().fit(x[fit])
        seen, unseen = scaler.transform(x[fit]), scaler.transform(x[held])
        if seen.shape[1] > len(seen):  # the same solution in coordinates of their span
            _, _, axes = np.linalg.svd(seen, full_matrices=False)
            seen, unseen = seen @ axes.T, unseen @ axes.T
        if binary:
            inner = list(GroupKFold(4).split(seen, y[fit], patients[fit]))
            model = LogisticRegressionCV(Cs=STRENGTHS, cv=inner, scoring="roc_auc", max_iter=500)
            found.append(roc_auc_score(y[held], model.fit(seen, y[fit]).decision_function(unseen)))
        else:
            model = RidgeCV(np.logspace(-1, 6, 15)).fit(seen, y[fit])
            found.append(mean_absolute_error(y[held], model.predict(unseen)))
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("encoders", nargs="+", help="with patches, as for raddino evaluate")
    parser.add_argument("--out", type=Path, help="CSV")
    options = parser.parse_args()
    corpus = Corpus.open(options.corpus)
    manifest = corpus.manifest.reset_index(drop=True)
    hog = layouts(corpus, load_encoder("hog"), "hog")["cls"]
    scores = PCA(SQUEEZED, whiten=True, random_state=0).fit(hog[manifest["split"] != "test"]).transform(hog)
    read = {("hog", "all"): hog, ("hog", f"{SQUEEZED} components"): scores}
    for spec in options.encoders:
        laid_out = layouts(corpus, load_encoder(spec), spec)
        read |= {(spec, layout): features for layout, features in laid_out.items()}
        read[spec, "4 x 4 and hog"] = np.concatenate([laid_out["4 x 4"], hog], axis=1)
    rows = []
    for (name, layout), features in track(list(read.items()), "probe"):
        row = {"encoder": name, "read": layout, "numbers": features.shape[1]}
        for task, at, target in tasks(manifest):
            row[task] = round(score(features[at], target, manifest["patient"].to_numpy()[at]), 3)
        rows.append(row)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
