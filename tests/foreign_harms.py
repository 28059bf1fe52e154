"""What a folder that comes from elsewhere may hold."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml
from PIL import Image, PngImagePlugin
from pyarrow import parquet

from foreign_places import SUITE

DEEP = "[" * 100_000 + "]" * 100_000
JSONS = {
    "empty": "", "no json": "{", "a list": "[]", "nothing": "null", "deep": DEEP, "deep in a key": f'{{"a": {DEEP}}}',
    "no number": '{"format": NaN}', "an endless number": '{"format": 1e999}', "empty object": "{}",
    "many digits": '{"format": ' + "9" * 10_000 + "}", "no text": b"\xff\xfe\x00",
}  # fmt: skip


def edited(file: str, *change: Any) -> Callable[[Path], None]:
    """Set an entry of a JSON file, by its keys and a value, and take the file's digest out."""

    def harm(folder: Path) -> None:
        values = json.loads((folder / file).read_text(encoding="utf-8"))
        values.pop("seal", None)
        *keys, last, value = change
        inner = values
        for key in keys:
            inner = inner[key]
        if value is None and isinstance(inner, dict):
            del inner[last]
        else:
            inner[last] = value
        (folder / file).write_text(json.dumps(values), encoding="utf-8")

    return harm


def manifest(change: Callable[[pd.DataFrame], Any]) -> Callable[[Path], None]:
    """Rewrite the manifest, and ``corpus.json`` so that it fits."""

    def harm(folder: Path) -> None:
        table = change(pd.read_parquet(folder / "manifest.parquet"))
        file = folder / "manifest.parquet"
        if isinstance(table, pa.Table):
            parquet.write_table(table, file)
        else:
            table.to_parquet(file, index=False)
        describe(folder, len(table))

    return harm


def describe(folder: Path, images: int) -> None:
    info = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    for key in ("seal", "manifest_sha256"):
        info.pop(key, None)
    info |= {"manifest_bytes": (folder / "manifest.parquet").stat().st_size, "images": images}
    info["shards"] = {file.name: file.stat().st_size for file in (folder / "shards").iterdir()}
    (folder / "corpus.json").write_text(json.dumps(info), encoding="utf-8")


def column(name: str, value: Any) -> Callable[[Path], None]:
    return manifest(lambda table: table.assign(**{name: value}))


def bomb(folder: Path) -> None:
    """Twenty million rows of everything that a manifest needs, in some kilobytes."""
    n = 20_000_000
    zeros = np.zeros(n, np.int8)
    columns = {name: pa.DictionaryArray.from_arrays(zeros, ["x"]) for name in ("id", "source", "patient", "split")}
    columns |= {"shard": pa.DictionaryArray.from_arrays(zeros, ["000000.tar"]), "synthetic": pa.array(zeros == 0)}
    columns |= dict.fromkeys(("length", "height", "width"), pa.array(zeros + 1)) | {"offset": pa.array(zeros)}
    parquet.write_table(pa.table(columns), folder / "manifest.parquet", compression="zstd")
    describe(folder, n)


