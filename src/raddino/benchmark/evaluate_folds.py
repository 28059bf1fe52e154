"""An evaluation in folds instead of the splits of the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from raddino.benchmark.absent import absence, lost, reason_of
from raddino.benchmark.cases import save_cases
from raddino.benchmark.checks import misfit, without_differences
from raddino.benchmark.contents import contents, used_by_source
from raddino.benchmark.cross_validation import (
    FITTED,
    FoldScores,
    check_plan,
    describe_pool,
    fold_predictions,
    fold_rows,
    probe_folds,
    select_pools,
)
from raddino.benchmark.keep import keep_probes
from raddino.benchmark.measure import adjust
from raddino.benchmark.plan import load_encoders
from raddino.benchmark.results import BUSY, Results
from raddino.benchmark.sites import Population
from raddino.benchmark.suite import Suite
from raddino.corpus.dataset import Corpus, labelling
from raddino.encoders.base import Encoder
from raddino.encoders.laid_out import as_read
from raddino.errors import RaddinoError
from raddino.features.extract import embed
from raddino.files import lock
from raddino.progress import about, track
from raddino.tasks.probes import Request


def cross_validate(
    corpus: Corpus,
    population: Population,
    plan: Suite,
    encoders: Sequence[str | Path | Encoder],
    names: Sequence[str | None] | None,
    out: Path,
    *,
    seed: int,
    device: str,
    embedding: dict[str, Any],
) -> Results:
    """As :func:`evaluate`, in folds."""
    setting = plan.cross_validation
    assert setting is not None
    check_plan(plan)
    pools, absent = select_pools(corpus, plan)
    loaded, identities, failures = load_encoders(population.tested(all_splits=True), encoders, names, device)
    needed = np.unique(np.concatenate([one.rows for one in pools]))
    patches = plan.probe.features == "patches"
    scores: dict[str, dict[str, FoldScores]] = {}
    with lock(out, BUSY.format(out=out)):
        for name, bare in loaded.items():
            with about(name):
                if reason := misfit(bare, plan.probe) or (f"{name}: {FITTED}" if hasattr(bare, "fit") else ""):
                    absent.append(absence(None, name, reason))
                    continue
                failed = failures.setdefault(name, {})
                encoder = as_read(bare, plan.probe.features, plan.probe.flips)
                try:
                    features = embed(corpus, encoder, rows=needed, patches=patches, **embedding)
                except Exception as error:
                    failed |= dict.fromkeys([one.config.name for one in pools], reason_of(f"encoder {name}", error))
                    continue
                identities[name]["fingerprint"] = features.encoder
                asked = partial(Request, device=device, encoder=encoder)
                for one in track(pools, f"probe {name} in folds"):
                    try:
                        found = probe_folds(features, one, plan.probe, setting, asked, seed)
                        scores.setdefault(name, {})[one.config.name] = found
                    except Exception as error:
                        failed[one.config.name] = reason_of(f"probe of {name}", error)
        absent += lost(failures, [one.config.name for one in pools])
        if not scores:
            raise RaddinoError(f"every encoder failed: {absent[-1]['reason']}")
        fingerprints = {name: identities[name]["fingerprint"] for name in scores}
        rows = fold_rows(scores, fingerprints, corpus, setting, seed, labelling(corpus), population.scope)
        rows = [row for row in rows if np.isfinite(row["value"])]
        adjust(rows)
        absent += [absence(None, None, why) for why in without_differences(rows, scores, identities)]
        tasks = [describe_pool(one) | {"by_source": used_by_source(corpus, one)} for one in pools]
        data = contents(corpus, population, plan, seed, identities, tasks, rows, absent, {})
        results = Results(out, data, fold_predictions(scores))
        results.withdraw()
        save_cases(out, {})
        keep_probes(out, corpus, {}, {}, {}, plan.probe, embedding["precision"], [])
        results.save()
        return results
