"""Parquet files: what is written is read, what is foreign is bounded, what is damaged ends nothing."""

import datetime
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from raddino.errors import RaddinoError
from raddino.files import UNSEALED, check_seal, read_json, seal, write_json
from raddino.tables import TableFile, read_table, write_table

N = 3000
TABLE = pd.DataFrame(
    {
        "id": [f"image {n}" for n in range(N)],
        "view": pd.Series(["PA", None, "AP"] * (N // 3), dtype=object),
        "whole": np.arange(N),
        "number": np.where(np.arange(N) % 2, np.nan, np.arange(N) / 7),
        "flag": np.arange(N) % 3 == 0,
        "nothing": pd.Series([None] * N, dtype=object),
    }
)


def test_what_is_written_is_read(tmp_path):
    write_table(tmp_path / "t.parquet", TABLE, {"model": "m"})
    file = TableFile(tmp_path / "t.parquet", "again")
    assert (len(file), file.about["model"]) == (N, "m")
    for held in (file.read(), pickle.loads(pickle.dumps(file)).read()):
        assert held["view"].tolist() == TABLE["view"].tolist()
        assert held["nothing"].tolist() == [None] * N
        assert held["id"].tolist() == TABLE["id"].tolist()
        for name in ("whole", "number", "flag"):
            np.testing.assert_array_equal(held[name], TABLE[name])
            assert held[name].dtype == TABLE[name].dtype
    pd.testing.assert_frame_equal(file.read(["whole"]), TABLE[["whole"]])
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet")[["flag"]], TABLE[["flag"]])


def test_texts_of_every_row_lie_in_arrows_memory(tmp_path):
    """More than two megabytes of different texts, and of them with one absent."""
    texts = [f"{n:060d}" for n in range(40_000)]
    write_table(tmp_path / "t.parquet", pd.DataFrame({"full": texts, "gap": [None, *texts[1:]]}))
    held = read_table(tmp_path / "t.parquet", "again")
    assert held["full"].tolist() == texts
    assert held["gap"].tolist() == [None, *texts[1:]]
    kinds = pd.DataFrame({"full": pd.Categorical(texts), "gap": pd.Categorical([None, *texts[1:]])})
    kinds.to_parquet(tmp_path / "t.parquet")
    for name, column in read_table(tmp_path / "t.parquet", "again").items():
        assert column.tolist() == held[name].tolist()
    for kind in (pa.string(), pa.large_string()):
        columns = {name: pa.array(held[name].head(9).tolist(), kind) for name in held}
        parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
        for name, column in read_table(tmp_path / "t.parquet", "again").items():
            assert column.tolist() == held[name].head(9).tolist()
    assert held["full"].dtype == "str"
    assert held["gap"].dtype == object


@pytest.mark.parametrize(
    "values",
    [
        [[1.0]], [{"a": 1}], [datetime.date(2020, 1, 1)], [b"x"], [pd.Timestamp("2020-01-01")],
        [pd.Timedelta(1)], [complex(1, 2).real.as_integer_ratio()],
    ],
)  # fmt: skip
def test_other_types_are_refused(tmp_path, values):
    parquet.write_table(pa.table({"x": pa.array(values)}), tmp_path / "t.parquet")
    with pytest.raises(RaddinoError, match=r"column 'x' is of type .*: again"):
        read_table(tmp_path / "t.parquet", "again")


def test_columns_are_what_is_asked_for(tmp_path):
    write_table(tmp_path / "t.parquet", TABLE)
    read_table(tmp_path / "t.parquet", "again", {"whole": "number", "nothing": "flag"})
    for needed, words in (({"x": "text"}, "lacks the column 'x'"), ({"number": "whole"}, "has number in column")):
        with pytest.raises(RaddinoError, match=words):
            read_table(tmp_path / "t.parquet", "again", needed)
    with pytest.raises(RaddinoError, match="is missing: again"):
        read_table(tmp_path / "none.parquet", "again")


def test_damage_ends_nothing(tmp_path):
    """Mutations of files that carry no digest: Arrow's metadata classes abort on some of them."""
    file = tmp_path / "t.parquet"
    TABLE.head(200).to_parquet(file)
    data, rng = file.read_bytes(), np.random.default_rng(0)
    footer = len(data) - int.from_bytes(data[-8:-4], "little") - 8
    refused = 0
    for n in range(600):
        harmed = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            harmed[int(rng.integers(footer if n % 2 else 0, len(data)))] = int(rng.integers(256))
        file.write_bytes(harmed)
        try:
            read_table(file, "again")
        except RaddinoError:
            refused += 1
    assert refused > 200


def test_a_seal_covers_every_byte(tmp_path):
    for text in (b"short " + UNSEALED.encode(), b"x" * (2**20 - 20) + UNSEALED.encode() + b"y" * 2**20):
        file = tmp_path / "sealed"
        file.write_bytes(text)
        seal(file)
        whole = file.read_bytes()
        assert len(whole) == len(text)
        assert check_seal(file, "again")
        for at in (0, len(whole) // 3, len(whole) - 1):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(RaddinoError, match="is damaged"):
                check_seal(file, "again")
    (tmp_path / "plain").write_bytes(b"")
    assert not check_seal(tmp_path / "plain", "again")


def test_json_is_sealed(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"a": [1, "é"]})
    assert read_json(file, "again") == {"a": [1, "é"]}
    file.write_text(file.read_text(encoding="utf-8").replace("1", "2", 1), encoding="utf-8")
    with pytest.raises(RaddinoError, match=r"a\.json is damaged .*: again"):
        read_json(file, "again")
    file.write_text('{"a": 1}', encoding="utf-8")
    assert read_json(file, "again") == {"a": 1}
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, {"a": float("nan")})
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]
