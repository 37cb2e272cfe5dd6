"""Documents of several sources, each with its share of the tokens."""

from random import Random

from araio.train.blend import Blend
from araio.train.data import Document


class Alike:
    """Documents of one length."""

    pad = 7

    def __init__(self, length):
        self.length = length

    def draw(self, rng):
        return Document([0] * self.length, 1)


def test_each_source_gets_its_share_of_the_tokens():
    shares, lengths = (1.0, 3.0), (10, 100)
    asked = []

    def rate(share, length):
        asked.append(length)
        return share / length

    blend = Blend(
        [
            (Alike(length), lambda share=share, length=length: rate(share, length))
            for share, length in zip(shares, lengths, strict=True)
        ]
    )
    assert not asked, "a source may not be there yet"
    rng = Random(1)
    drawn = [len(blend.draw(rng).ids) for _ in range(4000)]
    tokens = [drawn.count(length) * length for length in lengths]
    assert 0.7 < tokens[1] / sum(tokens) < 0.8
    assert asked == [10, 100], "asked once"
    assert blend.pad == 7
