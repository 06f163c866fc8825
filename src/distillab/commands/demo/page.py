"""The page itself: gradio's inputs, and the networks beside them. It asks nothing of any other machine."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from distillab.commands.demo.cards import FOLDER, cards, waiting
from distillab.commands.demo.members import Member, as_picture, beginnings, examples, members, of_image, of_text
from distillab.commands.predicting.images import Reader
from distillab.commands.predicting.networks import RunNetworks
from distillab.commands.predicting.work import TOKENS
from distillab.core.errors import UserError

if TYPE_CHECKING:
    import gradio
    from fastapi import FastAPI

TOP = 5  # classes of each network
LONGEST = 20_000  # letters of a typed text
KEPT = {"delete_cache": (3600, 86400)}  # what was uploaded: looked for every hour, deleted after a day and at the end
HOSTS = ("127.0.0.1", "localhost")
# A browser that follows this loads nothing from elsewhere, whatever gradio's page names.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"


def app_of(networks: RunNetworks) -> "FastAPI":
    """The page as a web application for this machine alone. Raises UserError where gradio or the student is not there."""
    gr = _gradio()
    from fastapi import FastAPI, Request
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    shown = members(networks)
    page = _texts(gr, networks, shown) if networks.reads_text else _images(gr, networks, shown)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # A page of another name that leads here would read what it must not.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS))

    @app.middleware("http")
    async def only_from_here(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    theme = gr.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    how = {"theme": theme, "css": (FOLDER / "page.css").read_text(encoding="utf-8"), "ssr_mode": False}
    return gr.mount_gradio_app(app, page, path="/", server_name=HOSTS[0], footer_links=[], **how)


def _gradio() -> Any:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_SHARE"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise UserError('distillab demo needs gradio: pip install "distillab[demo]"') from error
    return gradio


def _images(gr: Any, networks: RunNetworks, shown: Sequence[Member]) -> "gradio.Blocks":
    reader, known = Reader.of(networks.student, networks.config), examples(networks)

    def uploaded(file: str | None) -> str:
        if file is None:
            return waiting(shown, text=False)
        picture = reader.read(file)
        if picture.pixels is None:
            return waiting(shown, text=False, refusal="This file is no image that can be read.")
        return cards(of_image(shown, torch.from_numpy(picture.pixels.copy()), top=TOP))

    def chosen(event: gr.SelectData) -> str:
        example = known[event.index]
        return cards(of_image(shown, example.pixels, top=TOP), truth=example.name)

    with gr.Blocks(title=f"distillab: {networks.config.name}", analytics_enabled=False, **KEPT) as page:
        gr.HTML(_title(networks, "Drop an image, paste one, or choose one of the test split."), elem_classes="title")
        with gr.Row(elem_id="layout"):
            with gr.Column():
                # The file as it came: another mode or format would be another image.
                how = {"type": "filepath", "image_mode": None, "sources": ["upload", "clipboard"], "height": 240}
                image = gr.Image(label="image", buttons=[], elem_id="image", **how)
                # Gradio would open the file first, and end in an error of its own where it is no image.
                image.preprocess = lambda given: given and given.path
                if known:
                    pictures = [as_picture(example.pixels) for example in known]
                    look = {"columns": 6, "allow_preview": False, "buttons": []}
                    gallery = gr.Gallery(pictures, label="test split", format="png", elem_id="examples", **look)
            with gr.Column():
                told = gr.HTML(waiting(shown, text=False), elem_id="networks")
        own = {"api_visibility": "private", "show_progress": "minimal"}
        image.input(uploaded, image, told, **own)
        if known:
            gallery.select(chosen, None, told, **own)
    return page


def _texts(gr: Any, networks: RunNetworks, shown: Sequence[Member]) -> "gradio.Blocks":
    def typed(text: str) -> str:
        if not text.strip():
            return waiting(shown, text=True)
        if len(text) > LONGEST:
            return waiting(shown, text=True, refusal=f"The text has {len(text):,} letters, and {LONGEST:,} are read.")
        return cards(of_text(shown, text, tokens=TOKENS), text=text)

    with gr.Blocks(title=f"distillab: {networks.config.name}", analytics_enabled=False, **KEPT) as page:
        gr.HTML(_title(networks, "Type the beginning of a text; each network goes on with it."), elem_classes="title")
        text = gr.Textbox(label="text", lines=3, elem_id="text", placeholder="the beginning of a text")
        ask = gr.Button("Continue", variant="primary", elem_id="ask")
        if known := beginnings(networks):
            gr.Examples([[one] for one in known], text, cache_examples=False, label="beginnings of the test split")
        told = gr.HTML(waiting(shown, text=True), elem_id="networks")
        gr.on([ask.click, text.submit], typed, text, told, api_visibility="private", show_progress="minimal")
    return page


def _title(networks: RunNetworks, what: str) -> str:
    from markupsafe import escape

    epoch = networks.student.epoch
    more = f" The student is that of epoch {epoch}." if epoch else ""
    return f"<h1>{escape(networks.config.name)}</h1><p>{escape(what + more)}</p>"
