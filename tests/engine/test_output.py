from hypothesis import given
from hypothesis import strategies as st

from araio.engine.output import StopStrings, TextOutput

letters = st.text("ab<", max_size=30)
stops = st.lists(st.text("ab<", min_size=1, max_size=4), max_size=3)


def plain(text, strings):
    """Cut where a stop string is complete first; of those that end there, before the longest."""
    for end in range(1, len(text) + 1):
        complete = [s for s in strings if text[:end].endswith(s)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


def streamed(pieces, strings):
    stop, out = StopStrings(strings), ""
    for piece in pieces:
        text, found = stop.push(piece)
        out += text
        if found is not None:
            return out, found
    return out + stop.flush(), None


@given(text=letters, strings=stops, data=st.data())
def test_any_cut_into_pieces_gives_the_text_before_the_first_stop(text, strings, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert streamed(pieces, strings) == plain(text, strings)


@given(text=letters, strings=stops)
def test_only_a_possible_beginning_of_a_stop_string_is_held_back(text, strings):
    stop = StopStrings(strings)
    given_out, found = stop.push(text)
    held = stop.flush()
    assert found is not None or given_out + held == text
    assert held == "" or any(s.startswith(held) for s in strings)


def test_without_a_tokenizer_there_is_no_text():
    output = TextOutput(None, ())
    assert output.push(3) == ("", None)
    assert output.flush() == ("", None)
