"""Whole runs of requests for image generators: images, halves, other models, and one request after the other."""

import pytest
import torch
from safetensors.torch import load_file

from amnesty.errors import InvalidInputError
from amnesty.requests.checking import read_request
from amnesty.requests.preparing import prepare
from amnesty.requests.verifying import verify
from tests.requests.whole_runs import names, read

runs = pytest.importorskip("tests.requests.generator_runs", reason="the extras `diffusion` or `vision` are missing")
asked, ran, source, look, opened = runs.asked, runs.ran, runs.source, runs.look, runs.opened
THREE, FOUR, FIVE, KEPT, MORE, STRONG = runs.THREE, runs.FOUR, runs.FIVE, runs.KEPT, runs.MORE, runs.STRONG
FILES, PARTS, WEIGHTS = runs.FILES, runs.PARTS, runs.WEIGHTS


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("generators")


@pytest.fixture(scope="module")
def apart(home):
    """Two concepts, images, adapters that are kept apart."""
    ran(home, "apart", name="apart", **MORE)
    return home / "apart"


@pytest.fixture(scope="module")
def half(home):
    """A run on a pipeline in half precision."""
    runs.folder(home / "half", torch.float16)
    ran(home, "halved", name="halved", model={"diffusers": "half"}, method=STRONG)
    return home / "halved"


class TestImages:
    @pytest.mark.parametrize(("action", "kept", "three"), [("move", 5, 5), ("drop", 5, 4), ("keep", 6, 4)])
    def test_copies_are_found_whatever_they_are_called(self, home, monkeypatch, action, kept, three):
        images = runs.of_three().images

        def with_a_copy(size=16):
            found = runs.captioned()
            found.images[0] = images[2]
            return found

        monkeypatch.setattr(runs, "captioned_with_a_copy", with_a_copy, raising=False)
        data = {"retain": source("captioned_with_a_copy")}
        found = prepare(read_request(asked(home, **{**MORE, "data": data, "duplicates": action})))
        assert (len(found.kept.rows), found.counts["three"]) == (kept, three)
        assert found.duplicates["action"] == action

    def test_copies_are_refused_unless_told_otherwise(self, home, monkeypatch):
        monkeypatch.setattr(runs, "same", lambda: runs.Pictures([KEPT[0]] * 4, name="of three"), raising=False)
        changed = {**MORE, "data": {"retain": source("same")}, "duplicates": "refuse"}
        with pytest.raises(InvalidInputError, match="retain 0 = forget set 'three' 0"):
            prepare(read_request(asked(home, **changed)))


class TestHalf:
    def test_it_is_trained_in_full_and_saved_as_it_was(self, half, home):
        before, after = (load_file(f / "unet" / WEIGHTS) for f in (home / "half", half / "pipeline"))
        assert {t.dtype for t in after.values()} == {torch.float16}
        assert any(not torch.equal(before[name], after[name]) for name in before)
        audit = read(half, "audit.json")
        assert audit["model"]["before"]["about"]["precision"] == ["float16"]
        assert any("float16 in the files: they are trained as float32" in line for line in audit["warnings"])

    def test_the_scores_are_those_of_what_was_saved(self, half):
        found = look(half)
        assert found.ok and "1e-06" in found.text, found.text

    def test_diffusers_opens_it(self, half):
        assert opened(half / "pipeline").unet is not None

    def test_the_next_request_starts_from_it(self, half, home):
        forget = {"prompts": FIVE, "anchor": FOUR}
        ran(home, "halved-next", name="halved-next", model={"run": "halved"}, forget=forget)
        weights = load_file(home / "halved-next" / "pipeline" / "unet" / WEIGHTS)
        assert {t.dtype for t in weights.values()} == {torch.float16}
        assert look(home / "halved-next").ok


def test_one_request_after_the_other(home, apart):
    """The second starts from adapters and merges; the third takes over what it does not say."""
    judge = {**source("judge"), "classes": {**runs.CLASSES, "the digit three": 0}}
    ran(
        home,
        "second",
        name="second",
        task=None,
        model={"run": "apart"},
        data=None,
        forget={"prompts": FOUR, "anchor": KEPT[0]},
        diffusion={"drawing": runs.DRAWING},
        evaluation={**runs.JUDGING, "judge": judge},
    )
    ran(
        home,
        "third",
        name="third",
        task=None,
        model={"run": "second"},
        data=None,
        diffusion=None,
        evaluation=None,
        forget={"prompts": KEPT[1], "anchor": KEPT[0]},
    )
    third = home / "third"
    audit = read(third, "audit.json")
    assert [link["name"] for link in audit["chain"]] == ["apart", "second"]
    assert audit["chain"][0]["concepts"] == {"three": [THREE, "the digit three"], "five": [FIVE]}
    assert audit["task"]["kept"]["prompts"] == [KEPT[0]] and audit["task"]["drawing"] == {
        **runs.DRAWING,
        "batch_size": 16,
    }
    assert [one["name"] for one in audit["rechecked"]] == ["apart", "second"]
    assert all("before this request" in one["reason"] for one in audit["rechecked"])
    assert any("earlier requests had forgotten them" in line for line in audit["warnings"])
    found = look(third)
    assert found.ok, found.text
    with pytest.raises(InvalidInputError, match="was forgotten by an earlier request"):
        prepare(read_request(asked(home, model={"run": "third"}, forget={"prompts": KEPT[0], "anchor": FOUR})))


class TestOtherModels:
    def test_a_function_gives_a_pipeline(self, home):
        ran(home, "mine", name="mine", model={"import": f"{runs.HERE}:pipeline"})
        assert names(home / "mine") == FILES | {"pipeline"} and names(home / "mine" / "pipeline") == PARTS
        ran(home, "mine-next", name="mine-next", model={"run": "mine"}, forget={"prompts": FIVE, "anchor": FOUR})
        found = look(home / "mine-next")
        assert found.ok and read(home / "mine-next", "audit.json")["chain"][0]["name"] == "mine", found.text

    def test_a_function_gives_the_parts_of_a_generator_of_classes(self, home):
        changed = {
            "model": {"import": f"{runs.HERE}:parts"},
            "data": {"retain": {"prompts": [0, 1]}},
            "evaluation": {**runs.JUDGING, "judge": {**source("judge"), "classes": {"0": 0, "1": 1, "3": 1}}},
        }
        ran(home, "classes", name="classes", forget={"prompts": 3, "anchor": 1}, **changed)
        assert names(home / "classes" / "pipeline") == {"unet"}
        ran(
            home,
            "classes-next",
            name="classes-next",
            **{**changed, "model": {"run": "classes"}, "data": {"retain": {"prompts": [0]}}},
            forget={"prompts": 1, "anchor": 0},
        )
        found = look(home / "classes-next")
        assert found.ok, found.text
        assert read(home / "classes-next", "audit.json")["rechecked"][0]["answer"] != "not at hand"

    def test_nobody_needs_to_judge(self, home):
        ran(home, "unjudged", name="unjudged", evaluation={"steps": 2, "guidance": 2.0})
        assert read(home / "unjudged", "scores.json")["methods"].keys() == {"original", "munba"}
        audit = read(home / "unjudged", "audit.json")
        assert audit["task"]["judged"] is None and any("Nobody judges" in line for line in audit["warnings"])
        assert read(home / "unjudged", "drawn.json")["groups"][0]["rows"][0]["after"]
        assert verify(home / "unjudged", data=False).ok
