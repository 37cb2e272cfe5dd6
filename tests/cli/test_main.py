import subprocess
import sys

import pytest

import araio
from araio.cli import main as main_module
from araio.cli.main import VERBS
from araio.testing.checkpoints import write_tiny_checkpoint


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_the_first_screen_says_what_it_is_and_what_to_do_next(araio_command, arguments):
    done = araio_command(*arguments)
    assert done.returncode == 0
    assert 'araio run "What is 47 + 38 - 12?"' in done.stdout
    for first, *second in map(str.split, VERBS):
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"  {first} "))
        assert all(word in line for word in second)
    assert len(done.stdout.splitlines()) <= 24
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert done.stderr == ""


def test_version(araio_command):
    assert araio_command("--version").stdout == f"araio {araio.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "no command 'rnu'; did you mean run?"),
        (
            ["zzz"],
            "no command 'zzz'; commands: run, serve, show, plan, convert, trace, trace show, trace import, "
            "trace export, lens, eval, bench, bench stream, profile fit, profile show, profile eval, "
            "profile export, tune, train, receipts, doctor",
        ),
        (["--jsn"], "unknown option --jsn; options follow a command"),
        (["run", "--tempreature", "1"], "No such option: --tempreature"),
        (["run", "--temperature", "warm"], "Invalid value for '--temperature': expected a number"),
        (["serve", "--port", "abc"], "Invalid value for '--port': expected a whole number"),
        (["help", "rnu"], "did you mean run?"),
        (["profile"], "`araio profile` is several commands: profile fit, profile show, profile eval"),
        (["profile", "make"], "`araio profile` is several commands"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(araio_command, arguments, message):
    done = araio_command(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_help_of_a_word_that_begins_several_verbs_lists_them(araio_command):
    done = araio_command("profile", "--help")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "Commands:"
    assert [line.split()[:2] for line in lines[1:]] == [
        ["profile", form] for form in ("fit", "show", "eval", "export")
    ]
    assert araio_command("help", "profile").stdout == done.stdout


@pytest.mark.parametrize(
    "verb",
    [
        "run",
        "serve",
        "show",
        "eval",
        "bench",
        "bench stream",
        "profile fit",
        "profile eval",
        "trace",
        "trace import",
        "lens",
        "doctor",
    ],
)
def test_help_of_each_verb_has_examples(araio_command, verb):
    done = araio_command(*verb.split(), "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout
    _, examples = done.stdout.split("Examples:\n")
    assert all(line.startswith("  ") for line in examples.splitlines() if line)
    assert f"araio {verb}" in examples
    assert araio_command("help", *verb.split()).stdout == done.stdout


def test_a_message_carries_no_control_characters(araio_command, tmp_path):
    folder = tmp_path / "\x1b]0;owned\x07\x9b2J"
    folder.mkdir()
    done = araio_command("run", folder, "hi")
    assert done.returncode == 2
    assert "]0;owned2J has no config.json" in done.stderr
    assert not {"\x1b", "\x07", "\x9b"} & set(done.stderr)


def test_a_template_cannot_reach_the_terminal(araio_command, tmp_path):
    write_tiny_checkpoint(tmp_path / "evil", "v3")
    (tmp_path / "evil" / "chat_template.jinja").write_text("{{ raise_exception('\x1b]0;owned\x07') }}")
    done = araio_command("run", tmp_path / "evil", "hi")
    assert done.returncode == 2
    assert "]0;owned" in done.stderr
    assert not {"\x1b", "\x07"} & set(done.stderr)


def test_memory_that_runs_out_is_one_line(monkeypatch, capsys):
    def exhaust(_):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr(main_module, "_dispatch", exhaust)
    with pytest.raises(SystemExit) as caught:
        main_module.main(["doctor"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "error: out of memory (Unable to allocate 9 TiB); close other programs or use a smaller model\n"
    )


def test_a_full_disk_is_one_line(araio_command):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "araio"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "error: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("arguments", [[], ["doctor"]])
def test_a_closed_pipe_is_quiet(arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "araio", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(120) == 1
    process.stderr.close()


def test_streams_that_the_caller_closed_are_no_crash(tiny):
    def shell(line):
        command = f"{sys.executable} -m araio {line}"
        return subprocess.run(command, shell=True, capture_output=True, text=True, check=False)

    done = shell(f"run {tiny} <&-")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the question is empty" in done.stderr
    assert shell("--version >&-").returncode == 0
    assert shell("rnu 2>&-").returncode == 2


def test_a_locale_without_the_letters_is_no_crash(araio_command, tiny):
    done = araio_command("run", tiny, "hi", "--max-tokens", 3, "--seed", 1, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "thought 3 tokens ? answered 0 tokens" in done.stderr
