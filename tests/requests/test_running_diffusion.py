"""Whole runs of requests for image generators, from a file to a folder that others can open."""

import base64
import io
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from amnesty import cli
from amnesty.errors import InterruptedRunError, InvalidInputError, ModelError
from amnesty.requests.again import reevaluated
from amnesty.requests.checking import read_request
from amnesty.requests.digests import file_hash
from amnesty.requests.preparing import prepare
from amnesty.requests.prompt_hashes import prompt_hash
from amnesty.requests.request import ModelSpec
from tests.requests import audited
from tests.requests.whole_runs import names, read, result, run, stop_after

runs = pytest.importorskip("tests.requests.generator_runs", reason="the extras `diffusion` or `vision` are missing")
asked, ran, quickly, look, opened = runs.asked, runs.ran, runs.quickly, runs.look, runs.opened
THREE, FOUR, KEPT, MORE, STRONG = runs.THREE, runs.FOUR, runs.KEPT, runs.MORE, runs.STRONG
FILES, PARTS, WEIGHTS = runs.FILES, runs.PARTS, runs.WEIGHTS
tiny_diffusion = runs.tiny_diffusion

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("generators")


@pytest.fixture(scope="module")
def first(home):
    """A finished run, its page drawn; not to be changed."""
    run(asked(home, name="first", method=STRONG), home / "first")
    return home / "first"


@pytest.fixture(scope="module")
def apart(home):
    """Two concepts, images, adapters that are kept apart."""
    ran(home, "apart", name="apart", **MORE)
    return home / "apart"


class TestTheFolder:
    def test_it_verifies_with_the_data(self, first):
        found = look(first)
        assert found.ok and "numbers, to within 1e-06" in found.text, found.text

    def test_it_holds_what_diffusers_opens(self, first, home):
        assert names(first) == FILES | {"pipeline"} and names(first / "pipeline") == PARTS
        pipe, before = opened(first / "pipeline"), opened(home / "my-generator")
        assert type(pipe) is type(before)
        drawn, original = (tiny_diffusion.picture(one, [THREE, KEPT[0]]) for one in (pipe, before))
        assert not torch.allclose(drawn, original, atol=1e-3)

    def test_all_but_the_unet_is_as_it_was(self, first, home):
        before, after = home / "my-generator", first / "pipeline"
        same = [path.relative_to(before) for path in before.rglob("*") if path.is_file()]
        assert {path.as_posix() for path in same if file_hash(before / path) != file_hash(after / path)} <= {
            "unet/config.json",
            f"unet/{WEIGHTS}",
        }
        was, now = (load_file(folder / "unet" / WEIGHTS) for folder in (before, after))
        moved = {name for name in was if not torch.equal(was[name], now[name])}
        assert was.keys() == now.keys() and moved and all(".attn2." in name for name in moved)

    def test_the_record_says_what_was_asked(self, first):
        audit = read(first, "audit.json")
        task = audit["task"]
        assert task["name"] == "diffusion" and task["train"] == "xattn" and task["forget_loss"] == "anchor"
        assert task["concepts"]["forget"] == {"prompts": [THREE], "anchor": FOUR, "images": "drawn by the original"}
        assert task["kept"]["prompts"] == KEPT and 0 < task["trainable"] < task["parameters"]
        assert audit["duplicates"] == {
            "action": None,
            "searched": False,
            "reason": "There are no images of what is to be forgotten: they are drawn.",
        }
        assert audit["data"]["parts"]["forget"]["of"] == "prompts"
        before = audit["model"]["before"]
        assert set(before["files"]) == {f"unet/{WEIGHTS}", f"vae/{WEIGHTS}", "text_encoder/model.safetensors"}
        assert (
            before["about"]["precision"] == ["float32"]
            and "scheduler/scheduler_config.json" in before["about"]["beside"]
        )
        assert read(first, "forgotten.json")["sets"] == {"forget": [prompt_hash(THREE).hex()]}

    def test_the_scores_are_of_what_is_drawn(self, first):
        methods = read(first, "scores.json")["methods"]
        assert set(methods) == {"original", "munba"}
        assert methods["munba"]["drawn_forget_accuracy_count"] == 4
        assert methods["munba"]["drawn_forget_probability"] != methods["original"]["drawn_forget_probability"]
        assert "drawn_retain_change" in methods["munba"]

    def test_pictures_of_the_same_seeds_are_there(self, first, home):
        from PIL import Image

        facts = read(first, "drawn.json")
        assert facts["schema"] == 1 and facts["size"] == [16, 16]
        assert [(one["name"], one["forgotten"]) for one in facts["groups"]] == [("forget", True), ("kept", False)]
        (row,) = facts["groups"][0]["rows"]
        assert row["prompt"] == THREE and len(row["seeds"]) == len(row["before"]) == len(row["after"]) == 4
        assert row["before"] != row["after"]
        sizes = {Image.open(io.BytesIO(base64.b64decode(one))).size for one in row["before"] + row["after"]}
        assert sizes == {(16, 16)}

    def test_the_page_is_drawn(self, first):
        page = (first / "report.html").read_text()
        assert THREE in page and "http://" not in page.replace("http://www.w3.org", "")

    def test_another_scheduler_is_found(self, first, home, tmp_path):
        audited.copied(home / "my-generator", tmp_path / "my-generator")
        path = tmp_path / "my-generator" / "scheduler" / "scheduler_config.json"
        path.write_text(path.read_text().replace('"beta_end": 0.02', '"beta_end": 0.03'))
        folder = audited.copied(first, tmp_path / "first")
        text = (folder / "request.yaml").read_text().replace(str(home), str(tmp_path))
        (folder / "request.yaml").write_text(text)
        with pytest.raises(InvalidInputError, match="its configuration, scheduler or tokenizer changed"):
            reevaluated(folder)


