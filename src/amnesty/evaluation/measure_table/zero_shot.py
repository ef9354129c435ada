"""Measures of models of two towers."""

from __future__ import annotations

from functools import partial

from amnesty.evaluation.measure import UNTOUCHED, Measure
from amnesty.evaluation.measure_table.membership import attack

_retrieval = partial(Measure, aim="higher", needs="captions", blind=f"{UNTOUCHED}; it says nothing of forgetting")

ZERO_SHOT: tuple[Measure, ...] = (
    Measure(
        "transfer_accuracy",
        "Accuracy on other data sets",
        "Transfer",
        "Share of correct answers of a zero-shot model on data sets that are no part of the request, each asked by "
        "its own class names and templates; the mean over the data sets, which count alike. What the model is good "
        "for beyond these classes. Each data set by itself stands among the further measures.",
        aim="higher",
        needs="transfers",
        shown=True,
        blind=f"{UNTOUCHED}; and it sees only the classes of these data sets",
    ),
    Measure(
        "transfer_change",
        "Change of accuracy on other data sets",
        "Transfer change",
        "That accuracy minus the original's, counted example by example.",
        aim="higher",
        needs="transfers",
        low=-1.0,
        compared=False,
        blind=f"{UNTOUCHED}; and it sees only the classes of these data sets",
    ),
    Measure(
        "paraphrased_forget_accuracy",
        "Forget accuracy, in other words",
        "Paraphrased",
        "Share of the forgotten training data that is still recognised when the model is asked with other templates, "
        "all of them averaged. Above the forget accuracy: what was forgotten is the wording.",
        aim="lower",
        needs="paraphrases",
        shown=True,
        blind="the lowest is reached by a destroyed model; and other words may bring back more",
    ),
    Measure(
        "best_paraphrase_forget_accuracy",
        "Forget accuracy, in the words that bring back most",
        "Worst words",
        "The same with one of these templates alone, the one that recognises most. As the highest of several it is "
        "a little too high by chance: compare it with that of the original or of a retrained model.",
        aim="lower",
        needs="paraphrases",
        blind="the lowest is reached by a destroyed model; and other words may bring back more",
    ),
    Measure(
        "probe_forget_accuracy",
        "Forgotten class, by a linear probe",
        "Probe",
        "Share of never-seen images of the forgotten class that a linear classifier names right, which was trained "
        "on the image features of retained and forgotten training images, classes weighing alike. Where it is as "
        "high as in the original while the forget accuracy fell, the class was hidden from the words and is still in "
        "the image features. Training the text tower alone cannot change it.",
        aim="reference",
        needs="zero-shot",
        shown=True,
        blind="a model that never met the class lets a probe learn it too; a destroyed model is lowest",
    ),
    *(
        _retrieval(
            f"{way}_recall_at_{k}",
            f"{title}, first {k}" if k > 1 else title,
            f"{short}@{k}",
            f"Share of {asked} for which {answer} is {place} {among}. The same text under several images is right "
            "for all of them; an answer that is as near as the right one counts as nearer. A caption of another "
            "image counts as wrong even where it would be true.",
        )
        for k, place in ((1, "the nearest"), (5, "one of the five nearest"))
        for way, title, short, asked, answer, among in (
            ("image_to_text", "Captions found by image", "I2T", "images", "a caption of theirs", "of all captions"),
            ("text_to_image", "Images found by caption", "T2I", "captions", "an image of theirs", "of all images"),
        )
    ),
    Measure(
        "image_feature_drift",
        "Drift of image features",
        "Image drift",
        "One minus the mean cosine between this model's and the original's features of images that are kept: unseen "
        "ones, or retained ones where there are none. 0 where the image tower did not move.",
        aim="lower",
        needs="zero-shot",
        high=2.0,
        compared=False,
        blind=f"{UNTOUCHED}; and features that turn together change no answer",
    ),
    Measure(
        "text_feature_drift",
        "Drift of text features",
        "Text drift",
        "One minus the mean cosine between this model's and the original's features of the prompts of the classes "
        "that are kept. 0 where the text tower did not move.",
        aim="lower",
        needs="zero-shot",
        high=2.0,
        compared=False,
        blind=f"{UNTOUCHED}; and it sees only the words of these classes",
    ),
    attack(
        "pair_membership_auc",
        "Membership AUC of image-text pairs",
        "Pair AUC",
        "How often has a forgotten pair of image and caption a higher cosine than a never-seen one? 50 % is a coin "
        "toss. Above: the pairs are still known, or the two sets of captions differ in kind, which this attack "
        "cannot tell apart: compare it with the original's.",
        needs="captions",
    ),
)
