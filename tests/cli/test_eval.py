import json
import re

import pytest

from araio.cli.commands.eval_needle import parse_lengths
from araio.errors import RequestError
from araio.testing.checkpoints import write_tiny_checkpoint


def test_json_is_one_document_of_the_promised_shape(araio_command, tiny):
    asked = ["eval", tiny, "--tasks", "chain,order", "--n", 2, "--seed", 3, "--max-tokens", 6, "--json"]
    done = araio_command(*asked)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "answering: 0 of 4, 0% after 0 s\n"
    document = json.loads(done.stdout)
    assert (document["model"], document["split"], document["seed"]) == (str(tiny), "test", 3)
    assert list(document["tasks"]) == ["chain", "order"]
    for entry in document["tasks"].values():
        assert sum(level["n"] for level in entry.pop("levels").values()) == 2
        assert entry == {
            "n": 2,
            "accuracy": 0.0,
            "ci95": [0.0, pytest.approx(0.6576, abs=1e-4)],
            "mean_reasoning_tokens": 6.0,
            "unfinished": 2,
        }


def test_the_table_shows_the_levels_when_asked(araio_command, tiny):
    asked = ["eval", tiny, "--tasks", "equation", "--n", 6, "--max-tokens", 2]
    assert "x on both sides" in araio_command(*asked, "--levels").stdout
    assert "x on both sides" not in araio_command(*asked).stdout


def test_the_table_shows_every_task(araio_command, tiny):
    done = araio_command("eval", tiny, "--tasks", "chain, order", "--n", 1, "--max-tokens", 2)
    assert done.returncode == 0
    for words in ("chain", "order", "95 % interval", "0.0% to 79.3%"):
        assert words in done.stdout


