"""Public data sets, one small file each; a new one is a file and a name in :data:`FILES`."""

from raddino.corpus.sources import (
    brax,
    candid_ptx,
    chexmask,
    chexpert,
    cohen,
    folder,
    iu_xray,
    jsrt,
    mimic_cxr,
    montgomery,
    nih,
    padchest,
    rsna_pneumonia,
    shenzhen,
    siim_acr,
    vindr_cxr,
    vindr_ribcxr,
)
from raddino.corpus.sources.base import SOURCES, Source, split_spec

FILES = (
    vindr_cxr, candid_ptx, siim_acr, rsna_pneumonia, nih, chexpert, mimic_cxr, iu_xray, padchest, brax, cohen, folder,
    vindr_ribcxr, jsrt, montgomery, shenzhen, chexmask,
)  # fmt: skip
"""Modules that registered their data sets when they were imported."""

__all__ = ["FILES", "SOURCES", "Source", "closed_sources", "describe_sources", "split_spec"]


def closed_sources() -> frozenset[str]:
    """Names in the ``source`` column whose images must not be shown or passed on."""
    return frozenset(SOURCES[name].record or name for name in SOURCES if SOURCES[name].credentialed)


def describe_sources() -> str:
    """What ``raddino sources`` prints: each data set with its terms, what to obtain, its files and its options."""
    blocks = []
    for name in sorted(SOURCES):
        source = SOURCES[name]
        fields = {key: field.default for key, field in source.options.model_fields.items()}
        chosen = ", ".join(f"{key}={'none' if value is None else value}" for key, value in fields.items())
        blocks.append(
            f"{name}  {source.title}{'  (credentialed: never shown in reports)' if source.credentialed else ''}\n"
            f"  {source.home}\n"
            f"  licence: {source.licence}\n"
            f"  {source.obtain}\n"
            f"  files: {', '.join(entry.replace('|', ' or ') for entry in source.layout)}\n"
            f"  options: {chosen or 'none'}"
        )
    return "\n\n".join(blocks)
