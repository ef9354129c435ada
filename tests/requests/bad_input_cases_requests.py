"""Requests that are wrong by themselves: what is in the file, on the command line, or named and not there."""

from __future__ import annotations

import io

import numpy as np

from tests.requests.bad_input_cases import BASE, IMAGES, Case, Touch, right, training, write


def _huge() -> bytes:
    """An array file with a hundred million million numbers, by what it says."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": (10**14,)})
    return file.getvalue() + bytes(80)


BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))

FILE: dict[str, Case] = {
    "no request": Case(("needs a request", "--example"), command=("unlearn",)),
    "no such file": Case(("nowhere.yaml", "There is no such file"), command=("unlearn", "nowhere.yaml")),
    "a folder": Case(("images", "not a file"), command=("unlearn", "images")),
    "an empty file": Case(("empty", "--example"), request=""),
    "bytes that are no text": Case(
        ("UTF-8",), spoil=write("request.yaml", b"seed: \xff\xfe"), command=("unlearn", "request.yaml")
    ),
    "a picture": Case(("request", "00.png"), command=("unlearn", "images/cat/00.png")),
    "no YAML": Case(("This is not YAML",), right(seed="seed: [")),
    "a list": Case(("mapping",), "- model\n- data\n"),
    "a tag that calls": Case(("tag", "os.system"), right(seed="seed: !!python/object/apply:os.system ['touch ran']")),
    "a tag that imports": Case(("tag", "subprocess"), right(seed="seed: !!python/name:subprocess.run")),
    "a bomb of aliases": Case(("anchor &a", "alias *a"), BOMB + right(), faults=26),
    "a bomb of brackets": Case(("nested",), f"model: {'[' * 10_000}"),
    "a file of two megabytes": Case(("1,048,576 bytes",), right() + "# " + "x" * 2**21 + "\n"),
    "two documents": Case(("one document",), right() + "---\n" + right()),
    "a key given twice": Case(("`seed`", "twice"), right(seed="seed: 1", again="seed: 2")),
    "merged keys": Case(("alias *base",), right(seed="<<: *base"), faults=2),
    "a zero byte": Case(("not allowed",), right(seed="name: 'a\0b'")),
}

WORDS: dict[str, Case] = {
    "an unknown section": Case(("modle", "Did you mean 'model'?"), right(x="modle: 3")),
    "an unknown key": Case(
        ("wieghts", "Did you mean 'weights'?"), right(model="model: {import: 'mine.py:network', wieghts: m.pt}")
    ),
    "an unknown setting": Case(("epoch", "Did you mean 'epochs'?"), right(method="method: {epoch: 5}")),
    "an unknown method": Case(("mumba", "Did you mean 'munba'?"), right(method="method: mumba")),
    "text for a number": Case(("`seed`", "'zero'"), right(seed="seed: zero")),
    "a number for a list": Case(("`forget.indices`",), right(forget="forget: {indices: 7}")),
    "a mapping for a number": Case(("`workers`",), right(workers="workers: {of: 2}")),
    "a truth for a number": Case(("`method.epochs`", "true"), right(method="method: {epochs: true}")),
    "a number that is none": Case(("`method.lr`", ".nan"), right(method="method: {lr: .nan}")),
    "no epochs": Case(("`method.epochs`", "at least 1"), right(method="method: {epochs: 0}")),
    "a step size below 0": Case(("`method.lr`", "-1"), right(method="method: {name: finetune, lr: -1}")),
    "a fraction of all": Case(("`forget.fraction`", "(0, 1)"), right(forget="forget: {fraction: 1.0}")),
    "nothing to forget": Case(("`forget`", "missing"), right(forget="")),
    "an unknown device": Case(("`device`", "toaster"), right(device="device: toaster")),
    "a device that is not there": Case(("`device`", "cuda:77"), right(device="device: 'cuda:77'")),
    "an unknown tracker": Case(
        ("tensorbored", "Did you mean 'tensorboard'?"), right(t="trackers: [tensorbored]"), needs=("accelerate",)
    ),
    "an unknown precision": Case(("`precision`", "int4"), right(p="precision: int4")),
    "a name with a way out": Case(("`name`", "../escaped"), right(name="name: ../escaped")),
    "a name that is a path": Case(("`name`", "/escaped"), right(name="name: /escaped")),
    "a forget set with a way out": Case(
        ("../../escaped", "name"), right(forget="forget: {sets: {../../escaped: {indices: [1]}}}")
    ),
    "a forget set that is a part": Case(("retain",), right(forget="forget: {sets: {retain: {indices: [1]}}}")),
    "a split with a way out": Case(("split", "../train"), right(data=training("parquet: images, split: ../train"))),
    "a setting that is a function": Case(
        ("`method.fresh`", "function"), right(method="method: {name: retrain, fresh: 'os:system'}")
    ),
    "code in place of a function": Case(
        ("`model.import`", "os:system"), right(model="model: {import: 'os:system(\"touch ran\")'}")
    ),
    "holdout that was trained on": Case(
        ("`data.holdout`", "same as `data.training`"),
        right(data="data: {training: {import: 'mine.py:training'}, holdout: {import: './mine.py:training'}}"),
    ),
    "several faults at once": Case(
        ("5 faults", "request.yaml:1: ", "request.yaml:4: ", ":7: ", ":8: ", ":9: "),
        right(
            model="model: {import: 'yours.py:network', weights: m.safetensors}",
            method="method: {name: finetune, epochs: -1}",
            seed="seed: x",
            device="device: toaster",
            sed="sed: 1",
        ),
        faults=5,
    ),
}

NAMED: dict[str, Case] = {
    "no such weights": Case(
        ("m.safetensor", "Did you mean 'm.safetensors'?"),
        right(model="model: {import: 'mine.py:network', weights: m.safetensor}"),
    ),
    "weights that are a folder": Case(
        ("`model.weights`", "images"), right(model="model: {import: 'mine.py:network', weights: images}")
    ),
    "no such table": Case(
        ("tain.parquet", "Did you mean 'train.parquet'?"),
        right(data=training("parquet: tain.parquet")),
    ),
    "no such folder of images": Case(("pictures",), right(data=training("images: pictures"))),
    "no such file of functions": Case(("yours.py",), right(model="model: {import: 'yours.py:network'}")),
    "no such package": Case(("no_such_package",), right(model="model: {import: 'no_such_package:network'}")),
    "no such function": Case(
        ("netwrok", "Did you mean 'network'?"), right(model="model: {import: 'mine.py:netwrok'}")
    ),
    "no such index file": Case(
        ("row.txt", "Did you mean 'rows.txt'?"), right(forget="forget: {index_file: row.txt}")
    ),
    "an index file with words": Case(
        ("rows.txt", "four"), right(forget="forget: {index_file: rows.txt}"), write("rows.txt", "3\nfour\n5\n")
    ),
    "an index file with code": Case(
        ("rows.npy", "whole numbers"),
        right(forget="forget: {index_file: rows.npy}"),
        lambda folder: np.save(folder / "rows.npy", np.array([Touch()], dtype=object), allow_pickle=True),
    ),
    "an index file that claims to be huge": Case(
        ("rows.npy", "TiB"), right(forget="forget: {index_file: rows.npy}"), write("rows.npy", _huge())
    ),
    "an index out of range": Case(("30", "outside"), right(forget="forget: {indices: [3, 30]}")),
    "an index of a row never trained on": Case(
        ("holdout", ": 3."),
        right(
            data="data: {training: {import: 'mine.py:training'}, holdout: {rows: {indices: [3, 4]}}}",
            forget="forget: {indices: [3]}",
        ),
    ),
    "an index that is a number with a point": Case(
        ("rows.txt", "2.5"), right(forget="forget: {index_file: rows.txt}"), write("rows.txt", "2.5\n")
    ),
    "a user who is nowhere": Case(
        ("'user_id'", "'4711'"), right(forget="forget: {column: user_id, values: [7, 4711]}")
    ),
    "a file of users who are nowhere": Case(
        ("'user_id'", "'4711'"),
        right(forget="forget: {column: user_id, values_file: users.txt}"),
        write("users.txt", "7\n4711\n"),
    ),
    "a file of users that is a picture": Case(
        ("00.png", "user_id"), right(forget="forget: {column: user_id, values_file: images/cat/00.png}")
    ),
    "no such column": Case(("user", "Did you mean 'user_id'?"), right(forget="forget: {column: user, values: [7]}")),
    "no such class": Case(("catt", "Did you mean 'cat'?"), right(forget="forget: {classes: [catt]}")),
    "all classes": Case(("retain", "empty"), right(forget="forget: {classes: [cat, dog, owl]}")),
    "sets that overlap": Case(
        ("'a'", "'b'", "overlap"), right(forget="forget: {sets: {a: {indices: [1, 2]}, b: {indices: [2, 3]}}}")
    ),
    "a key that is none": Case(("sign.key", "rows.txt"), right(s="sign: {key: rows.txt}"), needs=("model_signing",)),
    "a key that is not there": Case(("sign.key", "none.pem"), right(s="sign: {key: none.pem}")),
    "a folder of Hugging Face that is none": Case(
        ("config.json",), right(model="model: {huggingface: images}"), needs=("transformers",)
    ),
    "a method that needs whole classes": Case(("UNSIR", "whole classes"), right(method="method: unsir")),
    "a method that needs unseen data": Case(
        ("validation",),
        right(data="data: {training: {import: 'mine.py:training'}}", method="method: {name: munba, wish: unseen}"),
    ),
    "a method of no method": Case(("`method.method`", "missing"), right(method="method: omp")),
    "a validation part of nothing": Case(
        ("`data.validation`",), right(data=f"{BASE['data'][:-1]}, validation: 0.01}}")
    ),
    "how to make images of what is none": Case(
        ("`data.inputs`",), right(data=f"{BASE['data'][:-1]}, inputs: {{size: 8}}}}")
    ),
    "other channels than the model's": Case(
        ("cannot take", "[2, 3, 4, 4]"), right(data=IMAGES.replace("1", "3"), forget="forget: {classes: [cat]}")
    ),
}

LINE: dict[str, Case] = {
    "an override of nothing": Case(("--set", "method.epochs=5"), more=("--set", "epochs")),
    "an override of an unknown key": Case(
        ("method.epoch", "Did you mean 'epochs'?"), more=("--set", "method.epoch=5")
    ),
    "an override out of range": Case(("--set method.epochs=0",), more=("--set", "method.epochs=0")),
    "an override with a tag": Case(("tag", "os.system"), more=("--set", "seed=!!python/object/apply:os.system [ls]")),
    "an override with a way out": Case(("`name`", "../x"), more=("--set", "name=../x")),
    "a folder within the data": Case(("`out`", "images"), right(data=IMAGES), more=("--out", "images/cat/result")),
    "a folder around the model": Case(("`out`", "model.weights"), more=("--out", "."), faults=5),
    "a folder in no folder": Case(("`out`", "there is no folder"), more=("--out", "no/such/place")),
    "a folder that is a file": Case(("`out`", "rows.txt", "is a file"), more=("--out", "rows.txt")),
    "a folder in a file": Case(("`out`", "rows.txt"), more=("--out", "rows.txt/result")),
    "a folder with a name that is too long": Case(("x" * 300,), more=("--out", "x" * 300)),
}


REQUESTS = {**FILE, **WORDS, **NAMED, **LINE}
