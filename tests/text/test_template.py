"""Unknown templates: what they may do, and that hostile ones end in a TemplateError."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from araio.errors import TemplateError, TextError
from araio.text.template import Limits, render_in_sandbox

TIGHT = Limits(template_chars=2000, output_chars=1000, memory_bytes=256 << 20, seconds=2.0)


def test_helpers_work_as_in_transformers() -> None:
    template = (
        "{% for tool in tools %}\n{% if loop.index > 2 %}{% break %}{% endif %}\n"
        "{{ tool | tojson }};{{ tool | tojson(indent=1) }}\n{% endfor %}\n{{ strftime_now('%Y') }}"
    )
    text = render_in_sandbox(template, {"tools": [{"é": "<&>"}, 2, 3]})
    assert re.fullmatch(r'\{"é": "<&>"\};\{\n "é": "<&>"\n\}\n2;2\n\d{4}', text)


def test_raise_exception_reaches_the_caller() -> None:
    with pytest.raises(TemplateError, match="only user messages"):
        render_in_sandbox("{{ raise_exception('only user messages') }}", {})


HOSTILE = {
    "reads the class tree": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "reaches globals of a helper": "{{ raise_exception.__globals__['sys'].modules }}",
    "reaches globals of a jinja object": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "imports": "{% import 'os' as os %}{{ os }}",
    "includes a file": "{% include '/etc/passwd' %}",
    "changes the messages": "{{ messages.append(1) }}",
    "one huge string": "{{ 'a' * 10**9 }}",
    "a huge string kept": "{% set x = 'a' * 10**9 %}{{ x | length }}",
    "a huge number": "{{ 10 ** (10 ** 9) }}",
    "nested loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "loops with output": "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
    "a huge range": "{% for a in range(10**9) %}{% endfor %}",
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a join that grows": "{{ (('x' * 10**4 + '|') * 10**5).split('|') | join('y' * 10**4) | length }}",
    "a syntax error": "{% for %}",
    "deep nesting": "{{ " + "(" * 900 + "1" + ")" * 900 + " }}",
    "an undefined value used": "{{ missing.attribute.of.it }}",
    "a division by zero": "{{ 1 // 0 }}",
    "a template beyond its size": "x" * 2001,
    "output beyond its size": "{{ 'x' * 1001 }}",
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_templates_end_in_a_template_error(template: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render_in_sandbox(template, {"messages": [{"role": "user", "content": "Hi"}]}, TIGHT)
    assert "plain completion" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "template",
    [
        "{{ '{0.__class__.__init__}'.format(messages) }}",
        "{{ ('{0.__class__}' | attr('format'))(messages) }}",
        "{{ ('%s' | format(messages.__class__)) }}",
        "{{ namespace.__init__ }}{{ self.__class__ }}{{ messages | attr('__class__') }}",
    ],
)
def test_internals_are_invisible(template: str) -> None:
    text = render_in_sandbox(template, {"messages": []})
    assert "class" not in text
    assert "method" not in text


def test_the_process_sees_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARAIO_SECRET", "s3cret")
    given: dict[str, str] = {}

    def record(*_: Any, env: dict[str, str], **__: Any) -> subprocess.CompletedProcess[bytes]:
        given.update(env)
        return subprocess.CompletedProcess([], 0, stdout=b'{"text": ""}')

    monkeypatch.setattr(subprocess, "run", record)
    render_in_sandbox("x", {})
    assert "PYTHONPATH" in given
    assert "s3cret" not in given.values()


def test_limits_hold_in_the_process_itself(tmp_path: Path) -> None:
    """Should a template ever leave Jinja's sandbox: it can write no file."""
    file = tmp_path / "out"
    code = (
        "import sys; from araio.text.template_worker import limit_process; limit_process(1 << 30, 5)\n"
        f"open({os.fspath(file)!r}, 'wb', buffering=0).write(b'x')"
    )
    escaped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert escaped.returncode != 0
    assert not file.read_bytes()


def test_variables_must_be_json() -> None:
    with pytest.raises(TextError, match="not JSON"):
        render_in_sandbox("x", {"messages": object()})
