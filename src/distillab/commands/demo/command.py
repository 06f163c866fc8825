"""Serves the page of `distillab demo` on this machine."""

import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated

from distillab.commands.own_words import read_words
from distillab.commands.predict import Places, networks_of
from distillab.core import output
from distillab.core.allowed import Range
from distillab.core.errors import UserError
from distillab.core.group import group
from distillab.core.output import rank_zero_print
from distillab.core.stopping import Stopped

HELP = """distillab demo run=runs/<name>/<hash>
    a page on this machine: teacher, student alone and distilled student side by side, on your images or texts
port=7860                another port; 0 takes a free one
trust=true               calls classes of yours that the run names
paths.store=…            where the run's networks lie now    data.root=…, data.path=…   and its data"""
MANUAL = "docs/predict.md"
ADDRESS = "127.0.0.1"


@group
class Words(Places):
    """What `distillab demo` takes."""

    port: Annotated[int, Range(0, high=65535, whole=True)] = 7860


def demo(words: Sequence[str]) -> None:
    """Serve the page until it is stopped. Raises UserError."""
    if output.asks_for_help(words):
        rank_zero_print(f"{HELP}\nMore: {MANUAL}", result=True)
        return
    asked = Words.of(read_words(words, Words, "demo", MANUAL))
    with _listening(asked.port) as listener:
        with output.quietly(True):
            networks = networks_of(asked)
            from distillab.commands.demo.page import app_of

            app = app_of(networks)
        import uvicorn

        listener.listen()  # from now on a browser waits; before, it would be refused
        address = f"http://{ADDRESS}:{listener.getsockname()[1]}"
        rank_zero_print(f"{address} shows the networks of {asked.run}; Ctrl-C ends it", result=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
        with suppress(Stopped):  # there is nothing to go on with
            server.run(sockets=[listener])


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """A socket of this machine alone; UserError where the port is taken."""
    with socket.socket() as listener:
        if sys.platform != "win32":  # there it would share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((ADDRESS, port))
        except OSError as error:
            raise UserError(f"port={port} cannot be used ({error.strerror}): port={port + 1}, or port=0") from error
        yield listener
