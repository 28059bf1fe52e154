"""Feature files: safetensors, and Parquet that pandas and Hugging Face ``datasets`` open."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raddino.errors import RaddinoError
from raddino.files import SEAL, UNSEALED, check_seal, draft_of, seal
from raddino.tables import TableFile

SUFFIXES = (".safetensors", ".parquet")
AGAIN = "delete it and embed again"


class Undigested(RaddinoError):
    """No feature file, or one of a version that wrote no digests."""


def check_suffix(path: Path) -> None:
    """Refuse a file name of another format. Raises RaddinoError."""
    if path.suffix not in SUFFIXES:
        raise RaddinoError(f"features are written as .safetensors or .parquet; got {path.name!r}")


def write_features(
    path: Path, tensors: dict[str, np.ndarray], ids: list[str], header: dict[str, str], split: Sequence[Any] | None
) -> None:
    """Write a feature file, whole or not at all, in the format of its suffix.

    Args:
        tensors: ``cls``, ``rows`` and perhaps ``mean_patch``; in safetensors perhaps ``patch_crc32``.
        ids: of the images.
        header: what else the file says of itself.
        split: of the images, a further column of Parquet.
    """
    check_suffix(path)
    header = header | {SEAL: UNSEALED}
    with draft_of(path) as draft:
        if path.suffix == ".parquet":
            _write_parquet(draft, tensors, ids, header, split)
        else:
            from safetensors.numpy import save_file

            save_file(
                {name: np.ascontiguousarray(value) for name, value in tensors.items()},
                draft,
                {"ids": json.dumps(ids)} | header,
            )
        seal(draft)


def read_features(path: Path) -> tuple[dict[str, np.ndarray], list[str], dict[str, str]]:
    """What :func:`write_features` was given, without the splits.

    Raises:
        RaddinoError: the file is missing or damaged; :class:`Undigested` where it carries no digest.
    """
    from pyarrow import ArrowException
    from safetensors import SafetensorError

    if not path.is_file():
        raise RaddinoError(f"feature file {path} does not exist")
    check_suffix(path)
    if not check_seal(path, AGAIN):
        raise Undigested(f"{path} is no feature file, or one of an older version, without a digest: {AGAIN}")
    try:
        tensors, ids, header = (_read_parquet if path.suffix == ".parquet" else _read_safetensors)(path)
        _check(tensors, ids)
        return tensors, ids, {key: header[key] for key in ("encoder", "corpus")} | header
    except (SafetensorError, ArrowException, KeyError, ValueError, TypeError, AttributeError, OSError) as error:
        raise RaddinoError(f"{path} is damaged or no feature file ({type(error).__name__}): {AGAIN}") from None


def _check(tensors: dict[str, np.ndarray], ids: list[str]) -> None:
    """Raise ValueError for shapes, types or values that no embedding has."""
    count = len(tensors["rows"])
    if tensors["rows"].shape != (count,) or tensors["rows"].dtype != np.int64 or len(ids) != count:
        raise ValueError("rows or ids of another shape")
    crcs = tensors.get("patch_crc32")
    if crcs is not None and (crcs.shape != (count,) or crcs.dtype != np.uint32):
        raise ValueError("patch_crc32 of another shape or type")
    for name in ("cls", "mean_patch"):
        if name in tensors:
            held = tensors[name]
            if held.ndim != 2 or len(held) != count or held.dtype != np.float32 or not np.isfinite(held).all():
                raise ValueError(f"{name} of another shape or type")


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], list[str], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        header = dict(file.metadata() or {})
        ids = json.loads(header.pop("ids"))
        if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
            raise ValueError("ids are no texts")
        return {name: file.get_tensor(name) for name in file.keys()}, ids, header  # noqa: SIM118


def _write_parquet(
    path: Path, tensors: dict[str, np.ndarray], ids: list[str], header: dict[str, str], split: Sequence[Any] | None
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, Any] = {"id": pa.array(ids, pa.string()), "row": pa.array(tensors["rows"], pa.int64())}
    if split is not None:
        columns["split"] = pa.array(list(split), pa.string())
    for name in ("cls", "mean_patch"):
        if name in tensors:
            value = np.ascontiguousarray(tensors[name], np.float32)
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(value.reshape(-1)), value.shape[1])
    table = pa.table(columns).replace_schema_metadata(header)
    parquet.write_table(table, path, compression="none", use_dictionary=["split"] if split is not None else False)


def _read_parquet(path: Path) -> tuple[dict[str, np.ndarray], list[str], dict[str, str]]:
    from pyarrow import parquet

    file = TableFile(path, AGAIN, vectors=("cls", "mean_patch"))
    file.check({"id": "text", "row": "whole"})
    table = parquet.read_table(path, columns=[name for name in ("cls", "mean_patch") if name in file.kinds])
    tensors = {"rows": file.column("row")}
    for name in table.column_names:
        column = table[name].combine_chunks()
        tensors[name] = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
    return tensors, list(file.column("id")), file.about
