import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from amnesty.errors import ReportError
from amnesty.reports import write_request_report
from amnesty.reports.words import SPACE
from amnesty.reports.zero_shot_view import MOST, class_changes, parse_zero_shot, read_zero_shot, zero_shot_view
from tests.reports.request_folders import write
from tests.reports.test_page import EVIL, Page


def png(size=8, kind="PNG"):
    pixels = np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return base64.b64encode(buffer.getvalue()).decode()


def names(classes):
    words = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]
    return [words[c] if c < 10 else f"a quite long class name {c}" for c in range(classes)]


def content(classes=4, forgotten=(2,), images=100, seed=0, empty=()):
    """Counts of a model that was right on nine of ten; afterwards it calls what is forgotten by other names."""
    random = np.random.default_rng(seed)
    told = {"before": [], "after": []}
    for when, right in (("before", 0.9), ("after", 0.88)):
        for true in set(range(classes)) - set(empty):
            shares = np.full(classes, (1 - right) / (classes - 1))
            shares[true] = right
            if when == "after" and true in forgotten:
                shares = np.full(classes, 1 / (classes - 1))
                shares[true] = 0
            drawn = random.multinomial(images, shares / shares.sum())
            told[when] += [[true, called, int(n)] for called, n in enumerate(drawn) if n]
    known = names(classes)
    example = {"image": png(), "before": [["cat", 0.91], ["dog", 0.05]], "after": [["dog", 0.6], ["cat", 0.2]]}
    return {
        "schema": 1,
        "class_names": known,
        "templates": ["a photo of a {}.", "an image of a {}."],
        "forgotten": [known[c] for c in forgotten],
        "parts": ["holdout"],
        "count": images * classes,
        **told,
        "examples": [{"label": "cat", "forgotten": True, **example}, {"label": "dog", "forgotten": False, **example}],
        "notes": ["No unseen images of nobody."],
    }


def page_of(folder, data):
    write(folder)
    (folder / "zero_shot.json").write_text(json.dumps(data))
    return write_request_report(folder).read_text(encoding="utf-8")


def counts(*rows):
    return [list(row) for row in rows]


class TestPage:
    def test_shows_pictures_with_answers_and_the_matrix(self, tmp_path):
        text = page_of(tmp_path, content())
        page, plain = Page(text), Page(text).text.replace(SPACE, " ")
        assert page.tags.count("img") == 2 and "Images of cat were called that in" in plain
        for expected in (
            "forgotten class Before cat 91.00 % dog 5.00 % After dog 60.00 % cat 20.00 %",
            "put into a photo of a {}. and an image of a {}.",
            "of the unseen images of a class",
            "No unseen images of nobody.",
            "Largest changes: cat called cat: -",
        ):
            assert expected in plain, expected
        assert len(page.ids) == len(set(page.ids)) and "script" not in page.tags
        assert "zero_shot.json" in plain  # among the files with their hashes

    def test_a_run_without_it_says_nothing_of_it(self, tmp_path):
        text = write_request_report(write(tmp_path)).read_text(encoding="utf-8")
        assert "What images are called" not in text and ".looks" not in text

    def test_the_same_file_gives_the_same_bytes(self):
        one, other = (zero_shot_view(parse_zero_shot(content(), "x")) for _ in range(2))
        assert one == other and str(one.matrix) == str(other.matrix)

    def test_texts_stay_texts_and_pictures_are_made_anew(self, tmp_path):
        data = content(2, (0,))
        data["class_names"], data["forgotten"] = [EVIL, "$x^2$"], [EVIL]
        data["templates"], data["notes"], data["parts"] = [EVIL], [EVIL], [EVIL]
        data["examples"][0] |= {"label": EVIL, "before": [[EVIL, 1.0]]}
        content_of_image = base64.b64decode(data["examples"][0]["image"]) + EVIL.encode()
        data["examples"][0]["image"] = base64.b64encode(content_of_image).decode()
        text = page_of(tmp_path, data)
        page = Page(text)
        assert "script" not in page.tags and page.tags.count("img") == 2
        assert base64.b64encode(content_of_image).decode() not in text
        assert page.text.count("<script>alert(1)</script>") > 5


