"""Which template is which: by its whole text, and by nothing less."""

import pytest

from araio.text.known_templates import DIALECTS, R1_CHAT_TEMPLATE, find_dialect, template_text


@pytest.mark.parametrize("name", DIALECTS)
def test_each_published_template_is_known(name: str) -> None:
    assert find_dialect(template_text(name)) == DIALECTS[name]


@pytest.mark.parametrize("name", DIALECTS)
def test_line_breaks_may_be_written_either_way(name: str) -> None:
    template = template_text(name)
    assert find_dialect(template.replace("\\n", "\n")) == DIALECTS[name]
    assert find_dialect(template + "\n") == DIALECTS[name]


@pytest.mark.parametrize("name", DIALECTS)
def test_one_changed_character_makes_it_unknown(name: str) -> None:
    template = template_text(name)
    assert find_dialect(template[:-1]) is None
    assert find_dialect(template + " ") is None
    assert find_dialect(template.replace("Assistant", "assistant", 1)) is None


def test_dialects_differ() -> None:
    assert len({repr(dialect) for dialect in DIALECTS.values()}) == len(DIALECTS)


def test_the_bundled_models_template_opens_the_reasoning() -> None:
    assert R1_CHAT_TEMPLATE.endswith("{{'<｜Assistant｜><think>\\n'}}{% endif %}")
