from araio.engine.answer import ContentDelta, ReasoningDelta, ToolCallDelta
from araio.serve.blocks import Blocks, Kind, What


def changes(blocks, *deltas):
    return [change for delta in deltas for change in blocks.take(delta)]


def told(found):
    return [(change.what, change.block.kind, change.block.index, change.piece) for change in found]


def test_a_block_is_opened_by_its_first_piece_and_closed_by_the_next_block():
    blocks = Blocks()
    found = changes(blocks, ReasoningDelta("hm"), ReasoningDelta("m"), ContentDelta("12")) + blocks.close()
    assert told(found) == [
        (What.OPENED, Kind.REASONING, 0, ""),
        (What.GREW, Kind.REASONING, 0, "hm"),
        (What.GREW, Kind.REASONING, 0, "m"),
        (What.CLOSED, Kind.REASONING, 0, ""),
        (What.OPENED, Kind.TEXT, 1, ""),
        (What.GREW, Kind.TEXT, 1, "12"),
        (What.CLOSED, Kind.TEXT, 1, ""),
    ]
    assert [found[0].block.text, found[-1].block.text] == ["hmm", "12"]


def test_each_call_is_a_block_of_its_own():
    blocks = Blocks()
    found = changes(
        blocks,
        ToolCallDelta(0, "call_a", "add", ""),
        ToolCallDelta(0, None, None, '{"a":1}'),
        ToolCallDelta(1, "call_b", "sub", "{}"),
    )
    opened = [change.block for change in [*found, *blocks.close()] if change.what is What.CLOSED]
    assert [(call.call_id, call.name, call.text) for call in opened] == [
        ("call_a", "add", '{"a":1}'),
        ("call_b", "sub", "{}"),
    ]


def test_nothing_to_close_is_no_change():
    assert Blocks().close() == []
