"""The glyphs: the same for a seed, balanced, and with the head-room that they promise."""

import torch

from bughunt.references.data.glyphs import glyphs


def test_a_seed_gives_the_same_glyphs_again() -> None:
    one, other, third = glyphs(50, 3), glyphs(50, 3), glyphs(50, 4)
    assert torch.equal(one["images"], other["images"])
    assert not torch.equal(one["images"], third["images"])


def test_ordered_glyphs_are_sorted_by_label() -> None:
    labels = glyphs(200, 0, ordered=True)["labels"]
    assert torch.equal(labels, labels.sort().values)
    assert len(labels.unique()) == 10


def test_images_are_bytes_of_twelve_by_twelve() -> None:
    images = glyphs(20, 0)["images"]
    assert images.shape == (20, 12, 12)
    assert images.dtype == torch.uint8


def test_a_linear_reader_gets_some_but_not_all_right() -> None:
    seen, unseen = glyphs(2000, 0), glyphs(1000, 1)
    ones = torch.nn.functional.one_hot(seen["labels"]).double()
    bias = torch.ones(2000, 1, dtype=torch.float64)
    pixels = torch.cat([seen["images"].flatten(1).double() / 255, bias], dim=1)
    weights = torch.linalg.lstsq(pixels, ones).solution
    scores = unseen["images"].flatten(1).double() / 255 @ weights[:-1] + weights[-1]
    right = (scores.argmax(dim=1) == unseen["labels"]).double().mean().item()
    assert 0.6 <= right <= 0.8
