import json
import math
import re

import pytest

from amnesty.errors import ReportError
from amnesty.reports import read_scenarios
from tests.reports.folders import examples, history, scores, write


def test_reads_everything(tmp_path):
    write(tmp_path / "class", steps=history(), shown=examples())
    (scenario,) = read_scenarios(tmp_path)
    assert scenario.scores.value("munba", "forget_accuracy") == 0.01
    assert scenario.scores.gap("munba", "forget_accuracy") == 0.01
    assert len(scenario.history) == 40
    assert scenario.history[6].cosine is None
    assert scenario.history[3].stationary
    assert scenario.examples[0].image.shape == (8, 8)
    assert scenario.featured == "munba"
    assert not scenario.wrong_labels


def test_a_single_scenario_is_found_at_the_top(tmp_path):
    write(tmp_path)
    write(tmp_path / "inner")
    assert [scenario.folder for scenario in read_scenarios(tmp_path)] == [tmp_path]


def test_scenarios_come_by_order_then_by_name(tmp_path):
    for name, order in (("c", 1), ("b", 2), ("a", 2)):
        content = scores()
        content["scenario"]["order"] = order
        write(tmp_path / name, content)
    (tmp_path / "not-a-scenario").mkdir()
    assert [scenario.folder.name for scenario in read_scenarios(tmp_path)] == ["c", "a", "b"]


def test_the_smallest_file_of_the_design_is_enough(tmp_path):
    write(tmp_path / "my_run", {"schema": 1, "methods": {"munba": {"forget_accuracy": 0.5}}})
    (scenario,) = read_scenarios(tmp_path)
    assert scenario.scores.title == "My run"
    assert scenario.scores.reference is None
    assert scenario.things == "examples"


def test_null_and_nan_are_missing_and_texts_of_unknown_keys_are_left_out(tmp_path):
    methods = {"munba": {"forget_accuracy": math.nan, "retain_accuracy": None, "margin": 3.5, "note": "hi"}}
    write(tmp_path, scores(methods=methods, reference=None))
    assert read_scenarios(tmp_path)[0].scores.methods == {"munba": {"margin": 3.5}}


def test_methods_are_sorted_by_gap_with_the_targets_first(tmp_path):
    write(tmp_path)
    found = read_scenarios(tmp_path)[0].scores
    assert found.rows == ("original", "retrain", "munba", "finetune", "brand_new_method")
    assert found.nearest == {"munba"}


def test_missing_folder(tmp_path):
    with pytest.raises(ReportError, match=r"`folder` must be .* is not a folder"):
        read_scenarios(tmp_path / "nowhere")


def test_no_scores_anywhere(tmp_path):
    with pytest.raises(ReportError, match=r"No scores.json in .*amnesty demo"):
        read_scenarios(tmp_path)


def test_invalid_json_names_file_and_line(tmp_path):
    path = write(tmp_path) / "scores.json"
    path.write_text('{"schema": 1,\n"methods": {,}}')
    with pytest.raises(ReportError, match=re.escape(f"{path}, line 2: not valid JSON")):
        read_scenarios(tmp_path)


def test_a_cut_off_history_names_the_line(tmp_path):
    path = write(tmp_path, steps=history(3)) / "history.jsonl"
    path.write_text(path.read_text() + '{"step": 4, "forget_l')
    with pytest.raises(ReportError, match=re.escape(f"{path}, line 4: not valid JSON")):
        read_scenarios(tmp_path)


def test_a_file_that_is_not_text(tmp_path):
    (write(tmp_path) / "scores.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReportError, match="cannot be read"):
        read_scenarios(tmp_path)


@pytest.mark.parametrize("schema", [2, None, "1"])
def test_unknown_schema(tmp_path, schema):
    write(tmp_path, scores(schema=schema))
    with pytest.raises(ReportError, match=f"`schema` is {schema!r}, but .* reads schema 1"):
        read_scenarios(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": []}, "`methods` must be an object, found"),
        ({"methods": {}}, "`methods` must be an object with at least one method"),
        ({"methods": {"munba": 3}}, "`methods.munba` must be an object, found 3"),
        ({"reference": "gone"}, "`reference` must be null or one of"),
        ({"seed": "zero"}, "`seed` must be a whole number, found 'zero'"),
        ({"versions": {"torch": [2]}}, "`versions.torch` must be a string"),
        ({"scenario": "class"}, "`scenario` must be an object"),
        ({"scenario": {"counts": {"forget": 1.5}}}, "`counts.forget` must be a whole number"),
    ],
)
def test_wrong_types_are_named(tmp_path, changes, message):
    write(tmp_path, scores(**changes))
    with pytest.raises(ReportError, match=re.escape(message)):
        read_scenarios(tmp_path)


@pytest.mark.parametrize("value", [99.73, -0.1, "0.5", True, math.inf])
def test_a_fraction_must_be_one(tmp_path, value):
    content = scores()
    content["methods"]["munba"]["forget_accuracy"] = value
    write(tmp_path, content)
    with pytest.raises(ReportError, match=r"`munba.forget_accuracy` must be"):
        read_scenarios(tmp_path)


def test_all_faults_of_a_file_are_reported_at_once(tmp_path):
    content = scores(seed="x", device=[])
    content["methods"]["munba"]["seconds"] = -1
    write(tmp_path, content)
    with pytest.raises(ReportError, match=r"(?s)munba.seconds.*`seed`.*`device`"):
        read_scenarios(tmp_path)


@pytest.mark.parametrize(
    "line", [[1], {"forget_loss": 1.0}, {"step": 1, "cosine": 2.0}, {"step": 1, "stationary": "no"}, {"step": 1.5}]
)
def test_a_wrong_step_names_the_line(tmp_path, line):
    write(tmp_path, steps=[*history(2), line])
    with pytest.raises(ReportError, match=r"history\.jsonl, line 3: "):
        read_scenarios(tmp_path)


@pytest.mark.parametrize(
    "image", [None, [], [[1, 2], [3]], [[0.5]], [[256]], [[-1]], [[[1, 2]]], "pixels", [["a"]], [[None]], [[True]]]
)
def test_wrong_images(tmp_path, image):
    shown = examples(2)
    shown["examples"][1]["image"] = image
    write(tmp_path, shown=shown)
    with pytest.raises(ReportError, match=r"`examples\[1\].image` must be rows of whole numbers"):
        read_scenarios(tmp_path)


def test_wrong_examples(tmp_path):
    write(tmp_path, shown={"examples": {"a": 1}})
    with pytest.raises(ReportError, match="`examples` must be a list"):
        read_scenarios(tmp_path)


def test_wrong_labels_are_noticed(tmp_path):
    write(tmp_path, shown=examples(wrong=True))
    assert read_scenarios(tmp_path)[0].wrong_labels


def test_deep_nesting_is_an_error_not_a_crash(tmp_path):
    (write(tmp_path) / "scores.json").write_text("[" * 100_000)
    with pytest.raises(ReportError, match=r"nested too deeply|not valid JSON"):
        read_scenarios(tmp_path)


def test_whole_numbers_serve_as_labels(tmp_path):
    shown = json.loads(json.dumps(examples(1)).replace('"3"', "3"))
    write(tmp_path, shown=shown)
    assert read_scenarios(tmp_path)[0].examples[0].label == "3"
