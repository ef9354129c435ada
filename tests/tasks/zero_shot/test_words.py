import pytest
import torch

from amnesty.errors import InvalidInputError, ModelError
from amnesty.tasks.zero_shot.towers import library_of
from amnesty.tasks.zero_shot.words import SEVEN_TEMPLATES, Reader, checked_templates
from tests import tiny_clip
from tests.tasks.zero_shot.test_classifier import MODELS, Padded, reader_of


def reader(tokenizer=None, model=None):
    model = model or tiny_clip.untrained()
    return Reader(tokenizer or tiny_clip.tokenizer(), library_of(model), model)


class TestReading:
    def test_short_texts_are_not_padded_further_than_they_must(self):
        assert reader()(["one", "the digit one"]).tolist() == [[0, 16, 3, 3, 3], [0, 8, 9, 16, 3]]

    def test_where_padding_tells_it_is_kept(self):
        model = tiny_clip.siglip()
        assert reader(model=model)(["one"]).shape == (1, tiny_clip.LENGTH)

    @pytest.mark.parametrize("kind", MODELS)
    def test_features_are_those_of_the_whole_length(self, kind):
        model = MODELS[kind]()
        ids = reader_of(model, kind)(["a photo of the digit two", "one"])
        pad = 0 if kind == "open_clip" else 3
        whole = torch.nn.functional.pad(ids, (0, tiny_clip.LENGTH - ids.shape[1]), value=pad)
        library = library_of(model)
        torch.testing.assert_close(library.text(model, ids), library.text(model, whole), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("text", ["", "  ", None, 3])
    def test_a_text_must_have_words(self, text):
        with pytest.raises(InvalidInputError, match="must have words"):
            reader()([text])

    @pytest.mark.parametrize("kind", ["CLIP", "open_clip"])
    def test_what_is_too_long_is_refused_not_cut(self, kind):
        read = reader_of(MODELS[kind](), kind)
        assert read(["the " * 8]).shape == (1, 10)
        with pytest.raises(InvalidInputError, match=r"has 11 tokens, the model reads 10: 'the the"):
            read(["the " * 9])


class TestFitting:
    def test_tokens_that_the_model_does_not_know(self):
        words = tiny_clip.tokenizer((*tiny_clip.WORDS, *tiny_clip.COLOURS, *tiny_clip.DIGITS, "purple"))
        with pytest.raises(ModelError, match="does not fit the model: of 'purple' it makes the token 25"):
            reader(words)(["purple"])

    def test_a_tokenizer_without_the_end_that_the_model_reads(self):
        class Endless:
            pad_token_id = 0

            def __call__(self, texts, **_):
                return {"input_ids": [[5, 6] for _ in texts]}

        with pytest.raises(ModelError, match=r"reads a text off at the token 3 .* are \[5, 6\]"):
            reader(Endless())

    def test_a_tokenizer_without_padding(self):
        words = tiny_clip.tokenizer()
        words.pad_token = None
        with pytest.raises(ModelError, match="no padding token"):
            reader(words)

    def test_it_must_be_callable(self):
        with pytest.raises(InvalidInputError, match="must be callable"):
            reader(tokenizer=3)

    def test_one_of_open_clip_that_fails_is_said(self):
        class Broken(Padded):
            def __call__(self, texts):
                raise OSError("no vocabulary")

        with pytest.raises(InvalidInputError, match="cannot read 'a': OSError: no vocabulary"):
            reader(Broken(), tiny_clip.open_clip_model())


class TestPrompts:
    def test_classes_by_templates(self):
        found = reader().prompts(("one", "two"), ("the {}", "a photo of {label}"))
        assert found.shape == (2, 2, 6) and found[1, 0, :4].tolist() == [0, 8, 17, 3]

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            ("one", "two or more classes"),
            (["one"], "two or more classes"),
            (["one", ""], "must be words"),
            (["one", 2], "must be words"),
            (["one", "two", "one"], "names 'one' twice"),
            (["one", "seventeen", "eighteen"], "cannot tell the classes 'seventeen' and 'eighteen' apart"),
        ],
    )
    def test_class_names(self, names, said):
        with pytest.raises(InvalidInputError, match=said):
            reader().prompts(names, ("the {}",))

    @pytest.mark.parametrize("templates", ["the {}", [], ["the digit"], ["{} and {}"], ["{} {label}"], [3]])
    def test_templates(self, templates):
        with pytest.raises(InvalidInputError, match="slot|must list texts"):
            checked_templates(templates)

    def test_those_of_the_notebook_have_slots(self):
        assert len(checked_templates(SEVEN_TEMPLATES)) == 7