def test_a_folder_named_like_markup_is_no_crash(araio_command, tmp_path):
    (tmp_path / "[").mkdir()
    write_tiny_checkpoint(tmp_path / "[" / "x]", "v3")
    done = araio_command("eval", "[/x]", "--tasks", "chain", "--n", 1, "--max-tokens", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[/x], split test" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "chian"], "no task 'chian'; did you mean chain?"),
        (["--n", 0], "n is 0; expected 1 or more"),
        (["--workers", 0], "workers is 0"),
        (["--split", "train"], "Invalid value for '--split'"),
    ],
)
def test_mistakes_are_told_in_one_line(araio_command, tiny, arguments, message):
    done = araio_command("eval", tiny, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_the_command_compares_on_a_text(araio_command, tmp_path) -> None:
    write_tiny_checkpoint(tmp_path / "tiny", "v3")
    (tmp_path / "book.txt").write_text("It was a bright day. " * 20, encoding="utf-8")
    asked = ["eval", tmp_path / "tiny", "--kl", tmp_path / "tiny", "--text", tmp_path / "book.txt"]
    done = araio_command(*asked, "--json")
    assert re.fullmatch(r"comparing: 0 of \d+, 0% after 0 s\n", done.stderr)
    document = json.loads(done.stdout)
    assert (document["mean_kl"], document["top1_agreement"]) == (0.0, 1.0)
    assert "same most likely token" in araio_command(*asked).stdout


def test_mistakes_with_the_text_are_told_in_one_line(araio_command, tmp_path) -> None:
    write_tiny_checkpoint(tmp_path / "tiny", "v3")
    (tmp_path / "latin.txt").write_bytes(b"\xe9t\xe9")
    for arguments, message in (
        (["--text", "book.txt"], "give --kl"),
        (["--kl", tmp_path / "tiny", "--text", tmp_path / "none.txt"], "none.txt cannot be read"),
        (["--kl", tmp_path / "tiny", "--text", tmp_path / "latin.txt"], "is not UTF-8"),
    ):
        done = araio_command("eval", tmp_path / "tiny", *arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


def test_an_approximation_is_measured_like_a_model(araio_command, tiny) -> None:
    arguments = ("eval", tiny, "--tasks", "chain", "--n", "1", "--max-tokens", "8", "--json")
    report = araio_command(*arguments, "--approximate", "top-2")
    assert json.loads(report.stdout)["model"] == f"{tiny} (top-2)"
    by_worker = araio_command(*arguments, "--approximate", "top-2", "--workers", "2")
    assert json.loads(by_worker.stdout)["model"] == f"{tiny} (top-2)"
    compared = json.loads(araio_command(*arguments, "--approximate", "top-2", "--kl", tiny).stdout)
    assert (compared["model"], compared["reference"]) == (f"{tiny} (top-2)", str(tiny))
    assert compared["mean_kl"] > 0


def test_prompts_do_not_tell_what_cached_costs(araio_command, tiny) -> None:
    result = araio_command("eval", tiny, "--approximate", "cached", "--kl", tiny)
    assert result.returncode == 2
    assert "`araio run` measures it" in result.stderr


def test_budgets_and_votes_are_a_table_a_picture_and_json(araio_command, tmp_path):
    picture = tmp_path / "thinking.svg"
    ask = ["eval", "pocket", "--tasks", "chain", "--n", 2, "--budgets", "8", "--votes", "1,3"]
    done = araio_command(*ask, "--plot", picture)
    assert done.returncode == 0, done.stderr
    assert "no limit" in done.stdout
    assert "8 tokens" in done.stdout
    assert "votes of" in done.stdout
    assert picture.read_text(encoding="utf-8").startswith("<?xml")
    document = json.loads(araio_command(*ask, "--json").stdout)
    assert [point["budget"] for point in document["budgets"]] == [8, None]
    assert [point["votes"] for point in document["votes"]] == [1, 3]


def test_mistakes_of_a_sweep_are_told_at_once(araio_command, tmp_path):
    for options, message in (
        (["--budgets", "8,x"], "--budgets is '8,x'; expected numbers with commas"),
        (["--plot", tmp_path / "x.png"], "--plot draws --budgets, --votes or --needle"),
        (["--votes", "4", "--workers", "2"], "go with neither --kl nor --workers"),
        (["--votes", "4", "--plot", tmp_path / "x.xyz"], "no format 'xyz'"),
    ):
        done = araio_command("eval", "pocket", *options)
        assert done.returncode == 2
        assert message in done.stderr


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("1k..8k", (1024, 2048, 4096, 8192)),
        ("300..1k", (300, 600)),
        ("32K", (32_768,)),
        ("512", (512,)),
    ],
)
def test_lengths_double_from_the_first_to_the_last(text, lengths):
    assert parse_lengths(text) == lengths


@pytest.mark.parametrize("text", ["", "k", "8k..1k", "0..1k", "1k-8k", "1k..", "1.5k"])
def test_lengths_of_another_form_are_refused(text):
    with pytest.raises(RequestError, match="--needle is "):
        parse_lengths(text)


def test_needles_make_a_document_and_a_picture(araio_command, tmp_path) -> None:
    folder, plot = tmp_path / "roomy", tmp_path / "needle.png"
    write_tiny_checkpoint(folder, "v3", max_position_embeddings=2048)
    asked = ["eval", folder, "--needle", "512..1k", "--depths", 2, "--n", 1, "--plot", plot, "--json"]
    done = araio_command(*asked)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [entry["length"] for entry in document["lengths"]] == [512, 1024]
    assert [entry["n"] for entry in document["lengths"]] == [2, 2]
    assert plot.read_bytes().startswith(b"\x89PNG")
    # What was answered is kept beside the picture, and asked no more.
    assert len((tmp_path / "needle.png.jsonl").read_text().splitlines()) == 5
    again = araio_command(*asked)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == document


def test_a_haystack_that_there_is_not_is_told(araio_command, tiny) -> None:
    done = araio_command("eval", tiny, "--needle", "1k", "--haystack", "hay")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--haystack is 'hay'; expected one of list, stories" in done.stderr
