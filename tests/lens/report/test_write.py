"""The file: what is in it, that it comes back, that it stays small and asks for nothing."""

import json
import re
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

from araio.errors import FormatError
from araio.lens.report import MOST_BYTES, read_report, report_document, report_html, write_report
from araio.lens.report.write import MODULES, STYLES
from araio.lens.summary import summarise
from araio.traces import Trace

from .made import HOSTILE, LAYERS, made, planted_trace

PAGE = resources.files("araio.lens.report") / "page"


def test_every_number_is_in_the_file_as_the_summary_has_it(tmp_path):
    write_report(tmp_path / "report.html", made().document)
    again = read_report(tmp_path / "report.html")
    assert again == made().document
    assert again["summary"] == json.loads(json.dumps(made().summary.to_json()))


def test_text_of_tokens_cannot_end_the_script():
    page = report_html(made().document)
    assert HOSTILE not in page
    assert page.count("</script>") == 2
    assert "\\u003c/script>" in page


def test_a_name_of_a_model_is_no_markup():
    page = report_html({**made().document, "title": "<b>& $1 {{script}}"})
    assert "<title>&lt;b&gt;&amp; $1 {{script}}</title>" in page


def test_a_file_that_is_no_report_is_refused(tmp_path):
    (tmp_path / "other.html").write_text("<html></html>")
    with pytest.raises(FormatError, match="holds no report"):
        read_report(tmp_path / "other.html")


def test_a_report_replaces_another_or_leaves_it(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("good")
    with pytest.raises(ValueError, match="JSON"):
        write_report(path, {**made().document, "ablation": float("nan")})
    assert path.read_text() == "good"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_the_page_is_put_together_of_all_its_files():
    names = {entry.name for entry in PAGE.iterdir()}
    assert names == {*MODULES, *STYLES, "index.html"}
    for place, name in enumerate(MODULES):
        text = (PAGE / name).read_text(encoding="utf-8")
        needed = re.findall(r'^import [^;]* from "\./([^"]+)";$', text, re.MULTILINE)
        assert set(needed) <= set(MODULES[:place]), f"{name} comes before what it needs"
    assert "import " not in re.sub(r"/\*.*?\*/", "", script_of(made().document), flags=re.DOTALL)


def test_modules_that_share_a_scope_share_no_name():
    taken = {}
    for name in MODULES:
        text = (PAGE / name).read_text(encoding="utf-8")
        pattern = r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)"
        for found in re.findall(pattern, text, re.MULTILINE):
            assert found not in taken, f"{found} is in {taken[found]} and {name}"
            taken[found] = name


def test_no_file_names_a_server_or_makes_markup_of_text():
    for entry in PAGE.iterdir():
        text = entry.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"\b(?:https?:)?//[\w-]+\.[\w.-]+", text) == [], entry.name
        for word in ("innerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch("):
            assert word not in text, entry.name


def script_of(document):
    return re.findall(r'<script type="module">(.*?)</script>', report_html(document), re.DOTALL)[0]


@pytest.mark.parametrize("domains", [("code",), ("code", "law")])
def test_traces_of_few_domains_and_no_text_have_a_report(domains):
    whole = planted_trace(domains)
    columns = {name: whole.column(name) for name in ("seq", "domain")}
    trace = Trace.from_arrays(
        replace(whole.header, fingerprint=None, layers=()), expert_ids=whole.experts, **columns
    )
    document = report_document(trace, summarise(trace))
    assert document["strip"]["texts"] is None
    assert document["strip"]["weights"] is None
    assert document["title"] == "made"
    json.dumps(document, allow_nan=False)


def test_it_keeps_within_its_size_at_the_shape_of_a_large_model():
    """58 layers of 256 experts, three domains: numbers of six digits, so nothing packs well."""
    random = np.random.default_rng(0)

    def numbers(*shape):
        return np.vectorize(lambda value: float(f"{value:.6g}"))(random.random(shape)).tolist()

    layers, experts, top_k = 58, 256, 8
    small = made().trace
    header = replace(
        small.header, layers=tuple(range(3, 61)), n_routed_experts=experts, top_k=top_k, norm_topk_prob=False
    )
    tokens = 2400
    ids = np.argsort(random.random((tokens, layers, experts), np.float32), axis=2)[:, :, :top_k]
    trace = Trace.from_arrays(
        header,
        expert_ids=ids,
        weights=-np.sort(-random.random((tokens, layers, top_k)), axis=2),
        seq=np.arange(tokens) // 80,
        domain=np.arange(tokens) // 800,
        token_id=random.integers(0, 129_280, tokens),
    )

    class Large:
        """A summary with the large parts of that shape; the rest is small."""

        domain_use = made().summary.domain_use
        domains = made().summary.domains
        information = made().summary.information
        layers = made().summary.layers

        def to_json(self):
            document = made().summary.to_json()
            load = {**document["load"], "relative": numbers(layers, experts)}
            curves = {
                rule: numbers(layers, experts - top_k + 1) for rule in ("lru", "lfu", "fading", "optimal")
            }
            return {
                **document,
                "load": load,
                "load_but_first": load,
                "load_by_domain": {**document["load_by_domain"], "relative": numbers(3, layers, experts)},
                "domain_use": {
                    **document["domain_use"],
                    "relative": numbers(3, layers, experts),
                    "serves": random.integers(-1, 3, (layers, experts)).tolist(),
                },
                "caching": {**document["caching"], "hits": curves, "shuffled": curves},
            }

    document = report_document(trace, Large(), text_of=lambda token: f" token{token}")
    size = len(report_html(document).encode())
    assert size <= MOST_BYTES
    assert document["strip"]["tokens"] > 500


def test_layers_keep_their_numbers():
    assert made().document["summary"]["layers"] == list(LAYERS)
