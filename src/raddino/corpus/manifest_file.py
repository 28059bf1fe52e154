"""Manifests on disk to a table of text: CSV of any common delimiter, and Parquet."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from raddino.corpus.cells import TEXT, shown
from raddino.corpus.labels import snake_case
from raddino.errors import RaddinoError, counted

DELIMITERS = (",", ";", "\t", "|")
MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null", "#NULL!", "#NAME?", "#VALUE!", "#REF!", "#DIV/0!",
)  # fmt: skip
"""Cells that say nothing, as pandas and spreadsheets write them."""
HEAD, PIECE, LARGEST_ROW = 2**20, 2**22, 2**23
SIGNATURES = {
    b"PK\x03\x04": "a spreadsheet or archive",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet",
    b"PAR1": "Parquet (name it .parquet)",
    b"\x1f\x8b": "compressed",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
SPACES = "\ufeff\u200b\u200c\u200d\u2060\x00"
"""What :meth:`str.strip` leaves at the ends of a name and nobody sees."""
LIKE_DATA = re.compile(r"[-+]?\d+(?:[.,]\d+)?|.*\.(?:png|jpe?g|dcm|dicom|tiff?)", re.IGNORECASE)


def read_manifest(path: Path, known: Collection[str]) -> pd.DataFrame:
    """The table in a ``.csv`` or ``.parquet`` file.

    Args:
        path: of the file.
        known: names of columns, in snake case, that tell one delimiter from another.

    Returns:
        columns without spaces around their names, rows that hold anything; every cell of a CSV is text, missing where
        it says nothing (:data:`MISSING`). ``attrs["notes"]`` says what was not taken.

    Raises:
        RaddinoError: missing, not such a file, or not a table with one name a column and one cell a name.
    """
    if not path.is_file():
        raise RaddinoError(f"manifest {path} does not exist")
    table = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path, known)
    table = table.set_axis([_clean(name) for name in table.columns], axis=1)
    notes = []
    if unnamed := [position for position, name in enumerate(table.columns) if not name]:
        table = table.iloc[:, [position for position in range(table.shape[1]) if position not in unnamed]]
        notes.append(f"{counted(len(unnamed), 'column')} without a name left out")
    twice = table.columns[table.columns.duplicated()].unique()
    if len(twice):
        raise RaddinoError(f"manifest {path} has two columns {shown(twice[0])}: rename or delete one")
    if not len(table):
        raise RaddinoError(f"manifest {path} has no rows")
    table.attrs = {"notes": notes}
    return table


def _clean(name: object) -> str:
    """A name without spaces and unseen signs at its ends; non-breaking spaces become plain ones."""
    return " ".join(str(name).replace("\xa0", " ").strip(SPACES).split())


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        with path.open("rb") as stream:
            table = pd.read_parquet(stream)
    except Exception as error:  # pyarrow raises many kinds
        raise RaddinoError(
            f"manifest {path} cannot be read as Parquet ({type(error).__name__}): write it again"
        ) from None
    named = [name for name in table.index.names if name is not None]
    return table.reset_index(level=named).reset_index(drop=True) if named else table.reset_index(drop=True)


def _read_csv(path: Path, known: Collection[str]) -> pd.DataFrame:
    import pyarrow as pa
    from pyarrow import csv as arrow

    skipped, header, delimiter = _header(path, known)
    names = [str(number) for number in range(len(header))]
    odd = []

    def refuse(row: Any) -> str:
        odd.append(row.actual_columns)
        return "skip"

    try:
        with path.open("rb") as stream:
            table = arrow.read_csv(
            stream,
            read_options=arrow.ReadOptions(
                use_threads=False, block_size=LARGEST_ROW, column_names=names, skip_rows=skipped,
                skip_rows_after_names=1,
            ),
            parse_options=arrow.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse),
            convert_options=arrow.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()), strings_can_be_null=True,
                null_values=list(MISSING),
            ),
        )  # fmt: skip
    except Exception as error:
        raise RaddinoError(
            f"manifest {path} cannot be read as CSV ({type(error).__name__}): a row is longer than "
            f"{LARGEST_ROW // 2**20} MiB, or a quotation mark is not closed"
        ) from None
    if odd:
        more = sum(count > len(header) for count in odd)
        raise RaddinoError(
            f"manifest {path}: {counted(len(odd), 'row', 'have')} more or fewer fields than the {len(header)} of "
            f"the header ({more} more, {len(odd) - more} fewer): put cells that hold {delimiter!r} in quotation marks, "
            "write every cell"
        )
    return table.to_pandas(types_mapper={pa.large_string(): TEXT}.get).set_axis(header, axis=1)


def _header(path: Path, known: Collection[str]) -> tuple[int, list[str], str]:
    """Lines before the header, its names, and the delimiter under which most of them are known."""
    _check_bytes(path)
    with path.open("rb") as stream:
        head = stream.read(HEAD).decode("utf-8", "replace").removeprefix("\ufeff")
    lines = io.StringIO(head, newline=None).read().split("\n")
    skipped = 0
    given = re.fullmatch(r'"?sep=(.)"?', lines[0].strip(" \r"))
    if given:
        skipped = 1
    while skipped < len(lines) and not lines[skipped].strip():
        skipped += 1
    rest = "\n".join(lines[skipped:])
    found: list[tuple[tuple[int, int], list[str], str]] = []
    for delimiter in (given[1],) if given else DELIMITERS:
        try:
            header = next(csv.reader(io.StringIO(rest), delimiter=delimiter), [])
        except (csv.Error, TypeError):
            continue
        taken = sum(snake_case(name) in known or name in known for name in map(_clean, header))
        found.append(((taken, len(header)), header, delimiter))
    if not found or not rest.strip():
        raise RaddinoError(f"manifest {path} has no rows")
    (taken, _), header, delimiter = max(found, key=lambda one: one[0])
    if not taken and any(LIKE_DATA.fullmatch(name.strip()) for name in header):
        raise RaddinoError(f"manifest {path} has no header: write the columns' names into its first line")
    return skipped, header, delimiter


def _check_bytes(path: Path) -> None:
    """Refuse what is no text in UTF-8, and quotation marks that do not come in pairs."""
    marks, decoder = 0, codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as stream:
        start = stream.read(4)
        for signature, what in SIGNATURES.items():
            if start.startswith(signature):
                raise RaddinoError(f"manifest {path} is {what}: save it as CSV in UTF-8")
        stream.seek(0)
        while piece := stream.read(PIECE):
            if b"\0" in piece:
                raise RaddinoError(f"manifest {path} holds NUL bytes (UTF-16, or damaged): save it as CSV in UTF-8")
            marks += piece.count(b'"')
            try:
                decoder.decode(piece, final=len(piece) < PIECE)
            except UnicodeDecodeError:
                raise _not_utf8(path) from None
    if marks % 2:
        raise RaddinoError(
            f"manifest {path} has a quotation mark that is not closed: close it, and double those within cells"
        )


def _not_utf8(path: Path) -> RaddinoError:
    return RaddinoError(f"manifest {path} is not text in UTF-8: save it again in that encoding")
