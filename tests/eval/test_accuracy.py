"""`evaluate` with models that know the answers, that guess, and that never stop."""

from types import SimpleNamespace

import pytest

import araio
from araio.errors import RequestError
from araio.eval import Score, evaluate
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.train.tasks import TASKS


class Oracle:
    """Solves whatever it is asked, by asking the task itself; wrong on every `misses`-th question."""

    name = label = "oracle"

    def __init__(self, monkeypatch, misses=0, finish_reason="stop"):
        self.asked, self.answers, self.misses, self.finish_reason = [], {}, misses, finish_reason
        self.sampling = None
        for task in TASKS.values():
            monkeypatch.setattr(task, "generate", self.listening(task.generate), raising=True)

    def listening(self, generate):
        def heard(rng, split):
            example = generate(rng, split)
            self.answers[example.prompt] = example.answer
            return example

        return heard

    def chat(self, prompt, **sampling):
        self.asked.append(prompt)
        self.sampling = sampling
        is_miss = self.misses and len(self.asked) % self.misses == 0
        return SimpleNamespace(
            content="no idea" if is_miss else self.answers[prompt],
            finish_reason=self.finish_reason,
            usage={"completion_tokens_details": {"reasoning_tokens": 10 + len(self.asked)}},
        )


def test_an_oracle_is_right_about_everything(monkeypatch):
    report = evaluate(Oracle(monkeypatch), n=3)
    assert list(report.tasks) == list(TASKS)
    for result in report.tasks.values():
        assert (result.score, result.unfinished) == (Score(3, 3), 0)


def test_misses_are_counted_and_reasoning_is_averaged(monkeypatch):
    report = evaluate(Oracle(monkeypatch, misses=2), ["chain"], n=10)
    entry = report.to_dict()["tasks"]["chain"]
    assert entry["accuracy"] == 0.5
    assert entry["ci95"] == pytest.approx([0.2366, 0.7634], abs=1e-4)
    assert entry["mean_reasoning_tokens"] == 15.5


def test_an_answer_that_was_cut_off_is_wrong_even_if_it_looks_right(monkeypatch):
    result = evaluate(Oracle(monkeypatch, finish_reason="length"), ["chain"], n=4).tasks["chain"]
    assert (result.score, result.unfinished) == (Score(4, 0), 4)


def test_levels_split_a_task_and_come_easiest_first(monkeypatch):
    result = evaluate(Oracle(monkeypatch), ["knights"], n=20).tasks["knights"]
    assert list(result.levels) == ["2 people", "3 people"]
    assert sum(score.n for score in result.levels.values()) == result.score.n == 20
    assert result.to_dict()["levels"]["2 people"]["accuracy"] == 1


def test_questions_depend_on_seed_split_and_place_alone(monkeypatch):
    def asked(*arguments, **more):
        oracle = Oracle(monkeypatch)
        evaluate(oracle, *arguments, **more)
        return oracle.asked

    few = asked(["chain"], 4, 7)
    assert asked(["order", "chain"], 6, 7)[6:10] == few
    assert asked(["chain"], 4, 7) == few
    assert asked(["chain"], 4, 8) != few
    assert asked(["chain"], 4, 7, "beyond") != few
    assert len(set(asked(["chain"], 50, 1))) > 45


def test_decoding_is_greedy_whatever_the_checkpoint_recommends(monkeypatch):
    oracle = Oracle(monkeypatch)
    evaluate(oracle, ["chain"], n=1, max_tokens=99)
    assert oracle.sampling == {"temperature": 0, "repetition_penalty": 1, "max_tokens": 99}


def test_progress_follows_the_questions(monkeypatch):
    seen = []
    evaluate(Oracle(monkeypatch), ["order", "chain"], n=2, on_graded=lambda graded: seen.append(graded.task))
    assert seen == ["order", "order", "chain", "chain"]


def test_a_task_named_twice_is_asked_once(monkeypatch):
    assert list(evaluate(Oracle(monkeypatch), ["chain", "chain"], n=1).tasks) == ["chain"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tasks": ["chian"]}, "did you mean chain"),
        ({"tasks": []}, "no task given"),
        ({"split": "train"}, "split is 'train'"),
        ({"n": 0}, "n is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
    ],
)
def test_mistakes_are_told_before_anything_is_asked(monkeypatch, arguments, words):
    oracle = Oracle(monkeypatch)
    with pytest.raises(RequestError, match=words):
        evaluate(oracle, **arguments)
    assert not oracle.asked


def test_workers_give_the_same_report(tmp_path):
    write_tiny_checkpoint(tmp_path / "tiny", "v3")
    model = araio.load(tmp_path / "tiny")
    alone, together = (
        evaluate(model, ["chain", "order"], n=2, max_tokens=8, workers=workers) for workers in (1, 2)
    )
    assert alone.tasks == together.tasks


def test_a_mistake_in_a_worker_comes_back_as_itself(tmp_path):
    write_tiny_checkpoint(tmp_path / "tiny", "v3", max_position_embeddings=16)
    with pytest.raises(RequestError, match="holds 16"):
        evaluate(araio.load(tmp_path / "tiny"), ["chain"], n=1, workers=2)
