"""The toy that other tests stand on names what it sees, and its words and weights survive a folder."""

import pytest
import torch

from tests import tiny_clip
from tests.tiny_clip import CLIPModel, CLIPProcessor, accuracy, features


def test_words_are_25_tokens_and_come_back():
    words = tiny_clip.tokenizer()
    ids = words(["a photo of the red digit three", "the cat"], padding="max_length")["input_ids"]

    assert len(words) == tiny_clip.config().text_config.vocab_size == 25
    assert [len(row) for row in ids] == [tiny_clip.LENGTH] * 2
    assert words.decode(ids[0], skip_special_tokens=True) == "a photo of the red digit three"
    assert words.convert_ids_to_tokens(ids[1])[:5] == ["<bos>", "the", "<unk>", "<eos>", "<eos>"]


def test_every_caption_fits_the_context_and_is_known():
    ids = tiny_clip.tokenizer()(list(tiny_clip.said().texts))["input_ids"]

    assert max(map(len, ids)) < tiny_clip.LENGTH  # one `<eos>` at least is seen
    assert all(2 not in row for row in ids)


def test_processor_changes_the_range_only():
    data = tiny_clip.images("test")
    pixels, _ = data[[0, 1, 2]]
    made = tiny_clip.processor().image_processor(images=list(pixels), do_rescale=False, return_tensors="pt")

    torch.testing.assert_close(torch.as_tensor(made["pixel_values"]), tiny_clip.normalised(pixels))


def test_captions_are_true_and_say_either_fact():
    data, texts = tiny_clip.images("train"), tiny_clip.captions("train")
    colours = [tiny_clip.COLOURS[c] for c in data.columns["colour"]]
    digits = [tiny_clip.DIGITS[d] for d in data.labels]
    named = [set(text.split()) & {*tiny_clip.DIGITS, *tiny_clip.COLOURS} for text in texts]

    assert all(words and words <= {d, c} for words, d, c in zip(named, digits, colours, strict=True))
    assert {len(words) for words in named} == {1, 2}
    assert any(words <= set(tiny_clip.COLOURS) for words in named)


def test_a_caption_of_one_fact_fits_all_images_with_it():
    said = tiny_clip.said()
    three, red = said.texts.index("the digit three"), said.texts.index("the red digit")
    both = said.texts.index("the red digit three")
    fits = said.fits(torch.tensor([[3, 0], [3, 1], [4, 0]]))

    assert fits[:, three].tolist() == [True, True, False]
    assert fits[:, red].tolist() == [True, False, True]
    assert fits[:, both].tolist() == [True, False, False]


def test_parts_share_no_image():
    train, test = (tiny_clip.grey(part)[0].flatten(1) for part in ("train", "test"))

    assert len(train) + len(test) == 1797
    assert torch.cdist(train, test).min() > 0


def test_trained_names_digits_and_colours():
    model = tiny_clip.trained()

    assert accuracy(model, tiny_clip.images("test"), tiny_clip.TEMPLATES) > 0.85
    assert accuracy(model, tiny_clip.coloured("test"), tiny_clip.COLOUR_TEMPLATES) > 0.97
    assert accuracy(tiny_clip.untrained(), tiny_clip.images("test"), tiny_clip.TEMPLATES) < 0.4


def test_trained_gives_copies():
    first = tiny_clip.trained()
    with torch.no_grad():
        first.visual_projection.weight.zero_()

    assert tiny_clip.trained().visual_projection.weight.abs().sum() > 0


def test_model_and_processor_survive_a_folder(tmp_path):
    path = tiny_clip.folder(tmp_path, tiny_clip.untrained(seed=3))
    model, processor = CLIPModel.from_pretrained(path), CLIPProcessor.from_pretrained(path)
    pixels = tiny_clip.normalised(tiny_clip.images("test").images[:4])
    ids = processor.tokenizer(["a photo of the digit six"], return_tensors="pt")["input_ids"]

    assert tuple(processor.image_processor.image_mean) == (0.5, 0.5, 0.5)
    torch.testing.assert_close(features(model, pixels), features(tiny_clip.untrained(seed=3), pixels))
    torch.testing.assert_close(features(model, ids=ids), features(tiny_clip.untrained(seed=3), ids=ids))


@pytest.mark.parametrize("make", [tiny_clip.open_clip_model, tiny_clip.siglip], ids=["open_clip", "siglip"])
def test_other_kinds_take_the_same_inputs(make):
    model = make()
    pixels = tiny_clip.normalised(tiny_clip.images("test").images[:4])
    ids = tiny_clip.tokenizer()(["the digit six"] * 2, padding="max_length", return_tensors="pt")["input_ids"]
    if make is tiny_clip.siglip:
        found = model(pixel_values=pixels, input_ids=ids).logits_per_image
    else:
        found = model.encode_image(pixels) @ model.encode_text(ids).T

    assert found.shape == (4, 2)
    assert torch.isfinite(found).all()
