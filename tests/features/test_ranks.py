"""Many processes and sudden death: the features are those of one quiet run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from features.embed_job import IMAGES, Means, corpus_at, small_vit
from raddino.features.cache import FeatureSet
from raddino.features.extract import embed
from raddino.features.ranks import Ranks, join_ranks

JOB = Path(__file__).with_name("embed_job.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(JOB.parents[1]), "OMP_NUM_THREADS": "1"}


def test_alone_without_torchrun():
    assert join_ranks() == Ranks(0, 1)


def test_shares_are_whole_and_disjoint():
    rows = np.arange(11)
    shares = [Ranks(rank, 3).share(rows) for rank in range(3)]
    np.testing.assert_array_equal(np.concatenate(shares), rows)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_torchrun_gives_what_one_process_gives(tmp_path):
    out = tmp_path / "f.safetensors"
    options = json.dumps({"patches": True, "out": str(out)})
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(JOB), str(tmp_path), options], env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, done.stderr
    corpus = corpus_at(tmp_path)
    alone = embed(corpus, small_vit(), batch_size=4, patches=True, cache=tmp_path / "alone")
    together = FeatureSet.load(out)
    np.testing.assert_array_equal(together.cls, alone.cls)
    assert together.ids == alone.ids
    shared = embed(corpus, small_vit(), patches=True)
    np.testing.assert_array_equal(shared.patches[:], alone.patches[:])
    parts = [len(FeatureSet.load(path).rows) for path in shared.path.glob("*.safetensors")]
    assert parts == [4] * (IMAGES // 4)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_run_continues(tmp_path):
    options = json.dumps({"seconds": 0.3, "patches": True})
    job = subprocess.Popen([sys.executable, str(JOB), str(tmp_path), options], env=ENVIRONMENT)
    try:
        deadline = time.monotonic() + 200
        while len(list((tmp_path / "corpus").rglob("*.safetensors"))) < 2:
            assert job.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        job.kill()
        job.wait()
    corpus, encoder = corpus_at(tmp_path), Means()
    features = embed(corpus, encoder, batch_size=4, patches=True)
    assert 0 < encoder.seen <= IMAGES - 8
    whole = embed(corpus, Means(), batch_size=4, patches=True, cache=tmp_path / "other")
    np.testing.assert_array_equal(features.cls, whole.cls)
    np.testing.assert_array_equal(features.patches[:], whole.patches[:])
