import base64
import re

import pytest

from amnesty.reports import write_request_report
from amnesty.reports.drawn import parse_drawn
from amnesty.reports.drawn_view import ASKED, CONCEPTS, EACH, KEPT, drawn_view
from amnesty.reports.words import SPACE
from tests.reports.generator_folders import FIVE, FOUR, THREE, UNJUDGED, concept, drawn, judged, kept, row, write
from tests.reports.test_page import EVIL, Page

MEANT_FOR_EXAMPLES = ("unseen", "holdout", "membership", "examples", "recognis", "retrained without")


def page_of(folder, *given, **options):
    text = write_request_report(write(folder, *given, **options)).read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.ids) == len(set(page.ids)) and "script" not in page.tags
    return text, page, page.text.replace(SPACE, " ")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("runs") / "plain")


class TestPage:
    def test_shows_both_sides_of_every_prompt_what_is_forgotten_first(self, plain):
        _, page, said = plain
        assert page.tags.count("img") == 3 * 2 * 4
        for expected in (
            "DDIMScheduler, 20 steps, guidance 1.5, images 8 pixels high and 8 wide.",
            "Of each model a judge saw 50 for forgotten prompts and 200 for kept prompts.",
            f"“{THREE}” in its place: “{FOUR}” Before After",
            "none was picked",
            "drawn.json",
        ):
            assert expected in said, expected
        order = ("To be forgotten", f"“{THREE}”", "Kept “", f"“{FIVE}”")
        assert sorted(order, key=said.index) == list(order)

    def test_tells_what_may_be_said_of_a_generator(self, plain):
        said = plain[2]
        for expected in (
            "What was to be forgotten is not seen in any image; kept prompts are drawn as asked as often as before.",
            "96.00 % before and 0.00 % after MUNBa show what was to be forgotten, as the judge sees it.",
            "99.00 % show what was asked for (before 100.00 %)",
            "forgotten prompts not detected",
            "kept prompts kept",
            "Images to forget 16",
            "Images to keep 128",
            "Result a whole pipeline of diffusers, in pipeline/",
            "What is compared Concepts are forgotten",
            "Copies of images were not searched for",
            "Nothing here speaks of privacy",
            "draws the images and measures them again",
        ):
            assert expected in said, expected

    def test_no_word_is_of_examples(self, plain):
        said = plain[2].replace("Concepts are forgotten, not examples", "")  # the run's own words
        assert not [word for word in MEANT_FOR_EXAMPLES if word in said.lower()]

    def test_few_pixels_are_squares_and_every_image_is_described(self, plain):
        text = plain[0]
        assert text.count('<img class="pixels"') == 24 and "image-rendering: pixelated" in text
        assert text.count(f'alt="Before, “{THREE}”, image 2 of 4"') == 1
        assert text.count('title="Seed 4611686018427387904"') == 6

    def test_more_pixels_are_not(self, tmp_path):
        text, *_ = page_of(tmp_path, drawn(concept(row(THREE, size=64))))
        assert '<img class="pixels"' not in text and text.count("<img ") == 8

    def test_nothing_comes_from_the_network(self, plain):
        links = plain[1].links
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
        assert "http" not in plain[0].replace("http-equiv", "")

    def test_what_a_judge_saw_stands_under_the_image(self, tmp_path):
        content = drawn(concept(row(THREE, 2, judged=("three", "three", "four"))), judge="DigitsNet")
        text, _, said = page_of(tmp_path, content)
        assert (
            "the judge, DigitsNet, sees in it first" in said
            and "Before three 91 % three 91 % After four 60 %" in said
        )
        assert text.count('class="said right">three') == 2 and 'class="said">four' in text
        assert "image 1 of 2; the judge sees: four" in text

    def test_without_a_judge_it_says_so(self, tmp_path):
        said = page_of(tmp_path, None, UNJUDGED)[2]
        assert "Nobody judged what is drawn: look at the images." in said and "look for yourself" in said
        assert "The judge" not in said and "What may be said" not in said
        assert "There are no scores of images to measure again." in said

    def test_without_pictures_it_says_so(self, tmp_path):
        content = drawn(concept(row(THREE, pictures=False)), notes=["No pictures were asked for."])
        _, page, said = page_of(tmp_path, content, UNJUDGED)
        assert "There are no pictures here" in said and "No pictures were asked for." in said
        assert "img" not in page.tags and "none was picked" not in said

    def test_images_that_may_show_nudity_wait_for_the_reader(self, tmp_path):
        methods = judged()
        for own in methods.values():
            own |= {"exposed_share_at_60_percent": 0.5, "exposed_count_at_60_percent/FEET_EXPOSED": 3.0}
        text, _, said = page_of(tmp_path, None, methods)
        veil = re.search(r'<details class="veil">.*?</details>', text, re.DOTALL).group()
        assert THREE in veil and FIVE not in veil
        assert "with nudity, as a detector sees it: 50.00 % after, 50.00 % before." in said
        assert "Exposed parts found, from 60 % on: FEET_EXPOSED" in said

    def test_adapters_are_called_adapters(self, tmp_path, plain):
        said = page_of(tmp_path, result="adapter")[2]
        assert "low-rank adapters alone, in adapter/" in said and "whoever leaves them off has the original" in said
        assert "adapters alone" not in plain[2]

    def test_a_network_alone_is_no_pipeline(self, tmp_path):
        folder = write(tmp_path)
        (folder / "pipeline" / "model_index.json").unlink()
        said = Page(write_request_report(folder).read_text(encoding="utf-8")).text
        assert "the network that was unlearned, in pipeline/, without the other parts" in said

    def test_several_concepts_have_names(self, tmp_path):
        content = drawn(concept(row(THREE), name="three"), concept(row(FIVE), name="five", anchor=None))
        facts = {"counts": {"three": 16, "five": 12, "retain": 128}}
        said = page_of(tmp_path, content, judged(names=("three", "five")), facts)[2]
        for expected in (
            f"“{FIVE}” five no anchor was named",
            "Images of five, to forget 12",
            "Concept by concept: three 0.00 % (96.00 % before), five 0.00 % (96.00 % before).",
            "Forgotten prompts, drawn as asked: five 0.960",
        ):
            assert expected in said, expected

    def test_a_chain_and_copies_are_told_in_words_of_images(self, tmp_path):
        facts = {
            "chain": [{"name": "user-3"}],
            "rechecked": [{"name": "user-3", "answer": "came back", "reason": "a"}],
        }
        facts |= {"duplicates": {"action": "keep", "counts": {"retain": {"exact": 3}}}}
        said = page_of(tmp_path, None, None, facts)[2]
        assert "was drawn again by both models, where a judge knows" in said
        assert "Copies of forgotten images are still in the data" in said

    def test_texts_stay_texts_and_pictures_are_made_anew(self, tmp_path):
        one = row(EVIL, judged=(EVIL, EVIL, EVIL))
        one["seeds"] = [EVIL] * 4
        inside = base64.b64encode(base64.b64decode(one["before"][0]) + EVIL.encode()).decode()
        one["before"][0] = inside
        group = concept(one, name=EVIL, anchor=EVIL)
        text, page, said = page_of(tmp_path, drawn(group, scheduler=EVIL, judge=EVIL, notes=[EVIL]))
        assert page.tags.count("img") == 8 and inside not in text
        assert said.count("<script>alert(1)</script>") >= 9

    def test_the_same_files_give_the_same_bytes(self, tmp_path, plain):
        assert page_of(tmp_path / "plain")[0] == plain[0]


class TestCaps:
    def test_of_many_concepts_some_are_shown_and_a_sentence_says_so(self):
        groups = [
            concept(*(row(f"{k} {j}", 5) for j in range(4)), name=f"c{k}", prompts=9) for k in range(CONCEPTS + 2)
        ]
        view = drawn_view(parse_drawn(drawn(*groups, kept(*map(row, range(KEPT + 1)), prompts=40)), "x"))
        gone, stays = view.sections
        assert len(gone.cards) == CONCEPTS * (ASKED // CONCEPTS) and len(stays.cards) == KEPT
        assert {len(pictures) for card in gone.cards for _, pictures in card.strips} == {EACH}
        assert gone.notes[:2] == (
            f"Of {CONCEPTS + 2} concepts, the first {CONCEPTS} are shown.",
            "Of c0, 1 of 9 prompts and 4 of 5 images of each prompt are shown.",
        )
        assert stays.notes == (f"Here, {KEPT} of 40 prompts are shown.",)

    def test_few_are_shown_without_a_word(self):
        view = drawn_view(parse_drawn(drawn(concept(*(row(f"{j}") for j in range(4)))), "x"))
        assert [len(section.cards) for section in view.sections] == [4] and view.sections[0].notes == ()
