"""What to forget and what to keep: loading, splits, and batches that meet in pairs."""

from amnesty.data.batches import PAIRINGS, Batches, Meeting, Pairing, pair, steps
from amnesty.data.examples import (
    INPUT_KEYS,
    LABEL_KEYS,
    Examples,
    batch_hashes,
    class_names,
    content_hash,
    example_hash,
    input_and_label,
    known_columns,
    read_column,
)
from amnesty.data.loading import load_digits, load_images
from amnesty.data.poison import Canaries, mislabel, plant_canaries
from amnesty.data.split import Classes, Column, Fraction, IndexFile, Indices, Selector, Split, split
from amnesty.data.together import Joined, Together, WithLabels, dataset_of, sampled

__all__ = [
    "INPUT_KEYS",
    "LABEL_KEYS",
    "PAIRINGS",
    "Batches",
    "Canaries",
    "Classes",
    "Column",
    "Examples",
    "Fraction",
    "IndexFile",
    "Indices",
    "Joined",
    "Meeting",
    "Pairing",
    "Selector",
    "Split",
    "Together",
    "WithLabels",
    "batch_hashes",
    "class_names",
    "content_hash",
    "dataset_of",
    "example_hash",
    "input_and_label",
    "known_columns",
    "load_digits",
    "load_images",
    "mislabel",
    "pair",
    "plant_canaries",
    "read_column",
    "sampled",
    "split",
    "steps",
]