class TestMatrix:
    def test_is_after_minus_before_by_row(self):
        data = content(3, (0,))
        data["before"] = counts((0, 0, 8), (0, 1, 2), (1, 1, 5), (2, 2, 4))
        data["after"] = counts((0, 1, 10), (1, 1, 4), (1, 2, 1), (2, 2, 4))
        changes = class_changes(parse_zero_shot(data, "x"))
        assert np.allclose(changes.points, [[-80, 80, 0], [0, -20, 20], [0, 0, 0]])
        view = zero_shot_view(parse_zero_shot(data, "x"))
        said = " ".join(view.sentences).replace(SPACE, " ")
        assert "ant were called that in 80.00 % of cases before and are in 0.00 % after" in said
        assert "is now bee (100.00 %, 20.00 % before)" in said
        assert f"bee lost most: {'−'}20.00 points" in said  # noqa: RUF001
        numbers = re.findall(r">(−?\d+)<", str(view.matrix))  # noqa: RUF001
        assert sorted(numbers) == sorted(["−80", "80", "−20", "20"])  # noqa: RUF001

    def test_a_class_without_images_is_hatched_and_not_zero(self):
        run = parse_zero_shot(content(4, (2,), empty=(1,)), "x")
        assert np.isnan(class_changes(run).points[1]).all()
        assert "<pattern" in str(zero_shot_view(run).matrix)

    @pytest.mark.parametrize("classes", [2, 40])
    def test_up_to_forty_classes_stand_by_themselves(self, classes):
        view = zero_shot_view(parse_zero_shot(content(classes, (0,)), "x"))
        assert view.joined == 0 and str(view.matrix).count(">ant<") == 2

    def test_of_more_the_forgotten_and_the_most_changed_stand_by_themselves(self):
        run = parse_zero_shot(content(60, (57, 3)), "x")
        changes = class_changes(run)
        assert len(changes.names) == MOST and changes.names[-1] == "21 others"
        assert {names(60)[57], "dog"} <= set(changes.names) and sum(changes.forgotten) == 2
        assert np.allclose(changes.before.sum(axis=1), 1) and np.allclose(changes.after.sum(axis=1), 1)
        assert zero_shot_view(run).joined == 21

    def test_a_model_that_did_not_change_has_no_numbers(self):
        data = content()
        data["after"] = data["before"]
        view = zero_shot_view(parse_zero_shot(data, "x"))
        assert "Nothing changed." in view.matrix and not re.findall(r">−?\d+<", str(view.matrix))  # noqa: RUF001
        assert view.sentences[-1] == "None of the kept classes is recognised less often than before."


def with_(**changes):
    return {**content(), **changes}


def example(**changes):
    return with_(examples=[{**content()["examples"][0], **changes}])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], r"`the file` must be an object, found \[\]"),
        (with_(schema=2), "`schema` is 2, but this version of Amnesty reads schema 1"),
        ({}, "`schema` is None"),
        (with_(class_names=["ant", "ant"]), "`class_names` must be two or more different names"),
        (with_(class_names="ant"), "`class_names` must be a list"),
        (with_(forgotten=["wolf"]), "`forgotten` must be some of `class_names`, found 'wolf'"),
        (with_(before=[[0, 4, 1]]), r"`before` must be a list of .*classes below 4 .*found \[0, 4, 1\]"),
        (with_(before=[[0, 0, True]]), "`before` must be a list of"),
        (with_(before=[[0, 0, 1.5]]), "`before` must be a list of"),
        (with_(after=[[0, 0]]), "`after` must be a list of"),
        (with_(after=[]), "`after` must be a list of"),
        (with_(after=[[0, 0, 1]]), "`after` must be of as many images of each class as `before`"),
        (with_(examples=None), "`examples` must be a list"),
        (with_(examples=[3]), r"`examples\[0\]` must be an object"),
        (example(before=[["cat", 2.0]]), r"`examples\[0\].before` must be a probability"),
        (example(before=["cat"]), r"must be a list of \[label, probability\]"),
        (example(image="?"), r"`examples\[0\].image` must be a PNG in base64"),
        (example(image=None), "must be a PNG in base64"),
        (example(image=base64.b64encode(b"<svg/>").decode()), "must be a PNG in base64"),
        (example(image=png(kind="BMP")), "must be a PNG in base64"),
        (example(image=png(200)), "of at most 128 pixels a side"),
        (example(image=png(40)[:400]), "must be a PNG in base64"),
        (with_(notes=[{}]), "`notes` must be a string"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named(tmp_path, data, says):
    write(tmp_path)
    (tmp_path / "zero_shot.json").write_text(json.dumps(data))
    with pytest.raises(ReportError, match=rf"zero_shot\.json: .*{says}"):
        write_request_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_file_that_is_cut_off_is_named_and_none_is_none(tmp_path):
    assert read_zero_shot(tmp_path / "zero_shot.json") is None
    (tmp_path / "zero_shot.json").write_text('{"schema": 1,')
    with pytest.raises(ReportError, match=r"zero_shot\.json, line 1: not valid JSON"):
        read_zero_shot(tmp_path / "zero_shot.json")
