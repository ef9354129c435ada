"""A request that is written and read again is the same request."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amnesty.errors import InvalidInputError
from amnesty.methods import METHODS, OMP, FineTune, Retrain
from amnesty.requests.checking import read_request
from amnesty.requests.methods_from import plain_method
from amnesty.requests.selectors_from import plain_selector
from amnesty.requests.yaml_file import dump
from amnesty.tasks.zero_shot import GROUPS
from tests.requests.writing import write

words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8) | st.sampled_from(
    ["no", "1e-3", "0777", "null", "cat", "007", "1:30", "~", "- x", "{a", "#", "a: b"]
)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True)
files = st.sampled_from(["a.pt", "../b.safetensors", "sub/c d.bin", "/abs/e.pt"])
counts = st.integers(1, 10**9)
positive = st.floats(1e-9, 1e9)
share = st.floats(0, 1, exclude_min=True, exclude_max=True)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(words, v, max_size=3),
    max_leaves=5,
)
options = st.dictionaries(st.from_regex(r"[a-z]{1,4}_", fullmatch=True), plain, max_size=3)


def some(required: dict, optional: dict | None = None):
    return st.fixed_dictionaries(required, optional=optional or {})


functions = st.sampled_from(["package.module:function", "mine.py:made", "/a/b.py:made"])
made = {"weights": files, "classes": counts | st.none(), "options": options}
models = (
    some({"timm": words, **made})
    | some({"torchvision": words, **made})
    | some({"huggingface": words})
    | some({"import": functions}, made)
)
table = {"split": st.sampled_from(["train", "test", "train[:10%]"]), "image_column": words, "label_column": words}
sources = (
    some({"parquet": files}, {**table, "limit": counts})
    | some({"huggingface": st.sampled_from(["cifar10", "uoft-cs/cifar10"])}, {**table, "limit": counts})
    | some({"images": words}, {"limit": counts})
    | some({"import": functions}, {"options": options, "limit": counts})
)
values = st.lists(
    words | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans(), min_size=1
)
selectors = (
    some({"classes": st.lists(words | st.integers(0, 99), min_size=1, unique=True)}, {"column": words})
    | some({"indices": st.lists(st.integers(0, 10**6), min_size=1, unique=True)})
    | some({"index_file": files})
    | some({"column": words, "values": values})
    | some({"column": words, "values_file": files})
    | some({"fraction": share}, {"seed": st.integers(0, 2**63)})
)
taken = ("forget", "retain", "holdout", "validation", "nonmembers")
sets = st.dictionaries(names.filter(lambda n: n not in taken), selectors, min_size=1, max_size=3)
rules = st.sampled_from(["nash", "sum", {"nash": {"length": "fading", "threshold": 10.5}}, {"sum": None}])
methods = (
    st.sampled_from([name for name in METHODS if name != "omp"])
    | some({"name": st.just("munba")}, {"lr": positive | st.none(), "epochs": counts, "rule": rules})
    | some({"name": st.just("lur"), "preset": st.just("bargained")}, {"trim": st.floats(0, 1)})
    | some({"name": st.just("scrub")}, {"milestones": st.lists(counts, min_size=1), "rewind": st.booleans()})
    | some({"name": st.just("omp"), "method": st.sampled_from(["finetune", {"name": "munba", "epochs": 3}])})
    | some({"epochs": counts, "tuned": st.booleans()})
)
texts = st.lists(words, min_size=2, max_size=3, unique=True).filter(lambda found: all(map(str.strip, found)))
templates = st.lists(st.sampled_from(["a photo of a {}.", "{label}: no", "{}"]), min_size=1, max_size=3)
captioned = some({"parquet": files}, {"split": st.just("test"), "caption_column": words, "limit": counts}) | some(
    {"import": functions}, {"options": options}
)
retain_losses = st.just({"retain_loss": "ce_kept"}) | some(
    {"retain_loss": st.just(["distill", "contrastive"]), "bank": texts | files, "pairs": captioned}
)
forget_losses = st.just({"forget_loss": "repel"}) | some({"forget_loss": st.just("anchor"), "anchor": words})
adapters = some({"lora": counts | st.just({"r": 4, "target_modules": ["a"]}), "adapters": st.just("separate")})
transfers = st.dictionaries(
    names,
    st.builds(
        lambda source, more: {**source, **more}, sources, some({}, {"class_names": texts, "templates": templates})
    ),
    min_size=1,
    max_size=2,
)
zero_shots = st.builds(
    lambda *found: {key: value for one in found for key, value in one.items()},
    some(
        {},
        {"templates": templates, "paraphrases": templates, "train": st.sampled_from(GROUPS), "captions": captioned},
    ),
    some({}, {"transfers": transfers}) | some({"class_names": texts}),
    st.just({}) | retain_losses,
    st.just({}) | forget_losses,
    st.just({}) | adapters,
)
three = st.lists(share, min_size=3, max_size=3)
requests = some(
    {
        "name": names,
        "model": models,
        "data": some(
            {"training": sources},
            {
                "holdout": some({"rows": selectors}),
                "validation": share,
                "inputs": some({}, {"size": counts | st.tuples(counts, counts).map(list), "channels": st.just(3)})
                | some({"mean": three, "std": three}),
            },
        ),
        "forget": selectors | some({"sets": sets}),
    },
    {
        "method": methods,
        "reference": files,
        "seed": st.integers(0, 2**63),
        "device": st.sampled_from(["auto", "cpu", "cuda:1"]),
        "precision": st.sampled_from(["float32", "bfloat16"]),
        "workers": st.integers(0, 64),
        "duplicates": st.sampled_from(
            ["move", {"action": "keep", "near": ["features", "exact"]}, {"threshold": 0.5}]
        ),
        "checkpoint": some({}, {"steps": counts | st.none(), "minutes": positive | st.none()}),
        "trackers": st.sampled_from([[], ["tensorboard", "wandb"]]),
        "sign": st.sampled_from([None, {"sigstore": True}, {"key": "private.pem"}]),
        "out": words.filter(lambda word: word.strip("~/")),
    },
)


towers = (
    some({"huggingface": words})
    | some({"open_clip": words, "weights": files}, {"options": options})
    | some({"import": functions}, {"weights": files, "options": options})
)


@st.composite
def zero_shot_requests(draw):
    found = {**draw(requests), "task": "zero-shot", "model": draw(towers), "zero_shot": draw(zero_shots)}
    found["data"].pop("inputs", None)
    if "anchor" in found["zero_shot"]:
        found["zero_shot"].pop("class_names", None)
    if found["zero_shot"].get("captions") == found["zero_shot"].get("pairs"):
        found["zero_shot"].pop("captions", None)
    return found


@given(requests | zero_shot_requests())
def test_what_is_written_is_read_as_the_same(tmp_path_factory, document):
    first, second = (tmp_path_factory.mktemp(name) for name in ("first", "second"))
    found = read_request(write(first, dump(document)), look=False)
    again = read_request(write(second, dump(found.document)), look=False)
    assert again == found
    assert dump(again.document) == dump(found.document)


def test_every_method_is_written_with_all_its_settings(tmp_path):
    for name, kind in METHODS.items():
        method = OMP(method=FineTune()) if name == "omp" else kind()
        written = plain_method(method, tuned=False)
        assert written["name"] == name and written.keys() == {
            "name",
            "tuned",
            *(field.name for field in fields(kind)),
        }


def test_what_a_file_cannot_say_is_refused():
    with pytest.raises(InvalidInputError, match="`fresh`"):
        plain_method(Retrain(fresh=lambda: None), tuned=True)
    with pytest.raises(InvalidInputError, match="cannot say"):
        plain_selector("everything")
