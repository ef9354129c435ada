"""The table of malformed requests: each gives one fault, with its line, and no file is touched."""

from __future__ import annotations

import os

import pytest

from amnesty.requests.checking import read_request
from amnesty.requests.faults import RequestError
from tests.requests.writing import furnish, request, skip_without_packages, write

WRONG: dict[str, tuple[str, int, str]] = {
    # the file
    "a list": ("- model\n", 1, "must be a mapping"),
    "no YAML": (request(seed="seed: ["), 5, "This is not YAML"),
    "a tag": (request(seed="seed: !!python/object/apply:os.system [touch x]"), 4, "tag !!python/object/apply:os.sys"),
    "an alias": (request(seed="seed: *s"), 4, "alias *s"),
    "two documents": (request(seed="---\nseed: 0"), 4, "one document"),
    "a key given twice": (request(again="seed: 0\nseed: 1"), 5, "`seed` is given twice, first in line 4"),
    "nested too deep": (request(seed=f"seed: {'[' * 30}"), 4, "nested 20 deep"),
    # the whole
    "no model": (request(model="seed: 0"), 1, "`model` is missing: add, for example, `model: {timm:"),
    "no data": (request(data="data:"), 1, "`data` is missing"),
    "nothing to forget": (request(forget="forget: null"), 1, "`forget` is missing"),
    "an unknown section": (request(x="modle: 3"), 4, "`modle` is unknown. Did you mean 'model'?"),
    "name with a way out": (request(name="name: ../../etc/passwd"), 4, "letters, digits, dots"),
    "name that is a folder": (request(name="name: .."), 4, "letters, digits, dots"),
    "name with a separator": (request(name="name: a/b"), 4, "found 'a/b'"),
    "name that is a number": (request(name="name: 7"), 4, "must be text, found 7. Put it in quotes."),
    "name that is too long": (request(name=f"name: {'x' * 101}"), 4, "100 at most"),
    "seed below 0": (request(seed="seed: -1"), 4, "`seed` must be a whole number of at least 0, found -1."),
    "seed that is a bool": (request(seed="seed: true"), 4, "a whole number of at least 0, found true."),
    "seed with a point": (request(seed="seed: 1.0"), 4, "found 1.0."),
    "octal seed": (request(seed="seed: 0777"), 4, "`seed` is 0777, which some YAML readers take for an octal number"),
    "seed that is text": (request(seed="seed: 'zero'"), 4, "found 'zero'"),
    "workers that are a list": (request(workers="workers: [1]"), 4, "`workers` must be a whole number of at least 0"),
    "an unknown precision": (request(p="precision: float16"), 4, "one of float32, bfloat16, found 'float16'"),
    "no such device": (request(device="device: cuda:77"), 4, "`device` must be `auto`, or a device that is there"),
    "no device at all": (request(device="device: toaster"), 4, "found 'toaster'"),
    "a device that computes nothing": (request(device="device: meta"), 4, "must be a device that computes"),
    "no such reference": (request(r="reference: none.safetensors"), 4, "there is nothing at"),
    "reference that is no weights file": (
        request(r="reference: train.parquet"),
        4,
        "must end in one of .safetensors",
    ),
    "reference with a zero byte": (request(r='reference: "a\\0b"'), 4, "must be a path"),
    "reference that is too long": (request(r=f"reference: {'x/' * 3000}y"), 4, "`reference`"),
    "an unknown tracker": (request(t="trackers: [tensorbored]"), 4, "Did you mean 'tensorboard'?"),
    "trackers that are no list": (request(t="trackers: tensorboard"), 4, "must be a list of names"),
    "the same tracker twice": (request(t="trackers: [tensorboard, tensorboard]"), 4, "`trackers[1]` is there twice"),
    "out in no folder": (request(out="out: no/such/place"), 4, "there is no folder"),
    "out that is a file": (request(out="out: m.pt"), 4, "must be a folder, but"),
    "out among the data": (
        request(data="data: {training: {images: images}}", out="out: images/result"),
        4,
        "must not be in what is read",
    ),
    "out that holds the weights": (
        request(model="model: {import: 'mine.py:made', weights: old/m.pt}", out="out: hf/../old"),
        4,
        "must not hold what is read",
    ),
    # the model
    "no kind of model": (request(model="model: {weights: m.pt}"), 1, "found none of them"),
    "two models": (request(model="model: {huggingface: hf, run: hf}"), 1, "found huggingface and run"),
    "a model that is a word": (request(model="model: resnet18"), 1, "`model` must be a mapping with keys"),
    "an unknown key of the model": (
        request(model="model:\n  import: mine.py:made\n  wieghts: m.pt"),
        3,
        "Did you mean 'weights'?",
    ),
    "a function without a module": (request(model="model: {import: made}"), 1, "package.module:function"),
    "a function that is code": (request(model="model: {import: 'os:system(1)'}"), 1, "package.module:function"),
    "a function in no file": (request(model="model: {import: 'yours.py:made'}"), 1, "there is nothing at"),
    "a function in no package": (request(model="model: {import: 'no_such_package.x:made'}"), 1, "'no_such_package'"),
    "no such weights": (
        request(model="model: {import: mine.py:made, weights: m.safetensor}"),
        1,
        "Did you mean 'm.safetensors'?",
    ),
    "weights that are a folder": (request(model="model: {import: mine.py:made, weights: hf}"), 1, "must be a file"),
    "weights of another kind": (request(model="model: {import: mine.py:made, weights: rows.txt}"), 1, "must end in"),
    "weights beside a folder that has them": (
        request(model="model: {huggingface: hf, weights: m.pt}"),
        1,
        "`model.weights` means nothing beside `model.huggingface`",
    ),
    "no classes": (request(model="model: {import: mine.py:made, classes: 0}"), 1, "of at least 1, or null, found 0"),
    "options that are a list": (request(model="model: {import: mine.py:made, options: [1]}"), 1, "must be a mapping"),
    "an option that is not finite": (
        request(model="model: {import: mine.py:made, options: {a: [{b: .nan}]}}"),
        1,
        "`model.options.a[0].b` must be finite",
    ),
    "an option that is no name": (
        request(model="model: {import: mine.py:made, options: {a-b: 1}}"),
        1,
        "of an argument",
    ),
    "a folder that is no model": (request(model="model: {huggingface: images}"), 1, "no config.json"),
    "a folder that is no run": (request(model="model: {run: hf}"), 1, "must be the folder of an earlier run"),
    # the data
    "no training data": (request(data="data: {validation: 0.5}"), 2, "`data.training` is missing"),
    "two sources": (request(data="data: {training: {parquet: train.parquet, images: images}}"), 2, "exactly one of"),
    "no such table": (request(data="data: {training: {parquet: tain.parquet}}"), 2, "Did you mean 'train.parquet'?"),
    "no such split": (
        request(data="data: {training: {parquet: parts, split: test}}"),
        2,
        "must hold files test-*.parquet",
    ),
    "a split that is a way out": (
        request(data="data:\n  training:\n    parquet: parts\n    split: ../train"),
        5,
        "must be the name of a split",
    ),
    "images without classes": (request(data="data: {training: {images: images/cat}}"), 2, "for each class"),
    "a hub name that is a path": (
        request(data="data: {training: {huggingface: ./parts}}"),
        2,
        "a data set of the hub",
    ),
    "columns of images": (request(data="data: {training: {images: images, split: x}}"), 2, "means nothing beside"),
    "limit of nothing": (request(data="data: {training: {images: images, limit: 0}}"), 2, "of at least 1"),
    "holdout that was trained on": (
        request(data="data: {training: {images: images}, holdout: {images: ./images}}"),
        2,
        "the same as `data.training`",
    ),
    "holdout that is a number": (request(data="data: {training: {images: images}, holdout: 0.2}"), 2, "be a mapping"),
    "rows by nothing": (request(data="data: {training: {images: images}, holdout: {rows: {}}}"), 2, "exactly one of"),
    "validation of everything": (request(data="data: {training: {images: images}, validation: 1}"), 2, "in (0, 1)"),
    "validation that is scored": (
        request(data="data: {training: {images: images}, holdout: {images: unseen}, validation: {images: ./unseen}}"),
        2,
        "other data than `data.holdout`",
    ),
    "three sides": (request(data="data: {training: {images: images}, inputs: {size: [1, 2, 3]}}"), 2, "3 numbers"),
    "size of nothing": (
        request(data="data: {training: {images: images}, inputs: {size: 0}}"),
        2,
        "`data.inputs.size`",
    ),
    "two channels": (request(data="data: {training: {images: images}, inputs: {channels: 2}}"), 2, "one of 1, 3"),
    "mean without std": (
        request(data="data: {training: {images: images}, inputs: {mean: [0.5]}}"),
        2,
        "data.inputs.std",
    ),
    "std of 0": (
        request(data="data: {training: {images: images}, inputs: {mean: [0.5], std: [0]}}"),
        2,
        "`data.inputs.std[0]` must be a positive number, found 0",
    ),
    "mean of bytes": (
        request(data="data: {training: {images: images}, inputs: {mean: [125.3], std: [63]}}"),
        2,
        "divide those of [0, 255] by 255",
    ),
    "mean and std that do not match": (
        request(data="data: {training: {images: images}, inputs: {mean: [0.5], std: [1, 1, 1]}}"),
        2,
        "a number for each of 1 channels, found 3",
    ),
    # what to forget
    "a fraction of all": (request(forget="forget: {fraction: 1.0}"), 3, "`forget.fraction` must be in (0, 1)"),
    "a fraction that is no number": (request(forget="forget: {fraction: .nan}"), 3, "found .nan"),
    "a fraction in per cent": (request(forget="forget: {fraction: 10%}"), 3, "found '10%'"),
    "two ways to choose": (request(forget="forget: {fraction: 0.1, classes: [1]}"), 3, "found classes and fraction"),
    "a class that YAML takes for a bool": (
        request(forget="forget:\n  classes:\n  - cat\n  - no"),
        6,
        "`forget.classes[1]` is no, which some YAML readers take for true or false: write 'no' in quotes",
    ),
    "a class that is a bool": (request(forget="forget: {classes: [true]}"), 3, "found true. Put it in quotes."),
    "a class below 0": (request(forget="forget: {classes: [-1]}"), 3, "`forget.classes[0]` must be text or a whole"),
    "no class": (request(forget="forget: {classes: []}"), 3, "found an empty list"),
    "one class without a list": (request(forget="forget: {classes: cat}"), 3, "must be a list"),
    "the same class twice": (
        request(forget="forget: {classes: [cat, cat]}"),
        3,
        "`forget.classes[1]` is there twice",
    ),
    "an index below 0": (request(forget="forget: {indices: [3, -1]}"), 3, "`forget.indices[1]`"),
    "the same index twice": (request(forget="forget: {indices: [3,\n  1,\n  3]}"), 5, "is there twice: 3"),
    "no such index file": (request(forget="forget: {index_file: row.txt}"), 3, "Did you mean 'rows.txt'?"),
    "an empty index file": (request(forget="forget: {index_file: empty.txt}"), 3, "is an empty file"),
    "values of no column": (request(forget="forget: {values: [7]}"), 3, "`forget.column` is missing"),
    "a column without values": (request(forget="forget: {column: user_id}"), 3, "found none of them"),
    "a value that is a date": (request(forget="forget: {column: day, values: [2024-01-31]}"), 3, "take for a date"),
    "a value that is a list": (request(forget="forget: {column: user, values: [[7]]}"), 3, "`forget.values[0]`"),
    "no forget sets": (request(forget="forget: {sets: {}}"), 3, "at least one forget set"),
    "a forget set with the name of a part": (
        request(forget="forget: {sets: {retain: {fraction: 0.1}}}"),
        3,
        "has the name of a part",
    ),
    "a forget set with a way out": (request(forget="forget: {sets: {a/b: {fraction: 0.1}}}"), 3, "must have a name"),
    "a forget set of nothing": (
        request(forget="forget: {sets: {a: {}}}"),
        3,
        "`forget.sets.a` must have exactly one of",
    ),
    # the method
    "an unknown method": (
        request(method="method: mumba"),
        4,
        "`method.name` must be a method, found 'mumba'. Did you",
    ),
    "a method that is a number": (request(method="method: 3"), 4, "`method` must be a mapping with keys, found 3"),
    "an unknown setting": (request(method="method: {name: munba, epoch: 1}"), 4, "Did you mean 'epochs'?"),
    "a setting out of range": (
        request(method="method:\n  name: munba\n  epochs: 0"),
        6,
        "`method.epochs` must be a whole number of at least 1, found 0.",
    ),
    "a setting that is not finite": (request(method="method: {name: finetune, lr: .inf}"), 4, "a positive number"),
    "a setting of another choice": (
        request(method="method: {name: munba, schedule: linaer}"),
        4,
        "Did you mean 'linear'",
    ),
    "null where there must be a number": (request(method="method: {name: munba, epochs: null}"), 4, "found nothing"),
    "settings that do not go together": (
        request(method="method:\n  name: scrub\n  alpha: 0\n  gamma: 0"),
        6,
        "`alpha` and `gamma` must not both be 0",
    ),
    "a function": (request(method="method: {name: retrain, fresh: 'mine.py:made'}"), 4, "is a function"),
    "an unknown rule": (
        request(method="method: {rule: nahs}"),
        4,
        "must be a rule, found 'nahs'. Did you mean 'nash'?",
    ),
    "a rule with an unknown setting": (request(method="method: {rule: {nash: {lenght: unit}}}"), 4, "mean 'length'?"),
    "weights for other players": (request(method="method: {rule: {sum: [1, 2, 3]}}"), 4, "is for 3 players, but"),
    "a power that is not positive": (
        request(method="method: {rule: {nash: {power: [0, 1]}}}"),
        4,
        "must hold positive",
    ),
    "a recipe with a fault": (
        request(method="method: {name: retrain, recipe: {epochs: 0}}"),
        4,
        "`method.recipe.epochs`",
    ),
    "a method of no method": (request(method="method: omp"), 4, "`method.method` is missing"),
    "an unknown preset": (request(method="method: {name: munba, preset: papre}"), 4, "Did you mean 'paper'?"),
    "a preset where there is none": (
        request(method="method: {name: finetune, preset: paper}"),
        4,
        "FineTune has none",
    ),
    # the rest
    "an unknown action": (request(d="duplicates: dorp"), 4, "Did you mean 'drop'?"),
    "an unknown likeness": (
        request(d="duplicates: {near: [exact, looks]}"),
        4,
        "`duplicates.near[1]` must be one of",
    ),
    "a likeness above 1": (request(d="duplicates: {threshold: 1.1}"), 4, "in (0, 1], or null, found 1.1"),
    "checkpoints all the time": (request(c="checkpoint: {steps: 0}"), 4, "`checkpoint.steps`"),
    "checkpoints in no time": (request(c="checkpoint: {minutes: -1}"), 4, "`checkpoint.minutes`"),
    "a checkpoint that is a number": (request(c="checkpoint: 10"), 4, "must be a mapping with keys, found 10"),
    "two signatures": (request(s="sign: {key: m.pt, sigstore: true}"), 4, "found key and sigstore"),
    "no signature": (request(s="sign: {sigstore: false}"), 4, "must be true"),
    "no such key": (request(s="sign: {key: none.pem}"), 4, "there is nothing at"),
    "a key that is none": (request(s="sign: {key: rows.txt}"), 4, "`sign.key`"),
}