class TestGoingOn:
    def test_it_ends_in_the_same_bits(self, home, apart):
        path = asked(home, **MORE, name="apart")
        with pytest.raises(InterruptedRunError):
            quickly(path, home / "again", **stop_after(2))
        assert quickly(path, home / "again", resume=True).facts["sittings"] == 2
        assert result(home / "again") == result(apart)
        assert read(home / "again", "drawn.json") == read(apart, "drawn.json")

    def test_stopped_while_it_is_judged(self, home, first):
        """What was drawn is not drawn again."""
        path, out, told = asked(home, name="first", method=STRONG), home / "judged", []
        steps = len((first / "history.jsonl").read_text().splitlines())

        def stop():
            told.append(None)
            return (out / "checkpoint" / "scoring" / "original" / "manifest.json").exists()

        with pytest.raises(InterruptedRunError, match="while images were drawn"):
            quickly(path, out, stop=stop)
        assert len(told) >= steps and list((out / "checkpoint" / "scoring").rglob("*.png"))
        quickly(path, out, resume=True)
        assert result(out) == result(first) and "checkpoint" not in names(out)


def test_what_is_forgotten_is_taken_out_of_what_is_kept(apart):
    """By caption: two images of three and two of five."""
    audit = read(apart, "audit.json")
    parts = audit["data"]["parts"]
    assert parts["retain"]["count"] == 10 - 4 and parts["retain"]["of"] == "images and prompts"
    assert parts["three"] == {**parts["three"], "count": 4, "of": "images"} and parts["five"]["of"] == "prompts"
    assert audit["task"]["concepts"]["three"]["images"]["count"] == 4
    assert len(read(apart, "forgotten.json")["sets"]["three"]) == 4 + 2
    assert any("4 images of what is kept were taken out" in line for line in audit["warnings"])


class TestAdapters:
    def test_kept_apart_they_are_alone_in_the_folder(self, apart):
        assert names(apart) == FILES | {"adapter"}
        assert names(apart / "adapter") == {"adapter_config.json", "pytorch_lora_weights.safetensors"}
        model = read(apart, "audit.json")["model"]
        assert model["after"]["base"] == model["before"]["tensors"]

    def test_it_verifies_with_everything(self, apart):
        found = look(apart)
        assert found.ok, found.text
        scores = read(apart, "scores.json")["methods"]["munba"]
        assert {"drawn_forget_accuracy/three", "drawn_forget_accuracy/five", "fid_retain"} <= scores.keys()

    def test_a_pipeline_opens_them(self, apart, home):
        from amnesty.requests.pipelines import load_pipeline

        pipe = opened(home / "my-generator")
        pipe.load_lora_weights(apart / "adapter")
        pipe.fuse_lora()
        pipe.unload_lora_weights()
        ours = load_pipeline(ModelSpec(kind="run", name=str(apart))).model.state_dict()
        for name, value in pipe.unet.state_dict().items():
            torch.testing.assert_close(value, ours[name])
        plain = load_file(home / "my-generator" / "unet" / WEIGHTS)
        moved = {name for name, value in plain.items() if not torch.equal(value, ours[name])}
        assert moved and all(re.search(r"\.attn2\.to_[kv]\.", name) for name in moved)

    def test_with_another_model_they_are_refused(self, apart, home, tmp_path):
        audited.copied(home / "my-generator", tmp_path / "my-generator")
        folder = audited.copied(apart, tmp_path / "apart")
        request = folder / "request.yaml"
        request.write_text(request.read_text().replace(str(home), str(tmp_path)))
        path = tmp_path / "my-generator" / "vae" / WEIGHTS
        audited.flipped(path, path.stat().st_size - 2)
        with pytest.raises(InvalidInputError, match="the model to start from changed since the run"):
            reevaluated(folder)
        later = asked(tmp_path, name="next", model={"run": "apart"})
        with pytest.raises(ModelError, match="holds adapters for the model .*it was changed since"):
            prepare(read_request(later))

    def test_merged_they_are_a_plain_model(self, home):
        ran(home, "merged", name="merged", diffusion={"drawing": runs.DRAWING, "lora": {"r": 2, "lora_alpha": 8}})
        was, now = (load_file(f / "unet" / WEIGHTS) for f in (home / "my-generator", home / "merged" / "pipeline"))
        assert {k: v.shape for k, v in was.items()} == {k: v.shape for k, v in now.items()}
        assert any(not torch.equal(was[name], now[name]) for name in was)
        assert look(home / "merged").ok


def test_the_request_of_the_page_runs_with_the_command(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "requests.md").read_text(encoding="utf-8")
    text = next(block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "task: diffusion" in block)
    (tmp_path / "request.yaml").write_text(text)
    runs.folder(tmp_path / "my-generator")
    (tmp_path / "kept.txt").write_text("\n".join(KEPT))
    (tmp_path / "judge.py").write_text(f"from {runs.HERE} import judge as classifier\n")
    monkeypatch.chdir(tmp_path)
    quick = ["method={name: munba, lr: 0.02, epochs: 1, at_least: 4, batch_size: 4}", "diffusion.drawing.steps=2"]
    quick += ["evaluation.steps=2", "evaluation.per_prompt=4"]
    more = [word for one in quick for word in ("--set", one)]
    monkeypatch.setattr(sys, "argv", ["amnesty", "unlearn", "request.yaml", *more])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0, capsys.readouterr().err
    found = look(tmp_path / "request-unlearned")
    assert found.ok, found.text
