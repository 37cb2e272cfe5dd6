"""What a mask allows: valid under the schema, complete where it may end, and never a control token."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from araio.errors import TextError
from araio.testing.tokenizers import tiny_tokenizer_document, write_tiny_tokenizer
from araio.text.deepseek import CONTROL_TOKENS
from araio.text.grammar import Grammar, GrammarCompiler, Matcher
from araio.text.tokenizer import Span, Tokenizer
from araio.text.tool_calls import ToolCallDelta, ToolCallSplitter
from araio.text.tools import Tool

PADDING = 8


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tiny_tokenizer(folder)
    return Tokenizer.from_folder(folder)


@pytest.fixture(scope="module")
def compiler(tokenizer: Tokenizer) -> GrammarCompiler:
    assert tokenizer.eos_id is not None
    return GrammarCompiler(tokenizer, tokenizer.vocab_size + PADDING, [tokenizer.eos_id])


def write(grammar: Grammar, tokenizer: Tokenizer, seed: int, *, most: int = 3000) -> str | None:
    """A random text of this form; None if it has not ended after `most` tokens."""
    random = np.random.default_rng(seed)
    matcher, ids = grammar.matcher(), list[int]()
    for _ in range(most):
        mask = matcher.mask()
        assert mask.shape == (tokenizer.vocab_size + PADDING,)
        assert not mask[tokenizer.vocab_size :].any()
        if mask[tokenizer.eos_id]:
            matcher.accept(tokenizer.eos_id or 0)
            return tokenizer.decode(ids)
        quotes = tokenizer.encode('"')[0]
        # Strings would seldom end by chance.
        is_quote = mask[quotes] and random.random() < 0.2
        ids.append(quotes if is_quote else int(random.choice(np.flatnonzero(mask))))
        matcher.accept(ids[-1])
    return None


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMAS: dict[str, dict[str, Any]] = {
    "object": closed(
        name={"type": "string", "maxLength": 5}, age={"type": "integer"}, ok={"type": "boolean"}
    ),
    "nested": closed(a=closed(b=closed(c={"type": "null"}))),
    "optional": {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": False},
    "enum": {"enum": ["red", 1, None, True, {"a": [1]}, "é"]},
    "const": {"const": {"a": "b"}},
    "array": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    "tuple": {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False, "minItems": 2},
    "bounds": closed(x={"type": "integer", "minimum": -3, "maximum": 12}, y={"type": "number", "minimum": 0}),
    "multiple": {"type": "integer", "multipleOf": 25, "minimum": 0, "maximum": 1000},
    "any": {"anyOf": [{"type": "null"}, closed(x={"const": 1})]},
    "one": {"oneOf": [{"type": "null"}, {"type": "boolean"}]},
    "all": {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 9}]},
    "pattern": {"type": "string", "pattern": "^[a-c]{2,4}-[0-9]$"},
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
    "ref": {
        "$ref": "#/$defs/node",
        "$defs": {"node": closed(next={"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]})},
    },
    "annotated": {"title": "T", "type": "integer", "default": 1, "examples": [1], "maximum": 9},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_is_allowed_is_valid(name: str, compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    jsonschema = pytest.importorskip("jsonschema_rs")
    validator = jsonschema.validator_for(SCHEMAS[name], validate_formats=True)
    grammar = compiler.schema(SCHEMAS[name])
    texts = [write(grammar, tokenizer, seed) for seed in range(20)]
    finished = [text for text in texts if text is not None]
    assert len(finished) >= 10
    for text in finished:
        assert validator.is_valid(json.loads(text)), text


def test_no_control_token_is_allowed_in_json(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    matcher = compiler.schema(closed(x={"type": "string"})).matcher()
    control = tokenizer.encode_spans([Span(token, is_trusted=True) for token in CONTROL_TOKENS])
    for token_id in tokenizer.encode('{"x":"<｜User｜> <think>"}'):
        mask = matcher.mask()
        assert not mask[control].any()
        assert mask[token_id]
        matcher.accept(token_id)
    assert matcher.is_finished
    assert np.flatnonzero(matcher.mask()).tolist() == [tokenizer.eos_id]


def test_a_blank_line_may_follow_the_reasoning(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    follow(compiler.json_object(follows_reasoning=True), tokenizer.encode("\n\n{}"))
    follow(compiler.json_object(follows_reasoning=True), tokenizer.encode("{}"))
    with pytest.raises(TextError):
        follow(compiler.json_object(), tokenizer.encode("\n\n{}"))


def follow(grammar: Grammar, ids: list[int]) -> Matcher:
    matcher = grammar.matcher()
    for token_id in ids:
        matcher.accept(token_id)
    return matcher


def test_white_space_is_bounded(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    follow(compiler.json_object(), tokenizer.encode('{\n    "a": [1, 2]\n}'))
    with pytest.raises(TextError):
        follow(compiler.json_object(), tokenizer.encode("{\n\n"))


def test_answers_under_one_grammar_do_not_meet(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    grammar = compiler.json_object()
    first, second = grammar.matcher(), grammar.matcher()
    first.accept(tokenizer.encode("{")[0])
    assert not np.array_equal(first.mask(), second.mask())
    assert np.array_equal(second.mask(), grammar.matcher().mask())


TOOLS = [Tool("add", "", closed(a={"type": "integer", "minimum": 0, "maximum": 99})), Tool("add_all")]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("is_parallel", [True, False])
def test_calls_that_must_come(
    compiler: GrammarCompiler, tokenizer: Tokenizer, seed: int, is_parallel: bool
) -> None:
    text = write(compiler.tool_calls(TOOLS, is_parallel=is_parallel), tokenizer, seed)
    assert text is not None
    splitter = ToolCallSplitter()
    assert all(isinstance(part, ToolCallDelta) for part in splitter.push(text) + splitter.flush())
    assert splitter.calls
    assert is_parallel or len(splitter.calls) == 1
    for call in splitter.calls:
        arguments = json.loads(call.arguments)
        assert arguments == {} if call.name == "add_all" else 0 <= arguments["a"] <= 99


def test_a_model_without_the_tokens_cannot_be_made_to_call(tmp_path: Path) -> None:
    write_tiny_tokenizer(tmp_path)
    document = tiny_tokenizer_document()
    document["added_tokens"] = document["added_tokens"][:3]
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    plain = Tokenizer.from_folder(tmp_path)
    compiler = GrammarCompiler(plain, plain.vocab_size, [1])
    with pytest.raises(TextError, match="cannot be made to call"):
        compiler.tool_calls(TOOLS)


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


REFUSED: list[tuple[Any, str]] = [
    ([1], "expected an object"),
    ({"not": {}}, "at the top level: .*not"),
    (
        closed(**{"a/b": {"anyOf": [{"pattern": "(?=a)", "type": "string"}]}}),
        "/properties/a~1b/anyOf/0: .*look",
    ),
    (closed(a={"$ref": "#/$defs/q"}) | {"$defs": {"q": {"uniqueItems": True}}}, "/\\$defs/q: .*uniqueItems"),
    (closed(a={"$ref": "http://127.0.0.1/x"}), "/properties/a: "),
    ({"$ref": "#"}, "cannot be used"),
    ({"enum": []}, "Unsatisfiable"),
    (closed(a={"type": "integer", "minimum": 5, "maximum": 4}), "unsatisfiable|Unsatisfiable"),
    (closed(a={"type": "string", "format": "riddle"}), "riddle"),
    ({"type": "foo"}, "foo"),
    ({"type": 7}, "type"),
    (closed(a={"type": "string", "minLength": -1}), "minLength"),
    ({"const": float("nan")}, "not a JSON value"),
    ({"const": "\ud800"}, "not a JSON value"),
    ({"const": {1}}, "not a JSON value"),
    (deep(200), "100 levels"),
    ({"const": "x" * (64 << 10)}, "at most 65536"),
    ({"const": "x" * 1001}, "a name or a value of 1001 characters"),
    (closed(a={"enum": [1, {"b": ["x" * 1001]}]}), "a name or a value of 1001 characters"),
    ({"const": {"b": {"x" * 1001: 1}}}, "a name or a value of 1001 characters"),
    (closed(**{"x" * 1001: {}}), "a name or a value of 1001 characters"),
    (closed(**{f"p{index}": {} for index in range(257)}), "257 properties"),
    ({"allOf": [{"type": "string", "pattern": f".*{letter}.{{9}}"} for letter in "abc"]}, "3 patterns"),
    ({"type": "integer", "allOf": [{"multipleOf": 997}, {"multipleOf": 991}]}, "several multipleOf"),
    ({"type": "integer", "multipleOf": 999_999}, "multipleOf is 999999"),
    ({"type": "number", "multipleOf": 1e-300}, "multipleOf|digits"),
    ({"type": "string", "pattern": "(" * 20_000 + ")" * 20_000}, "at the top level"),
]


@pytest.mark.parametrize(("schema", "complaint"), REFUSED)
def test_what_cannot_be_followed_is_refused(
    schema: Mapping[str, Any], complaint: str, compiler: GrammarCompiler
) -> None:
    start = time.perf_counter()
    with pytest.raises(TextError, match=complaint):
        compiler.schema(schema)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "pattern",
    [".*a.{20}$", "(x+x+)+y", "(a{1000}){1000}", "(.{0,1000}a){1,1000}", ".*" * 200, "(a?){500}a{500}"],
)
def test_hostile_patterns_end_in_an_error_of_ours_at_worst(
    pattern: str, compiler: GrammarCompiler, tokenizer: Tokenizer
) -> None:
    with suppress(TextError):
        write(compiler.schema({"type": "string", "pattern": pattern}), tokenizer, 0, most=100)


def test_a_description_may_be_long(compiler: GrammarCompiler) -> None:
    compiler.schema({"description": "x" * 5000, "const": "x" * 1000})


def test_a_fault_in_a_tool_names_the_tool(compiler: GrammarCompiler) -> None:
    with pytest.raises(TextError, match=r"parameters of the tool 'odd' .* /properties/a: "):
        compiler.tool_calls([*TOOLS, Tool("odd", "", closed(a={"not": {}}))])


def test_a_compiler_needs_an_end_and_enough_rows(tokenizer: Tokenizer) -> None:
    with pytest.raises(TextError, match="ends an answer"):
        GrammarCompiler(tokenizer, tokenizer.vocab_size, [])
    with pytest.raises(TextError, match="different models"):
        GrammarCompiler(tokenizer, tokenizer.vocab_size - 1, [1])


class PanicException(BaseException):
    """As Rust's panics come."""


class Panics:
    """A matcher of the library that has met a defect."""

    def __getattr__(self, name: str) -> Any:
        raise PanicException(name)


def test_a_panic_of_the_library_is_an_error_of_ours() -> None:
    matcher = Matcher(Panics(), 64)  # type: ignore[arg-type]
    with pytest.raises(TextError, match="the form that the answer must have cannot be followed"):
        matcher.mask()
    with pytest.raises(TextError, match="the form that the answer must have cannot be followed"):
        matcher.accept(1)


def test_a_form_that_is_asked_for_again_is_there(compiler: GrammarCompiler) -> None:
    schema = closed(a={"type": "integer"})
    first = compiler.schema(schema)
    assert compiler.schema(dict(schema)) is first
    assert compiler.schema(schema, follows_reasoning=True) is not first
    for length in range(100):
        compiler.schema({"type": "string", "maxLength": length})
    assert compiler.schema(schema) is not first
