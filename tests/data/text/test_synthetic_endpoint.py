"""A teacher behind a server: against a local one that fails in every way a real one does."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from generate import main

from distillab.core.errors import UserError
from distillab.core.output import quietly
from distillab.core.stopping import Stopped
from distillab.data.text.synthetic import endpoint as module
from distillab.data.text.synthetic import write
from distillab.data.text.synthetic.config import parse
from distillab.data.text.synthetic.endpoint import KEY, URL, Endpoint
from distillab.data.text.synthetic.kept import kept_texts

SECRET = "sk-secret-123"


def answer(body):
    """A completion in which every text tells its request."""
    chat = "messages" in body
    prompt = body["messages"][0]["content"] if chat else body["prompt"]
    text = f" written for {prompt} with {body['seed']}"
    choice = {"message": {"content": text}} if chat else {"text": text}
    if "logprobs" in body:
        told = {"content": [{"logprob": -1.0}, {"logprob": -2.0}]} if chat else {"token_logprobs": [-1.0, -2.0]}
        choice["logprobs"] = told
    usage = {"completion_tokens": 6, "prompt_tokens": 3}
    return 200, {"choices": [{**choice, "finish_reason": "length"}], "usage": usage}


@pytest.fixture
def server(monkeypatch):
    """A server whose `reply` can be replaced: (request body, headers, path) → (status, answer[, headers])."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with found.lock:
                found.seen.append((self.path, dict(self.headers), body))
                found.now += 1
                found.most = max(found.most, found.now)
            status, content, *more = found.reply(body)
            with found.lock:
                found.now -= 1
            said = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in (more[0] if more else {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *args):
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads, found.block_on_close = True, False
    found.lock, found.seen, found.now, found.most, found.reply = threading.Lock(), [], 0, 0, answer
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv(URL, f"http://127.0.0.1:{found.server_port}")
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setenv("NO_PROXY", "*")
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def wanted(tmp_path):
    (tmp_path / "prompts.txt").write_text("".join(f"prompt {number}\n" for number in range(6)))
    words = ["teacher=endpoint", "endpoint.model=big", f"file={tmp_path / 'prompts.txt'}", f"out={tmp_path / 'root'}"]
    words += ["shard_rows=2", "endpoint.wait=0.01", "endpoint.timeout=5", "filters.duplicate_threshold=null"]
    return lambda *more: parse([*words, *more])


def written(config):
    with quietly(True):
        write.generate(config)
    return list(kept_texts(config.out))


def table(config):

    import pyarrow.parquet as pq

    return pq.read_table(sorted(Path(config.out).glob("data/*.parquet"))).to_pylist()


@pytest.mark.parametrize("chat", [False, True])
def test_every_row_is_asked_for_with_its_own_seed(server, wanted, chat):
    config = wanted(f"chat={json.dumps(chat)}", "sampling.temperature=0.7", "sampling.max_new_tokens=9")
    texts = written(config)
    rows, seeds = table(config), {body["seed"] for _, _, body in server.seen}
    assert len(seeds) == 6 and all(0 <= seed < 2**31 for seed in seeds)
    assert all(text.startswith(f" written for prompt {place} with ") for place, text in enumerate(texts))
    assert {path for path, _, _ in server.seen} == {"/v1/chat/completions" if chat else "/v1/completions"}
    asked = server.seen[0][2]
    assert (asked["model"], asked["temperature"], asked["top_p"], asked["max_tokens"]) == ("big", 0.7, 1.0, 9)
    assert all(headers["Authorization"] == f"Bearer {SECRET}" for _, headers, _ in server.seen)
    assert (rows[0]["tokens"], rows[0]["prompt_tokens"], rows[0]["finish"]) == (6, 3, "length")
    assert (rows[0]["teacher"], rows[0]["teacher_hash"], rows[0]["dtype"]) == ("big", None, None)
    assert rows[0]["served_at"].startswith("http://127.0.0.1") and rows[0]["perplexity"] is None
    before = len(server.seen)
    assert written(config) == texts and len(server.seen) == before


@pytest.mark.parametrize("chat", ["false", "true"])
def test_perplexity_is_asked_for_where_it_judges(server, wanted, chat):
    config = wanted(f"chat={chat}", "filters.max_perplexity=5")
    written(config)
    assert table(config)[0]["perplexity"] == pytest.approx(2.718281828**1.5)
    server.reply = lambda body: answer({name: body[name] for name in body if name != "logprobs"})
    with pytest.raises(UserError, match="tells no log-probabilities"):
        written(wanted(f"chat={chat}", "filters.max_perplexity=5", "sampling.seed=1", f"out={config.out}2"))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_after_growing_waits(server, wanted, status, monkeypatch):
    waits, real, failures = [], module.asyncio.sleep, {}

    async def sleep(seconds):
        waits.append(seconds)
        await real(0)

    def busy(body):
        failures[body["prompt"]] = failures.get(body["prompt"], 0) + 1
        if failures[body["prompt"]] <= 3:
            return (
                status,
                {"error": {"message": "busy"}},
                {"retry-after": "70"} if failures[body["prompt"]] == 3 else {},
            )
        return answer(body)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    server.reply = busy
    assert len(written(wanted("rows=1", "endpoint.wait=1"))) == 1
    assert 1 <= waits[0] <= 2 and 2 <= waits[1] <= 4 and waits[2] == 70
    assert len(server.seen) == 4


def test_so_many_requests_are_under_way_at_once(server, wanted):
    def slow(body):
        time.sleep(0.05)
        return answer(body)

    server.reply = slow
    written(wanted("shard_rows=6", "endpoint.concurrency=3"))
    assert server.most == 3


def test_a_stopped_command_asks_for_the_missing_files_alone(server, wanted, monkeypatch):
    texts = written(wanted("out=" + wanted().out + "-whole"))
    config, real, calls = wanted(), Endpoint.write, []

    def stopped(self, prompts, report):
        calls.append(self)

        def told(tokens, rows):
            if len(calls) == 2:
                raise Stopped("stopped")
            report(tokens, rows)

        return real(self, prompts, told)

    monkeypatch.setattr(Endpoint, "write", stopped)
    with pytest.raises(Stopped):
        written(config)
    monkeypatch.setattr(Endpoint, "write", real)
    server.seen.clear()
    assert written(config) == texts
    assert {body["prompt"] for _, _, body in server.seen} == {f"prompt {number}" for number in (2, 3, 4, 5)}


@pytest.mark.parametrize(
    "reply, said",
    [
        ((401, {"error": {"message": f"Incorrect API key: {SECRET}"}}), f"refuses the key (401); set {KEY}"),
        (
            (404, {"error": {"message": "no model big"}}),
            'knows no model "big" or no /v1/completions (404: no model big)',
        ),
        ((404, {"detail": "Not Found"}), "set endpoint.model=…, or chat=true"),
        ((400, {"error": f"too long\nfor {SECRET}"}), "(400: too long for …); mend its prompt"),
        ((500, "<html>down</html>"), "answers 500 (<html>down</html>) after 3 tries; finished files are kept"),
        ((429, {"error": {"message": f"quota of {SECRET}"}}), "answers 429 (quota of …) after 3 tries"),
        ((200, "<html>hello</html>"), "answers something else than a completion"),
        ((200, {"choices": []}), "answers something else than a completion"),
        ((200, {"choices": [{"message": {"content": "of a chat"}}]}), "answers something else than a completion"),
        ((301, "", {"location": "https://other"}), f"sends on to another address (301); set {URL} to that one"),
    ],
)
def test_what_a_server_refuses_is_one_line_without_the_key(server, wanted, capsys, reply, said):
    server.reply = lambda body: reply
    assert main([*wanted().command, "endpoint.retries=2", "rows=1"]) == 1
    told = capsys.readouterr().err
    assert said in told and told.startswith("error: ") and told.count("\n") == 1 and SECRET not in told


def test_a_server_that_is_slow_or_down_is_one_line(server, wanted, capsys, monkeypatch):
    server.reply = lambda body: time.sleep(1) or answer(body)
    assert main([*wanted().command, "endpoint.timeout=0.1", "endpoint.retries=1", "rows=1"]) == 1
    assert "gave no answer within 0.1 s (endpoint.timeout=…) after 2 tries" in capsys.readouterr().err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv(URL, f"http://127.0.0.1:{free.getsockname()[1]}/v1/")
    assert main([*wanted().command, "endpoint.retries=1", "rows=1"]) == 1
    told = capsys.readouterr().err
    assert "cannot be reached" in told and "after 2 tries" in told and told.count("\n") == 1


@pytest.mark.parametrize(
    "name, value, said",
    [
        (URL, "", "needs the address of a server; set DISTILLAB_ENDPOINT=http://host:port"),
        (URL, "localhost:8000", "needs the address of a server"),
        (URL, "http://host:port", "needs the address of a server"),
        (URL, "http://me:sk-1@host", "must be an address alone"),
        (KEY, "sk-é", "DISTILLAB_API_KEY has letters that no key has"),
        (KEY, "sk-a\nb", "DISTILLAB_API_KEY has letters that no key has"),
    ],
)
def test_a_wrong_environment_is_one_line(server, wanted, monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=said) as error:
        write.generate(wanted())
    assert "sk-" not in str(error.value)
    assert not server.seen


def test_the_key_is_in_no_file(server, wanted, tmp_path, capfd):
    assert main([*wanted().command, "shard_rows=1"]) == 0
    assert SECRET not in "".join(capfd.readouterr())
    files = [path for path in (tmp_path / "root").rglob("*") if path.is_file()]
    assert len(files) >= 9 and all(SECRET.encode() not in path.read_bytes() for path in files)


def test_without_a_key_none_is_sent(server, wanted, monkeypatch):
    monkeypatch.delenv(KEY)
    written(wanted("rows=1"))
    assert "authorization" not in {name.lower() for name in server.seen[0][1]}
    server.reply = lambda body: (401, "")
    with pytest.raises(UserError, match=r"wants a key \(401\)"):
        written(wanted("rows=1", "sampling.seed=2", "out=" + wanted().out + "2"))


def test_documents_begin_with_their_first_words(server, wanted, tmp_path):
    (tmp_path / "prompts.txt").write_text("one two\nthree four\n\nfive six")
    texts = written(wanted("source=documents", "prefix_tokens=3"))
    assert texts[0].startswith("one two three written for one two three with") and texts[1].startswith(
        "five six written"
    )


def test_half_a_letter_does_not_end_the_command(server, wanted):
    server.reply = lambda body: (
        200,
        r'{"choices": [{"text": "one two three four five \ud83d", "finish_reason": "stop"}]}',
    )
    assert written(wanted("rows=1")) == ["one two three four five ?"]


def test_another_server_or_model_is_not_mixed_in(server, wanted, monkeypatch):
    written(wanted("rows=1"))
    with pytest.raises(UserError, match=r"text of endpoint.model=big, asked for other; go on with endpoint.model=big"):
        written(wanted("rows=1", "endpoint.model=other"))
    monkeypatch.setenv(URL, "http://other:8000")
    with pytest.raises(
        UserError, match=r"text of DISTILLAB_ENDPOINT=http://127.0.0.1:\d+, asked for http://other:8000"
    ):
        written(wanted("rows=1"))
