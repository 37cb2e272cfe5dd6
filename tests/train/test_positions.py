"""Positions with skips: what they reach, what they leave together, and where they get into a batch."""

from itertools import pairwise
from random import Random

import pytest

from araio.train.data import IGNORE, BatchStream, Document, DocumentSource, Encoder
from araio.train.positions import MOST_SKIPS, skip_positions

SPAN = 131_072
LINE_END = 9


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return Encoder(tokenizer)


def listed(lines=20, learned=12):
    """Lines of five tokens, and behind them what is learned."""
    return Document([1, 2, 3, 4, LINE_END] * lines + [5] * learned, 5 * lines)


def gaps(positions):
    return [after - before for before, after in pairwise(positions)]


@pytest.mark.parametrize("seed", range(30))
def test_skips_lie_between_lines_of_the_question_and_nowhere_else(seed):
    document = listed()
    stretched = skip_positions(document, {LINE_END}, SPAN, Random(seed))
    positions = stretched.positions
    assert (stretched.ids, stretched.first_learned) == (document.ids, document.first_learned)
    assert positions[0] == 0
    assert len(positions) == len(document.ids) <= positions[-1] + 1 <= SPAN
    jumps = [place for place, gap in enumerate(gaps(positions), 1) if gap != 1]
    assert all(gap >= 1 for gap in gaps(positions))
    assert len(jumps) <= MOST_SKIPS
    assert all(document.ids[place - 1] == LINE_END and place <= document.first_learned for place in jumps)


def test_ends_are_spread_evenly_over_the_factors_of_two():
    ends = [skip_positions(listed(), {LINE_END}, SPAN, Random(seed)).positions[-1] for seed in range(400)]
    # From 112 to 131,072 are 10.2 factors of two: 4.2 of them lie below 2,048, and the last is a tenth.
    assert 0.34 < sum(end < 2048 for end in ends) / 400 < 0.48
    assert 0.06 < sum(end >= SPAN // 2 for end in ends) / 400 < 0.14


@pytest.mark.parametrize("document", [Document([1, 2, 3], 2), listed(lines=20)])
def test_without_room_or_a_line_a_document_stays_as_it_is(document):
    assert skip_positions(document, {LINE_END}, 112 if document.ids[0] == 1 else 0, Random(0)) is document


def test_a_batch_has_the_skips_of_its_lists_and_of_nothing_else(encoder):
    source = DocumentSource(
        encoder, {"recall": 0.5, "chain": 0.5}, 512, None, list_tokens=(100, 300), position_span=SPAN
    )
    batch = BatchStream(source, 12, 512, seed=0).batch(0)
    far = 0
    for documents, positions, labels in zip(batch.documents, batch.positions, batch.labels, strict=True):
        for owner in documents.unique():
            mine = positions[documents == owner]
            steps = mine.diff()
            assert mine[0] == 0
            assert (steps >= 1).all()
            learned = labels[documents == owner][:-1] != IGNORE
            assert (steps[learned] == 1).all()
            far += int(mine[-1] >= 512)
    assert far >= 5


def test_without_a_span_positions_count_the_tokens(encoder):
    source = DocumentSource(encoder, {"recall": 1.0}, 512, None)
    batch = BatchStream(source, 2, 512, seed=0).batch(0)
    assert batch.positions.max() < 512


def test_lists_are_as_long_as_the_stage_says(encoder):
    source = DocumentSource(encoder, {"recall": 1.0}, 4096, None, list_tokens=(1_500, 2_000))
    examples = [source.draw_example("recall", Random(seed)) for seed in range(30)]
    assert all(1_500 // 16 <= example.difficulty <= 2_000 // 16 for example in examples)
    # Long documents ask for more, since so much is read for it.
    assert max(len(example.facts["codes"]) for example in examples) > 4
