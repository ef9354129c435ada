"""Whole runs of zero-shot requests, from a file to a folder that others can open."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from amnesty import cli
from amnesty.errors import InterruptedRunError, InvalidInputError, ModelError
from amnesty.requests.again import datasets, reevaluated
from amnesty.requests.checking import read_request
from amnesty.requests.digests import file_hash
from amnesty.requests.preparing import prepare
from amnesty.requests.verifying import verify
from amnesty.weights import save_weights
from tests.requests import audited
from tests.requests.whole_runs import names, read, result, run, stop_after

clip_runs = pytest.importorskip("tests.requests.clip_runs", reason="the extras `clip` or `vision` are not installed")
tiny_clip, asked, ran, quickly = clip_runs.tiny_clip, clip_runs.asked, clip_runs.ran, clip_runs.quickly
HERE, TEMPLATES, source = clip_runs.HERE, clip_runs.TEMPLATES, clip_runs.source

ROOT = Path(__file__).parents[2]
FILES = {
    *("request.yaml", "history.jsonl", "scores.json", "answers.parquet", "forgotten.json", "run.json"),
    *("report.html", "audit.json", "zero_shot.json"),
}
PROCESSOR = {"processor_config.json", "tokenizer.json", "tokenizer_config.json"}
MORE = {
    "templates": TEMPLATES,
    "paraphrases": ["a image of the {label} digit"],
    "retain_loss": ["ce", "distill", "contrastive"],
    "bank": ["the digit one", "the digit two"],
    "forget_loss": "anchor",
    "anchor": "blue",
    "lora": 4,
    "adapters": "separate",
    "transfers": {"digits": {**source("digits"), "templates": list(tiny_clip.TEMPLATES)}},
    "captions": source("captioned"),
    "forget_captions": source("captioned", start=0),
    "pairs": source("captioned", start=128),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("clip")


@pytest.fixture(scope="module")
def first(home):
    """A finished run; not to be changed."""
    run(asked(home, name="first"), home / "first")
    return home / "first"


@pytest.fixture(scope="module")
def apart(home):
    """A run with everything that the section can have, whose adapters are kept apart."""
    ran(home, "apart", name="apart", zero_shot=MORE)
    return home / "apart"


@pytest.fixture
def moved(home, apart, tmp_path):
    """The same, with a copy of the model that it started from."""
    audited.copied(home / "my-clip", tmp_path / "my-clip")
    folder = audited.copied(apart, tmp_path / "apart")
    request = folder / "request.yaml"
    request.write_text(request.read_text().replace(str(home / "my-clip"), str(tmp_path / "my-clip")))
    return folder


def look(folder):
    return verify(folder, data=True, reevaluate=reevaluated, datasets=datasets)


class TestTheFolder:
    def test_it_forgot_and_verifies_with_the_data(self, first):
        scores = read(first, "scores.json")["methods"]
        assert scores["original"]["holdout_accuracy"] > 0.9
        assert scores["munba"]["forget_accuracy"] < 0.5 and scores["munba"]["retain_accuracy"] > 0.8
        found = look(first)
        assert found.ok and "numbers, to within 1e-06" in found.text, found.text

    def test_it_holds_what_transformers_opens(self, first, home):
        assert names(first) == FILES | {"model"}
        assert names(first / "model") == PROCESSOR | {"config.json", "model.safetensors"}
        for name in PROCESSOR:
            assert file_hash(first / "model" / name) == file_hash(home / "my-clip" / name)
        model = tiny_clip.CLIPModel.from_pretrained(first / "model")
        words = tiny_clip.CLIPProcessor.from_pretrained(first / "model").tokenizer
        data = tiny_clip.coloured("test")
        red = data.labels == tiny_clip.COLOURS.index("red")
        said = tiny_clip.zero_shot(model, data, TEMPLATES, words)
        assert (said[red] == data.labels[red]).float().mean() < 0.5 < (said == data.labels)[~red].float().mean()

    def test_only_the_attention_of_the_texts_moved(self, first, home):
        before, after = (load_file(folder / "model.safetensors") for folder in (home / "my-clip", first / "model"))
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved and all(re.match(r"text_model\..*self_attn\.", name) for name in moved)

    def test_the_record_says_what_was_asked(self, first):
        audit = read(first, "audit.json")
        assert audit["task"]["class_names"] == list(tiny_clip.COLOURS) and audit["task"]["templates"] == TEMPLATES
        assert 0 < audit["task"]["trainable"] < audit["task"]["parameters"] == 61537
        assert audit["model"]["before"]["about"]["processor"].keys() == PROCESSOR
        assert {"model/tokenizer.json", "zero_shot.json"} <= audit["files"].keys()
        assert read(first, "zero_shot.json")["forgotten"] == ["red"]

    def test_another_tokenizer_is_found(self, first, home, tmp_path):
        audited.copied(home / "my-clip", tmp_path / "my-clip")
        path = tmp_path / "my-clip" / "tokenizer_config.json"
        path.write_text(path.read_text() + " ")
        folder = audited.copied(first, tmp_path / "first")
        request = (folder / "request.yaml").read_text().replace(str(home), str(tmp_path))
        (folder / "request.yaml").write_text(request)
        with pytest.raises(InvalidInputError, match="its tokenizer or image processor changed"):
            reevaluated(folder)


class TestGoingOn:
    @pytest.mark.parametrize("spec", [{"templates": TEMPLATES}, MORE], ids=["plain", "with everything"])
    def test_it_ends_in_the_same_bits(self, home, first, apart, spec):
        whole, name = (apart, "again-apart") if spec is MORE else (first, "again-first")
        path = asked(home, name=whole.name, zero_shot=spec)
        with pytest.raises(InterruptedRunError):
            quickly(path, home / name, **stop_after(4))
        assert quickly(path, home / name, resume=True).facts["sittings"] == 2
        assert result(home / name) == result(whole)


class TestAdapters:
    def test_kept_apart_they_are_alone_in_the_folder(self, apart, home):
        assert names(apart) == FILES | {"adapter"}
        assert names(apart / "adapter") == {"adapter_config.json", "adapter_model.safetensors"}
        model = read(apart, "audit.json")["model"]
        assert model["after"]["base"] == model["before"]["tensors"]
        assert model["after"]["files"] == ["adapter/adapter_model.safetensors"]

    def test_it_verifies_with_everything(self, apart):
        found = look(apart)
        assert found.ok, found.text

    def test_peft_opens_them_on_the_model_before(self, apart, home):
        import warnings

        import peft

        from amnesty.requests.request import ModelSpec
        from amnesty.requests.towers import load_towers

        base = tiny_clip.CLIPModel.from_pretrained(home / "my-clip")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapped = peft.PeftModel.from_pretrained(base, str(apart / "adapter")).merge_and_unload()
        ours = load_towers(ModelSpec(kind="run", name=str(apart))).model
        for name, value in wrapped.state_dict().items():
            assert torch.equal(value, ours.state_dict()[name])
        assert not torch.equal(
            wrapped.text_model.encoder.layers[0].self_attn.out_proj.weight,
            tiny_clip.trained(clip_runs.STEPS).text_model.encoder.layers[0].self_attn.out_proj.weight,
        )

    def test_with_another_model_they_are_refused(self, moved, tmp_path):
        path = tmp_path / "my-clip" / "model.safetensors"
        audited.flipped(path, path.stat().st_size - 2)
        with pytest.raises(InvalidInputError, match="the model to start from changed since the run"):
            reevaluated(moved)
        request = asked(tmp_path, name="next", model={"run": "apart"}, data=None, zero_shot=None, forget=None)
        request.write_text(request.read_text() + "forget: {classes: [blue]}\n")
        with pytest.raises(ModelError, match="holds adapters for the model .*it was changed since"):
            prepare(read_request(request))

    def test_merged_they_are_a_plain_model(self, home):
        ran(home, "merged", name="merged", zero_shot={"templates": TEMPLATES, "lora": {"r": 2, "lora_alpha": 8}})
        before, after = (load_file(f / "model.safetensors") for f in (home / "my-clip", home / "merged" / "model"))
        assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
        assert read(home / "merged", "audit.json")["task"]["trainable"] == 1024
        found = look(home / "merged")
        assert found.ok, found.text


def test_one_request_after_the_other(home, apart):
    """The second starts from adapters, the third from what the second merged, whose words and data it takes over."""
    again = {**MORE, "anchor": "green", "adapters": "merged"}
    ran(home, "second", name="second", model={"run": "apart"}, data=None, zero_shot=again, forget={"indices": [2, 9]})
    ran(
        home,
        "third",
        name="third",
        task=None,
        model={"run": "second"},
        data=None,
        zero_shot=None,
        forget={"indices": [4]},
    )
    third = home / "third"
    words = [read_request(folder / "request.yaml", look=False).zero_shot for folder in (home / "second", third)]
    assert words[0] == words[1] and words[0].anchor == "green"
    audit = read(third, "audit.json")
    assert [link["name"] for link in audit["chain"]] == ["apart", "second"]
    gone = read(apart, "audit.json")["forget"]["count"]
    assert audit["data"]["parts"]["retain"]["count"] == 96 - gone - 2 - 1
    assert {one["found"] for one in audit["rechecked"]} == {gone, 2}
    found = look(third)
    assert found.ok, found.text


class TestOtherModels:
    def test_a_function_gives_both(self, home):
        ran(home, "mine", name="mine", model={"import": f"{HERE}:towers"})
        assert names(home / "mine") == FILES | {"model.safetensors"}
        ran(home, "mine-next", name="mine-next", model={"run": "mine"}, data=None, forget={"indices": [3]})
        found = look(home / "mine-next")
        assert found.ok and read(home / "mine-next", "audit.json")["chain"][0]["name"] == "mine", found.text

    def test_a_model_of_open_clip(self, home, tmp_path, monkeypatch):
        """Untrained, on so few images that nobody can tell."""
        open_clip = pytest.importorskip("open_clip")
        config = {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 8, "patch_size": 4, "layers": 1, "width": 16, "head_width": 8},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
        }
        (tmp_path / "Tiny.json").write_text(json.dumps(config))
        monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", list(open_clip.factory._MODEL_CONFIG_PATHS))
        monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
        open_clip.add_model_config(tmp_path / "Tiny.json")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_weights(tmp_path / "tiny.safetensors", open_clip.create_model("Tiny"))
        ran(
            home,
            "open",
            name="open",
            model={"open_clip": "Tiny", "weights": str(tmp_path / "tiny.safetensors")},
            data={"training": source("training", count=8)},
            forget={"indices": [0]},
            method={"name": "finetune", "epochs": 1, "lr": 0.01},
        )
        assert names(home / "open") == FILES | {"model.safetensors"}
        before, after = (load_file(f) for f in (tmp_path / "tiny.safetensors", home / "open" / "model.safetensors"))
        assert {name for name in before if not torch.equal(before[name], after[name])}
        found = look(home / "open")
        assert found.ok, found.text


def test_the_request_of_the_page_runs_with_the_command(tmp_path, monkeypatch, capsys):
    """On pictures in Parquet files."""
    pytest.importorskip("datasets")
    page = (ROOT / "docs" / "requests.md").read_text(encoding="utf-8")
    text = next(block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "task: zero-shot" in block)
    (tmp_path / "request.yaml").write_text(text)
    tiny_clip.folder(tmp_path / "my-clip", tiny_clip.trained(clip_runs.STEPS))
    for name, data in (("train", clip_runs.training()), ("test", clip_runs.unseen()), ("digits", clip_runs.digits())):
        clip_runs.write_parquet(
            tmp_path / f"{name}.parquet", data.images, "label", data.labels.tolist(), data.class_names
        )
    pairs = clip_runs.captioned()
    clip_runs.write_parquet(tmp_path / "captions.parquet", pairs.images, "caption", list(pairs.texts))
    monkeypatch.chdir(tmp_path)
    method = "method={name: munba, lr: 0.004, epochs: 1, batch_size: 32, at_least: 4, rounds: 1}"
    monkeypatch.setattr(sys, "argv", ["amnesty", "unlearn", "request.yaml", "--set", method])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0, capsys.readouterr().err
    found = look(tmp_path / "request-unlearned")
    assert found.ok, found.text
    scores = read(tmp_path / "request-unlearned", "scores.json")["methods"]["munba"]
    assert scores["forget_accuracy"] < 0.5 < scores["retain_accuracy"]
    assert {"transfer_accuracy/digits", "image_to_text_recall_at_1", "paraphrased_forget_accuracy"} <= scores.keys()
