"""What a request for an image generator says, read, written and read again."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from amnesty.requests.checking import read_request
from amnesty.requests.concepts_request import ConceptRequest, ConceptSpec, DiffusionSpec, JudgingSpec
from amnesty.requests.faults import RequestError
from amnesty.requests.yaml_file import dump
from amnesty.tasks.diffusion import Drawing
from tests.requests.test_document import captioned, counts, functions, names, options, some, words

PLAIN = {
    "task": "diffusion",
    "model": {"diffusers": "generator"},
    "data": {"retain": {"prompts": ["a dog", 3]}},
    "forget": {"prompts": "a cat"},
}


def read(folder, **changed):
    path = folder / "request.yaml"
    content = {key: value for key, value in {**PLAIN, **changed}.items() if value is not None}
    path.write_text(yaml.safe_dump(content))
    return read_request(path, look=False)


def test_little_need_be_said(tmp_path):
    found = read(tmp_path)
    assert isinstance(found, ConceptRequest) and found.task == "diffusion"
    assert found.forget == {"forget": ConceptSpec(prompts=("a cat",))} and found.kept.prompts == ("a dog", 3)
    assert found.diffusion == DiffusionSpec() and found.evaluation == JudgingSpec()
    assert found.model.name == str(tmp_path / "generator") and found.out == tmp_path / "request-unlearned"


def test_several_concepts_have_names(tmp_path):
    sets = {"cat": {"prompts": ["a cat", "cats"], "anchor": "a dog"}, "three": {"prompts": 3}}
    found = read(tmp_path, forget={"sets": sets})
    assert list(found.forget) == ["cat", "three"] and found.forget["three"].prompts == (3,)


@pytest.mark.parametrize(
    ("beside", "labelled"),
    [
        ({}, False),
        ({"caption_column": "text"}, False),
        ({"label_column": "kind"}, True),
        ({"templates": ["{}"]}, True),
    ],
)
def test_labels_or_captions(tmp_path, beside, labelled):
    found = read(tmp_path, data={"retain": {"parquet": "train.parquet", **beside}})
    assert found.kept.labelled is labelled
    again = yaml.safe_load(dump(found.document))["data"]["retain"]
    assert ("label_column" in again) is labelled and ("caption_column" in again) is not labelled


def test_paths_of_functions_are_absolute(tmp_path):
    judging = {
        "real": {"images": "real"},
        "features": "mine.py:net",
        "judge": {"import": "mine.py:judge"},
        "clip": "c",
    }
    spec = read(tmp_path, evaluation=judging).evaluation
    assert spec.features == f"{tmp_path}/mine.py:net" and spec.judge.model.name == f"{tmp_path}/mine.py:judge"
    assert spec.clip == tmp_path / "c"


def test_values_of_the_command_line_replace_choices(tmp_path):
    path = tmp_path / "request.yaml"
    path.write_text(yaml.safe_dump(PLAIN))
    changes = ["forget.prompts_file=cats.txt", "data.retain.images=pictures", "model.run=earlier"]
    found = read_request(path, changes, look=False)
    assert found.forget["forget"].file == tmp_path / "cats.txt" and found.kept.images.kind == "images"
    assert found.model.kind == "run"


def test_what_a_request_on_a_run_does_not_say_is_that_runs(tmp_path):
    (tmp_path / "earlier").mkdir()
    first = {**PLAIN, "diffusion": {"lora": 3}, "evaluation": {"steps": 7}}
    (tmp_path / "earlier" / "request.yaml").write_text(yaml.safe_dump(first))
    found = read(tmp_path, task=None, data=None, model={"run": "earlier"}, forget={"prompts": "a bird"})
    assert found.task == "diffusion" and found.kept.prompts == ("a dog", 3)
    assert found.diffusion.lora == 3 and found.evaluation.steps == 7 and found.forget["forget"].prompts == ("a bird",)


def test_all_faults_are_told_with_their_lines(tmp_path):
    with pytest.raises(RequestError) as told:
        read(tmp_path, diffusion={"eta": -1, "teacher": "nobody"}, evaluation={"guidance": -1}, sign={})
    text = str(told.value)
    assert "4 faults" in text and all(f"`{key}`" in text for key in ("diffusion.eta", "diffusion.teacher", "sign"))


prompts = words.filter(lambda text: bool(text.strip())) | st.integers(0, 99)
several = st.lists(prompts, min_size=1, max_size=3, unique_by=lambda one: (type(one), one))
pictures = captioned.map(lambda one: {k: v for k, v in one.items() if k != "caption_column"}) | some(
    {"images": words}
)
asked = some({"prompts": several | prompts}, {"images": pictures}) | some({"prompts_file": st.just("a.txt")})
concepts = asked | st.dictionaries(
    names.filter(lambda name: name not in ("forget", "retain", "holdout", "validation", "nonmembers")),
    some({"prompts_file": st.just("a.txt")}, {"anchor": prompts}),
    min_size=1,
    max_size=2,
).map(lambda sets: {"sets": sets})
templates = st.lists(st.sampled_from(["a {}", "{label}"]), min_size=1, max_size=2)
kept = (
    some({"prompts": several})
    | some({"prompts_file": st.just("kept.txt")})
    | some({"images": words}, {"templates": templates, "limit": counts})
    | some({"import": functions}, {"options": options})
    | captioned
    | some({"parquet": words, "templates": templates}, {"label_column": words})
)
shares = st.floats(0, 0.99)
numbers = st.floats(0, 100)
diffusion = some(
    {},
    {
        "train": st.sampled_from(["xattn", "full"]),
        "lora": counts | st.just({"r": 4, "lora_alpha": 8}),
        "forget_loss": st.sampled_from(["esd", "random"]),
        "retain_loss": st.just("distill"),
        "eta": numbers,
        "teacher": st.just("current"),
        "drawing": some({}, {"steps": counts, "guidance": numbers | st.none()}),
        "prompt_drop": shares,
        "image_size": counts | st.tuples(counts, counts).map(list),
        "gradient_checkpointing": st.booleans(),
        "cache": words,
    },
)
judges = some(
    {"import": functions}, {"classes": st.dictionaries(words, counts | words | st.none(), max_size=2)}
) | some(
    {"timm": words, "weights": st.just("a.pt")},
    {"class_names": st.lists(words, min_size=1, max_size=2, unique=True), "among": st.just([3, "cat"])},
)
evaluation = some(
    {}, {"per_prompt": counts, "guidance": numbers, "judge": judges, "clip": words, "nudity": st.booleans()}
) | some({"real": pictures, "features": st.just("inception") | functions})


@given(
    concepts,
    kept,
    diffusion,
    evaluation,
    some({"diffusers": words}) | some({"import": functions}, {"options": options}),
)
def test_written_and_read_again_it_is_the_same(tmp_path_factory, forget, retain, how, judging, model):
    folder = tmp_path_factory.getbasetemp()
    first = read(folder, forget=forget, data={"retain": retain}, diffusion=how, evaluation=judging, model=model)
    (folder / "again.yaml").write_text(dump(first.document))
    again = read_request(folder / "again.yaml", look=False)
    assert again == first and again.document == first.document


def test_a_drawing_is_that_of_the_task(tmp_path):
    found = read(tmp_path, diffusion={"drawing": {"per_prompt": 3}})
    assert found.diffusion.drawing == Drawing(per_prompt=3)