def text_bomb(folder: Path) -> None:
    """A megabyte of text, stored once and told in each of very many rows."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, np.int32)), ["x" * 1_000_000])
    table = pa.Table.from_pandas(pd.read_parquet(folder / "manifest.parquet")).take([0] * 200_000)
    at = table.column_names.index("view")
    parquet.write_table(table.set_column(at, "view", texts), folder / "manifest.parquet", compression="zstd")
    describe(folder, 200_000)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, pd.DataFrame(0, table.index, [f"c{n}" for n in range(5000)])], axis=1)


def nested(table: pd.DataFrame) -> pa.Table:
    values = pa.Table.from_pandas(table)
    return values.append_column("extra", pa.array([[[{"a": 1}]]] * len(table)))


def foreign_png(make: Callable[[Path], None], **size: int) -> Callable[[Path], None]:
    """Put a PNG at the place of the first image."""

    def harm(folder: Path) -> None:
        file = folder.with_name("made.png")
        make(file)
        shard = folder / "shards/000000.tar"
        data = file.read_bytes()
        at = shard.stat().st_size
        shard.write_bytes(shard.read_bytes() + data)
        table = pd.read_parquet(folder / "manifest.parquet")
        table.loc[0, ["offset", "length"]] = [at, len(data)]
        for name, value in size.items():
            table.loc[0, name] = value
        table.to_parquet(folder / "manifest.parquet", index=False)
        describe(folder, len(table))

    return harm


def large_png(file: Path) -> None:
    Image.fromarray(np.zeros((9000, 9000), np.uint8)).save(file)


def texts_in_png(file: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("a", "x" * 50_000_000, zip=True)
    Image.fromarray(np.zeros((40, 36), np.uint8)).save(file, pnginfo=texts)


def moving_png(file: Path) -> None:
    frames = [Image.fromarray(np.full((40, 36), n, np.uint8)) for n in range(3)]
    frames[0].save(file, save_all=True, append_images=frames[1:])


def bad_index(part: Any) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder.with_name("model.safetensors"))
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": part}}), encoding="utf-8")

    return harm


def lying_header(folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


def noise(file: Path) -> None:
    file.write_bytes(b"\xff" * 64)


def text(file: str, content: str) -> Callable[[Path], None]:
    return lambda folder: ((folder / file) if file else folder).write_text(content, encoding="utf-8") and None


def predictions(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        change(pd.read_parquet(folder / "predictions.parquet")).to_parquet(folder / "predictions.parquet")

    return harm


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


def suite(**values: Any) -> str:
    return yaml.safe_dump(SUITE | values)


HOSTILE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "shard elsewhere": ("corpus", edited("corpus.json", "shards", {"../../images/0.png": 5})),
    "absolute shard": ("corpus", edited("corpus.json", "shards", {"/etc/passwd": 5})),
    "shards of no size": ("corpus", edited("corpus.json", "shards", {"000000.tar": "large"})),
    "shards a list": ("corpus", edited("corpus.json", "shards", [1])),
    "preparation a text": ("corpus", edited("corpus.json", "preparation", "x")),
    "synthetic a number": ("corpus", edited("corpus.json", "synthetic", 3)),
    "no fingerprint": ("corpus", edited("corpus.json", "fingerprint", None)),
    "format a list": ("corpus", edited("corpus.json", "format", [1])),
    "other count": ("corpus", edited("corpus.json", "images", 5)),
    "negative offset": ("corpus", column("offset", -1)),
    "offset beyond": ("corpus", column("offset", 2**62)),
    "broken offset": ("corpus", column("offset", 1.5)),
    "offset a text": ("corpus", column("offset", "12")),
    "length empty in a row": ("corpus", column("length", [None, *[5] * 11])),
    "offset without a sign": ("corpus", column("offset", np.full(12, 2**64 - 1, np.uint64))),
    "height in a byte": ("corpus", column("height", np.full(12, 100, np.int8))),
    "huge length": ("corpus", column("length", 2**63 - 1)),
    "no length": ("corpus", column("length", 0)),
    "shard a number": ("corpus", column("shard", 7)),
    "shard absolute in a row": ("corpus", column("shard", "/etc/passwd")),
    "shard missing in a row": ("corpus", column("shard", None)),
    "synthetic a text": ("corpus", column("synthetic", "no")),
    "height a text": ("corpus", column("height", "tall")),
    "image too large": ("corpus", column("height", 2**31)),
    "label a text": ("corpus", column("label_x", "yes")),
    "age a text": ("corpus", column("age", "old")),
    "mask cell": ("corpus", column("mask_lungs", "../../etc/passwd:0:10")),
    "mask beyond": ("corpus", column("mask_lungs", "000000.tar:99999999999:10")),
    "mask a number": ("corpus", column("mask_lungs", 5)),
    "date column": ("corpus", column("study", pd.Timestamp("2020-01-01"))),
    "nested column": ("corpus", manifest(nested)),
    "no column": ("corpus", manifest(lambda table: table.drop(columns="patient"))),
    "many columns": ("corpus", manifest(wide)),
    "rows without end": ("corpus", bomb),
    "a text without end": ("corpus", text_bomb),
    "large png": ("corpus", foreign_png(large_png)),
    "large png as told": ("corpus", foreign_png(large_png, height=90_000, width=90_000)),
    "png with texts": ("corpus", foreign_png(texts_in_png)),
    "moving png": ("corpus", foreign_png(moving_png)),
    "palette": ("corpus", foreign_png(lambda file: Image.new("P", (36, 40)).save(file))),
    "colours": ("corpus", foreign_png(lambda file: Image.new("RGB", (36, 40)).save(file))),
    "other size": ("corpus", foreign_png(lambda file: Image.new("L", (40, 36)).save(file))),
    "other format": ("corpus", foreign_png(lambda file: Image.new("L", (36, 40)).save(file, "GIF"))),
    "hidden size": ("hub", edited("config.json", "hidden_size", 10**9)),
    "hidden size a text": ("hub", edited("config.json", "hidden_size", "wide")),
    "negative hidden size": ("hub", edited("config.json", "hidden_size", -24)),
    "layers": ("hub", edited("config.json", "num_hidden_layers", 10**9)),
    "image size": ("hub", edited("config.json", "image_size", 10**9)),
    "patch size": ("hub", edited("config.json", "patch_size", 0)),
    "labels": ("hub", edited("config.json", "num_labels", 10**9)),
    "activation": ("hub", edited("config.json", "hidden_act", "os.system")),
    "model type": ("hub", edited("config.json", "model_type", ["vit"])),
    "kernel": ("hub", edited("config.json", "attn_implementation", "someone/kernels")),
    "processor size": ("hub", edited("preprocessor_config.json", "size", {"height": 10**9, "width": 10**9})),
    "deviation": ("hub", edited("preprocessor_config.json", "image_std", [0, 0, 0])),
    "interpolation": ("hub", edited("preprocessor_config.json", "resample", 99)),
    "mean": ("hub", edited("preprocessor_config.json", "image_mean", "grey")),
    "index elsewhere": ("hub", bad_index("../model.safetensors")),
    "index absolute": ("hub", bad_index("/etc/passwd")),
    "index of numbers": ("hub", bad_index(1)),
    "header lies": ("hub", lying_header),
    "header lies in ours": ("encoder", lying_header),
    "our layers": ("encoder", edited("config.json", "num_hidden_layers", 10**9)),
    "our image size": ("encoder", edited("config.json", "image_size", 10**9 // 8 * 8)),
    "our patch size": ("encoder", edited("config.json", "patch_size", 0)),
    "our crop": ("encoder", edited("preprocessor_config.json", "crop_size", 10**9)),
    "our deviation": ("encoder", edited("preprocessor_config.json", "image_std", [0, 0, 0])),
    "our provenance": ("encoder", edited("raddino.json", "provenance", {"sources": 3})),
    "rows of numbers": ("results", edited("metrics.json", "rows", [1])),
    "value a text": ("results", edited("metrics.json", "rows", 0, "value", "high")),
    "detail a list": ("results", edited("metrics.json", "rows", 0, "detail", [1])),
    "unknown encoder": ("results", edited("metrics.json", "rows", 0, "encoder", {"a": 1})),
    "encoders a text": ("results", edited("metrics.json", "encoders", "x")),
    "bad provenance": ("results", edited("metrics.json", "encoders", 0, "provenance", {"note": 3})),
    "suite a list": ("results", edited("metrics.json", "suite", [])),
    "results of another format": ("results", edited("metrics.json", "format", 9)),
    "score a text": ("results", predictions(lambda table: table.assign(score="x"))),
    "score no number": ("results", predictions(lambda table: table.assign(score=np.nan))),
    "no patient": ("results", predictions(lambda table: table.drop(columns="patient"))),
    "list scores": ("results", predictions(lambda table: table.assign(score=[[1.0]] * len(table)))),
    "names": ("model", edited("segmentation.json", "names", [1, 2])),
    "options": ("model", edited("segmentation.json", "options", "side", 10**9)),
    "record's encoder": ("model", edited("segmentation.json", "encoder", {"name": 1})),
    "record's digests": ("model", edited("segmentation.json", "sha256", {"head.safetensors": 3})),
    "shown elsewhere": ("model", edited("shown/shown.json", "cases", 0, "file", "../../images/0.png")),
    "writer's settings": ("writer/out/model", edited("findings.json", "config", {"beams": "many"})),
    "writer's prompt": ("writer/out/model", edited("findings.json", "prompt", 3)),
    "writer's files": ("writer/out/model", edited("findings.json", "sha256", {"../findings.json": "0"})),
    "no features": ("features.safetensors", noise),
    "no parquet features": ("features.parquet", noise),
    "aliases": ("suite.yaml", text("", ALIASES)),
    "own alias": ("suite.yaml", text("", "tasks: &a [*a]")),
    "deep yaml": ("suite.yaml", text("", "[" * 50_000)),
    "key twice": ("suite.yaml", text("", "tasks: []\ntasks: []")),
    "python in yaml": ("suite.yaml", text("", "tasks: !!python/object/apply:os.system [ls]")),
    "binary in yaml": ("suite.yaml", text("", "tasks: !!binary aGk=")),
    "large yaml": ("suite.yaml", text("", "x" * 3_000_000)),
    "a list of suites": ("suite.yaml", text("", "- 1")),
    "a number as key": ("suite.yaml", text("", "1: 2")),
    "deep run config": ("run", text("config.yaml", "[" * 50_000)),
    "run without steps": ("run", text("metrics.jsonl", DEEP + '\n{"step": 1e999}\n[]\n{"step": {}}\n')),
}
