"""W&B that does not answer, is slow, or refuses the key: the run is kept on disk, with the command that uploads it."""

import os
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from helpers.made_results import made

from distillab.core.configuration import LoggerConfig
from distillab.reporting import loggers, wandb_run

ONLINE = LoggerConfig.of({"kind": "wandb", "project": "distillab", "entity": None, "mode": "auto", "tags": []})


class Refuses(BaseHTTPRequestHandler):
    """Answers as W&B does where a key is wrong."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(401)
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_):
        pass


@contextmanager
def refusing():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@contextmanager
def silent():
    """A server that takes a request and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def absent():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield port


@pytest.fixture
def key(monkeypatch, tmp_path):
    """A key that looks like one; W&B gives up after seconds."""
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for name, value in {"SILENT": "true", "API_KEY": "0" * 40, "INIT_TIMEOUT": "3"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    yield
    import wandb
    from wandb.sdk.lib import wbauth

    wbauth.unauthenticate_session()
    wandb.teardown()  # or the next test would find this one's server


@pytest.mark.slow
@pytest.mark.parametrize("server", [absent, silent, refusing])
def test_a_run_that_cannot_go_online_is_kept_with_the_command_to_upload_it(server, key, monkeypatch, tmp_path, capfd):
    with server() as port:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        began = time.monotonic()
        logger = loggers.build(ONLINE, tmp_path / "run", {"seed": 0}, "a name")
        logger.log_metrics({"train/loss": 1.0}, step=0)
        loggers.log_summary(logger, made())
        where = loggers.finish(logger)
        assert time.monotonic() - began < 60
    import wandb

    wandb.teardown()  # its own process has written all when it has ended
    said = capfd.readouterr().err
    assert "W&B cannot start a run" in said and "kept on disk" in said and said.count("\n") == 1, said
    assert where.startswith(f"wandb sync {tmp_path}/run/wandb/offline-run-")
    (kept,) = tmp_path.glob("run/wandb/offline-run-*/*.wandb")
    assert kept.stat().st_size > 1000


def test_a_run_that_cannot_go_online_goes_on_offline(key, monkeypatch, tmp_path, capsys):
    """The same without W&B's own waiting: a refusal of any kind starts the run once more, offline."""
    import wandb
    from lightning.pytorch import loggers as lightning_loggers

    modes = []

    class Fake:
        def __init__(self, mode, settings, **about):
            assert settings.finish_timeout == wandb_run.PATIENCE["finish_timeout"]
            assert "init_timeout" not in settings.model_fields_set, "the environment says it"
            modes.append(mode)

        @property
        def experiment(self):
            if modes[-1] == "online":
                raise wandb.errors.CommError("nobody\nanswers")

    monkeypatch.setattr(lightning_loggers, "WandbLogger", Fake)
    assert isinstance(wandb_run.start(ONLINE, tmp_path / "run"), Fake) and modes == ["online", "offline"]
    line = capsys.readouterr().err
    assert (
        line.startswith("warning: W&B cannot start a run (nobody answers); this run is kept") and line.count("\n") == 1
    )


def test_uploads_that_do_not_end_are_given_up_with_the_command_that_uploads_the_rest(
    key, monkeypatch, tmp_path, capsys
):
    import wandb

    def never(exit_code):
        raise TimeoutError("600 seconds are over")

    run = SimpleNamespace(dir=str(tmp_path / "run-1" / "files"), url="https://wandb.ai/x", offline=False)
    monkeypatch.setattr(wandb, "run", run)
    monkeypatch.setattr(wandb, "finish", never)
    assert wandb_run.end(0) == "https://wandb.ai/x"
    assert f"(600 seconds are over): wandb sync {tmp_path}/run-1 uploads the rest" in capsys.readouterr().err
