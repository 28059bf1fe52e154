"""A plain folder of images, for data that comes without a table."""

from collections import Counter
from pathlib import Path
from typing import Literal

import pandas as pd

from raddino.config import Config
from raddino.corpus.cells import strings
from raddino.corpus.listing import said, walk
from raddino.corpus.sources.base import Incomplete, Source, register
from raddino.errors import counted

PREPARED = {"corpus.json", ".partial"}


class FolderOptions(Config):
    """Who the patients are.

    Attributes:
        patients: ``"header"`` (DICOM headers tell, else each image is one) or ``"folder"``: the first folder below
            the root is the patient.
    """

    patients: Literal["header", "folder"] = "header"


def build(root: Path, options: FolderOptions) -> pd.DataFrame:
    """Every file below the folder that is not hidden; corpora that ``prepare`` made there are passed over."""
    passed: Counter[str] = Counter()
    names = [below + name for below, files in walk(root, passed, ends=PREPARED) for name in files]
    if not names:
        raise Incomplete("no file there")
    table = pd.DataFrame({"id": strings(names), "path": strings(names)})
    table.attrs["notes"] = said(passed)
    if options.patients == "folder":
        loose = int((~table["path"].str.contains("/")).sum())
        if loose:
            raise Incomplete(f"{counted(loose, 'image', 'lie')} in no patient's folder")
        table["patient_id"] = table["path"].str.split("/").str[0]
    return table


register(
    Source(
        name="folder",
        title="Plain folder of images",
        home="your own disk",
        licence="unknown",
        credentialed=False,
        obtain="Give a folder with DICOM, PNG, JPEG or TIFF files",
        layout=("any",),
        documented="docs/prepare.md",
        build=build,
        options=FolderOptions,
        namespace="",
    )
)
