"""lm-evaluation-harness against a live server, with tasks of its own and no network."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

QUESTIONS = [
    {
        "question": f"What is {a} + {b}?",
        "choices": [str(a + b), str(a + b + 7)],
        "answer": str(a + b),
        "label": 0,
    }
    for a, b in ((2, 3), (4, 5), (11, 6), (20, 21))
]

CHOICE = """
task: sums_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}} The answer is"
doc_to_choice: choices
doc_to_target: label
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1}}
"""

CHAT = """
task: sums_chat
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["<END>"], max_gen_toks: 512, temperature: 0}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1}}
"""


@pytest.fixture
def harness(live, tmp_path):
    """Runs a task with one of the harness' models; its results."""
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    (tmp_path / "choice.yaml").write_text(CHOICE.format(data=data))
    (tmp_path / "chat.yaml").write_text(CHAT.format(data=data))

    def run(model, task, path, *options):
        arguments = f"model=pocket,base_url={live.url}{path},num_concurrent=2,max_retries=1"
        chosen = ["--model", model, "--model_args", arguments, "--tasks", task, *options]
        places = ["--include_path", tmp_path, "--output_path", tmp_path / "out"]
        done = subprocess.run(
            [sys.executable, "-m", "lm_eval", "run", *chosen, *places],
            capture_output=True,
            text=True,
            timeout=500,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")},
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        (results,) = (tmp_path / "out").rglob("results*.json")
        return json.loads(results.read_text())["results"][task]

    return run


def test_answers_are_compared_by_their_likelihood(harness):
    results = harness("local-completions", "sums_choice", "/v1/completions")
    assert 0 <= results["acc,none"] <= 1


def test_conversations_are_answered(harness):
    results = harness("local-chat-completions", "sums_chat", "/v1/chat/completions", "--apply_chat_template")
    assert results["exact_match,none"] >= 0.75
