import base64
import json

import pytest

from amnesty.errors import ReportError
from amnesty.reports import write_request_report
from amnesty.reports.drawn import in_words, parse_drawn, read_drawn
from tests.reports.generator_folders import THREE, concept, drawn, kept, png, row, write


def changed(**fields):
    """A file whose only prompt has other fields."""
    return drawn(concept({**row(THREE), **fields}))


def test_what_a_file_says():
    said = row(THREE, judged=("three", "three", "eight"))
    found = parse_drawn(drawn(concept(said, name="digit", prompts=9), kept(row(4, 2)), judge="a network"), "x")
    gone, stays = found.groups
    assert (gone.name, gone.forgotten, gone.prompts, stays.forgotten, found.concepts) == (
        "digit",
        True,
        9,
        False,
        ("digit",),
    )
    (one,) = gone.rows
    assert one.wanted == "three" and one.before.said[0] == ("three", 0.91)
    assert one.after.said == (("eight", 0.6), None, None, None)
    assert [image.shape for image in one.after.images] == [(8, 8, 3)] * 4 and len(one.seeds) == 4
    assert stays.rows[0].prompt == 4 and stays.rows[0].before.said == ()
    assert (found.steps, found.guidance, found.size, found.judge) == (20, 1.5, (8, 8), "a network")


def test_pictures_and_settings_may_be_missing():
    content = drawn(concept(row(THREE, pictures=False), anchor=None), guidance=None, size=None, steps=None)
    found = parse_drawn(content, "x")
    assert found.groups[0].rows[0].before.images == () and found.groups[0].anchor is None and found.size is None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], r"`the file` must be an object, found \[\]"),
        (drawn(schema=2), "`schema` is 2, but this version of Amnesty reads schema 1"),
        ({}, "`schema` is None"),
        (drawn(groups=3), "`groups` must be a list"),
        (drawn(groups=[3]), r"`groups\[0\]` must be an object"),
        (drawn(steps=0), "`steps` must be a whole number above 0"),
        (drawn(steps=True), "`steps` must be a whole number above 0"),
        (drawn(guidance="7"), "`guidance` must be a number"),
        (drawn(guidance=1e999), "`guidance` must be a finite number"),
        (drawn(size=[8]), "`size` must be height and width in pixels"),
        (drawn(size=[8, -8]), "`size` must be height and width in pixels"),
        (drawn(scheduler=[]), "`scheduler` must be a string"),
        (drawn(notes=[{}]), "`notes` must be a string"),
        (drawn({**concept(row(THREE)), "forgotten": "no"}), r"`groups\[0\].forgotten` must be true or false"),
        (drawn(concept(row(THREE), anchor=[])), r"`groups\[0\].anchor` must be a prompt, or the number of a class"),
        (drawn(concept(row(THREE), prompts=-1)), r"`groups\[0\].prompts` must be a whole number above 0"),
        (drawn(concept(3)), r"`groups\[0\].rows\[0\]` must be an object"),
        (changed(prompt=None), r"rows\[0\].prompt` must be a prompt, or the number of a class"),
        (changed(prompt=True), "must be a prompt, or the number of a class"),
        (changed(prompt=-1), "must be a prompt, or the number of a class"),
        (changed(seeds=["1"]), r"rows\[0\].before` must be an image of each of the 1 seeds"),
        (changed(seeds=[[], "2", "3", "4"]), r"rows\[0\].seeds` must be a string"),
        (changed(after=None), r"rows\[0\].after` must be an image of each of the 4 seeds"),
        (changed(after=[png()] * 3), r"rows\[0\].after` must be an image of each of the 4 seeds"),
        (changed(before="?"), r"rows\[0\].before` must be a list"),
        (changed(before=["?"] * 4), r"rows\[0\].before` must be a PNG in base64"),
        (changed(before=[base64.b64encode(b"<svg/>").decode()] * 4), "must be a PNG in base64"),
        (changed(before=[png(kind="BMP")] * 4), "must be a PNG in base64"),
        (changed(before=[png(130)] * 4), "of at most 128 pixels a side"),
        (changed(before=[png(40)[:400]] * 4), "must be a PNG in base64"),
        (changed(judged=[]), r"rows\[0\].judged` must be an object"),
        (changed(judged={"before": []}), r"judged.before` must be an answer for each of the 4 images"),
        (changed(judged={"after": ["four"] * 4}), r"judged.after` must be null or \[label, probability\]"),
        (changed(judged={"after": [["four", 2.0]] * 4}), r"judged.after` must be a probability in \[0, 1\]"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named(tmp_path, data, says):
    write(tmp_path, data)
    with pytest.raises(ReportError, match=rf"drawn\.json: .*{says}"):
        write_request_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_file_that_is_cut_off_is_named_and_none_is_none(tmp_path):
    assert read_drawn(tmp_path / "drawn.json") is None
    (tmp_path / "drawn.json").write_text(json.dumps(drawn())[:-9])
    with pytest.raises(ReportError, match=r"drawn\.json, line 1: not valid JSON"):
        read_drawn(tmp_path / "drawn.json")


def test_a_long_prompt_is_cut():
    assert in_words("a" * 200) == f"“{'a' * 200}”" and in_words("a" * 201) == f"“{'a' * 200}…”"