def snapshot(folder):
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.stat()
        found[path] = (state.st_mtime_ns, state.st_size, state.st_mode)
    return found


@pytest.mark.parametrize("what", WRONG)
def test_it_is_one_fault_with_its_line_and_touches_nothing(tmp_path, monkeypatch, what):
    text, line, said = WRONG[what]
    skip_without_packages(text)
    furnish(tmp_path)
    path = write(tmp_path, text)
    before = snapshot(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError) as found:
        read_request(path)
    (fault,) = found.value.faults
    assert fault.startswith(f"{path}:{line}: ") and said in fault, fault
    assert "\n" not in str(found.value) and str(found.value) == fault
    assert snapshot(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_files_that_may_not_be_read_and_folders_that_may_not_be_written_to(tmp_path):
    furnish(tmp_path)
    (tmp_path / "m.pt").chmod(0)
    (tmp_path / "hf").chmod(0o500)
    path = write(tmp_path, request(r="reference: m.pt", out="out: hf/result"))
    with pytest.raises(RequestError) as found:
        read_request(path)
    assert ["you may not" in fault for fault in found.value.faults] == [True, True]


def test_all_faults_are_named_in_the_order_of_the_file(tmp_path):
    chosen = [text.splitlines()[3] for text, _, _ in WRONG.values() if text.startswith(request()) and "\n" in text]
    single = {}
    for line in chosen:
        single.setdefault(line.partition(":")[0], line)
    usable = [line for key, line in single.items() if key not in ("---", "modle", "out", "seed")]
    path = write(tmp_path, request() + "\n".join(usable) + "\n")
    with pytest.raises(RequestError) as found:
        read_request(path)
    lines = [int(fault.removeprefix(f"{path}:").split(":")[0]) for fault in found.value.faults]
    assert len(usable) >= 9 and lines == list(range(4, 4 + len(usable)))
    assert str(found.value).startswith(f"The request has {len(usable)} faults:\n  {path}:4: ")
