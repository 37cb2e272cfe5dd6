import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from araio.serve.loading import answer_loading
from araio.serve.server import bind

KEY = "a-key-that-nobody-guesses"


@contextmanager
def served(*options, **environment):
    """`araio serve` as a program: what it printed, as JSON and as text for people, and itself."""
    command = [sys.executable, "-m", "araio", "serve", "--port", "0", "--threads", "1", "--json", *options]
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        document = json.loads(process.stdout.readline())
        lines = []
        while not lines or not lines[-1].startswith("print(answer.content)"):
            lines.append(process.stderr.readline())
        yield document, "".join(lines), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as reply:
        return reply.status, reply.read()


def run_snippet(text, **environment):
    """The lines that a user would paste."""
    snippet = text[text.index("import ") :]
    assert len(snippet.strip().splitlines()) == 6
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_says_where_it_is_and_its_snippet_runs_as_pasted():
    with served() as (document, text, process):
        assert document["model"] == "pocket"
        assert document["pid"] == process.pid
        assert document["budget"]["ram"] > document["budget"]["experts"] > 0
        url = document["url"]
        assert re.search(rf"^pocket is ready at {url}/v1, 16 requests at a time", text, re.M)
        assert f"page: {url}/\n" in text
        assert text.startswith("memory: ")
        assert get(f"{url}/health")[0] == 200
        assert b"<html" in get(f"{url}/")[1]
        assert len(run_snippet(text).splitlines()) >= 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.parametrize("source", ["file", "variable"])
def test_with_a_key_the_snippet_knows_where_it_is(tmp_path, source):
    file = tmp_path / "keys"
    file.write_text(f"# mine\n\n{KEY}\n")
    file.chmod(0o600)
    options = ["--api-key-file", file] if source == "file" else []
    environment = {} if source == "file" else {"ARAIO_API_KEYS": KEY}
    with served("--host", "0.0.0.0", "--reasoning-field", "reasoning", *options, **environment) as (
        document,
        text,
        _,
    ):
        assert KEY not in text
        assert document["url"].startswith("http://127.0.0.1:")
        assert "--allow-host" in text, "others reach it by another address than the one that is shown"
        assert run_snippet(text, **environment)
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(f"{document['url']}/v1/models")
        assert caught.value.code == 401
        caught.value.close()
        assert get(f"{document['url']}/v1/models", Authorization=f"Bearer {KEY}")[0] == 200


def test_an_address_that_others_reach_needs_a_key(araio_command):
    done = araio_command("serve", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "--api-key-file FILE" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(araio_command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = araio_command("serve", "--port", port)
        assert araio_command("serve", ARAIO_PORT=str(port)).returncode == 2
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "memory:" not in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--limit", "speed=3"], "expected NAME=NUMBER with a name of header_bytes"),
        (["--limit", "n=many"], "'many' is no number"),
        (["--limit", "n=0"], "n is 0; expected a number from 1 to 128"),
        (["--port", "70000"], "port is 70000"),
        (["--reasoning-field", "thoughts"], "expected reasoning_content or reasoning"),
        (["--api-key-file", "/nowhere/keys"], "/nowhere/keys"),
        (["--traces", __file__], "is a file; expected a folder"),
        (["--max-batch", "0"], "max_batch is 0"),
        (["nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(araio_command, options, message):
    done = araio_command("serve", "--port", 0, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_limits_are_set_by_their_names():
    with served("--limit", "n=2", "--limit", "stall-s=5.5", "--queue", 7) as (document, _, _):
        limits = json.loads(get(f"{document['url']}/v1/limits")[1])
        assert (limits["n"], limits["stall_s"], limits["queue"]) == (2, 5.5, 7)


def test_while_a_model_is_loaded_clients_are_told_to_come_again():
    listener = bind("127.0.0.1", 0)
    url = "http://{}:{}/health".format(*listener.getsockname())
    with listener, answer_loading(listener):
        for _ in range(2):
            with pytest.raises(urllib.error.HTTPError) as caught:
                get(url)
            assert caught.value.code == 503
            assert int(caught.value.headers["Retry-After"]) > 0
            error = json.loads(caught.value.read())["error"]
            assert (error["type"], error["code"]) == ("unavailable_error", "loading")
            caught.value.close()
