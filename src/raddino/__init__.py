"""raddino: pre-train, judge and use image-only chest X-ray encoders.

The functions behind the commands carry the commands' names and are imported on first use::

    import raddino
    raddino.sample(...), raddino.prepare(...), raddino.pretrain(...), raddino.embed(...)
    raddino.evaluate(...), raddino.segment(...), raddino.predict(...), raddino.report(...), raddino.compare(...)
    raddino.leaderboard(...), raddino.export(...), raddino.verify(...), raddino.plan(...), raddino.combine(...)
    raddino.study(...), raddino.inspect(...), raddino.audit(...), raddino.load_encoder(...)
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "sample": "raddino.sample.generate",
    "prepare": "raddino.corpus.prepare",
    "pretrain": "raddino.training.pretrain",
    "embed": "raddino.features.extract",
    "evaluate": "raddino.benchmark.evaluate",
    "segment": "raddino.tasks.segmentation.segment",
    "predict": "raddino.tasks.predict",
    "report": "raddino.report.html",
    "compare": "raddino.benchmark.compare",
    "leaderboard": "raddino.benchmark.leaderboard",
    "study": "raddino.report.study",
    "export": "raddino.encoders.export",
    "inspect": "raddino.inspection.inspect",
    "audit": "raddino.audit.audit",
    "verify": "raddino.training.verify",
    "plan": "raddino.training.plan",
    "combine": "raddino.corpus.combine",
    "load_encoder": "raddino.encoders.load",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'raddino' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
