import pytest

from amnesty.errors import InvalidInputError, UnknownNameError
from amnesty.tasks.diffusion import Concept, Drawing
from tests.tiny_diffusion import FIVE, FOUR, SIX, THREE, Pictures, task


class TestConcept:
    def test_one_prompt_or_several(self):
        assert Concept(THREE).asked == (THREE,) and Concept(7).asked == (7,)
        assert Concept([THREE, FOUR, THREE]).asked == (THREE, FOUR)
        assert Concept(iter([1, 2])).asked == (1, 2)

    @pytest.mark.parametrize(
        ("prompts", "anchor", "said"),
        [
            ("", None, "must not be empty, found ''.*guidance needs it"),
            ("  \t", None, "must not be empty"),
            ([THREE, ""], None, "must not be empty"),
            ([], None, "at least one prompt"),
            (-1, None, "counted from 0, found -1"),
            (True, None, "found True"),
            (1.5, None, "must be a text or the number of a class, found 1.5"),
            ([None], None, "found None"),
            (None, None, "found None"),
            (THREE, "", "must not be empty"),
            (THREE, THREE, "'the digit three' is to be forgotten, and cannot be the anchor too"),
            ([THREE, FOUR], FOUR, "cannot be the anchor too"),
            (0, 2.0, "found 2.0"),
        ],
    )
    def test_bad_input(self, prompts, anchor, said):
        with pytest.raises(InvalidInputError, match=said):
            Concept(prompts, anchor)


class TestSeveral:
    def test_one_alone_is_called_forget(self):
        assert list(task(forget=Concept(THREE, FOUR, Pictures(2))).concepts) == ["forget"]

    @pytest.mark.parametrize(
        ("forget", "said"),
        [
            (
                {"a": Concept(THREE), "b": Concept([FOUR, THREE])},
                "'the digit three' belongs to two concepts, 'a' and",
            ),
            (
                {"a": Concept(THREE, FOUR), "b": Concept(FOUR)},
                "The anchor 'the digit four' of 'a' is to be forgotten",
            ),
            ({}, "must be an `amnesty.Concept`, or several by name; found {}"),
            ({"a": THREE}, "must be an `amnesty.Concept`"),
            (THREE, "must be an `amnesty.Concept`"),
            (None, "must be an `amnesty.Concept`"),
            ({"retain": Concept(THREE), "b": Concept(FOUR)}, "must not name a set 'retain'"),
        ],
    )
    def test_bad_input(self, forget, said):
        with pytest.raises(InvalidInputError, match=said):
            task(forget=forget, retain=[FIVE, SIX])


class TestSettings:
    @pytest.mark.parametrize(
        ("options", "error", "said"),
        [
            ({"forget_loss": "achor"}, UnknownNameError, "forget loss 'achor'. Did you mean 'anchor'"),
            ({"retain_loss": "denoised"}, UnknownNameError, "retain loss 'denoised'. Did you mean 'denoise'"),
            ({"teacher": "orignal"}, UnknownNameError, "teacher 'orignal'. Did you mean 'original'"),
            ({"train": "xatn"}, UnknownNameError, "Did you mean 'xattn'"),
            ({"eta": -1.0}, InvalidInputError, "`eta` must be at least 0"),
            ({"eta": float("nan")}, InvalidInputError, "`eta` must be"),
            ({"prompt_drop": 1.0}, InvalidInputError, r"share in \[0, 1\), found 1.0"),
            ({"prompt_drop": -0.1}, InvalidInputError, "`prompt_drop` must be"),
            ({"image_size": 15}, InvalidInputError, "multiples of 2 for this model, found 15"),
            ({"image_size": 0}, InvalidInputError, "`image_size` must be pixels"),
            ({"image_size": True}, InvalidInputError, "`image_size` must be pixels"),
            ({"image_size": (16, 16, 3)}, InvalidInputError, "`image_size` must be pixels"),
            ({"image_size": "16"}, InvalidInputError, "`image_size` must be pixels"),
            ({"lora": 0}, InvalidInputError, "refused by peft"),
            ({"lora": {"rank": 4}}, InvalidInputError, "refused by peft"),
            (
                {"forget": Concept(THREE, None, Pictures(2)), "forget_loss": "anchor"},
                InvalidInputError,
                "needs an anchor for every concept, and 'forget' has none",
            ),
        ],
    )
    def test_bad_input(self, options, error, said):
        with pytest.raises(error, match=said):
            task(**options)

    @pytest.mark.parametrize("options", [{"per_prompt": 0}, {"steps": 2.5}, {"batch_size": True}])
    def test_bad_drawing(self, options):
        with pytest.raises(InvalidInputError, match=f"`{next(iter(options))}` must be a whole number of at least 1"):
            Drawing(**options)

    def test_guidance_of_drawing_is_refused_before_anything_is_drawn(self):
        with pytest.raises(InvalidInputError, match="`guidance` must be at least 0"):
            task(retain=[FIVE], drawing=Drawing(guidance=-1.0))

    def test_defaults_follow_what_is_given(self):
        without = task(forget=Concept(THREE, None, Pictures(2)))
        assert (without.forget_loss, without.retain_loss) == ("esd", "distill")
        assert (task().forget_loss, task(retain=[FIVE]).retain_loss) == ("anchor", "distill")
