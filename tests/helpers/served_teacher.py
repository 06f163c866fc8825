"""A local server that answers as vLLM and SGLang do, with a tiny model; made from their documents, not from their code."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch


def likeliest(net: torch.nn.Module, ids: list[int], top: int) -> list[list[tuple[int, float]] | None]:
    """Of each token what was likely in its place, the largest first; nothing of the first."""
    with torch.no_grad():
        log_p = net(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    values, tokens = log_p.topk(top)
    rows = [list(zip(t, v, strict=True)) for t, v in zip(tokens.tolist(), values.tolist(), strict=True)]
    return [None, *rows[:-1]]


def as_vllm(net: torch.nn.Module, ids: list[int], top: int) -> list[dict[str, Any] | None]:
    """`prompt_logprobs`: the prompt's own token too, with its rank, where it is none of the likeliest."""
    whole = likeliest(net, ids, net.config.vocab_size)
    found: list[dict[str, Any] | None] = [None]
    for own, ranked in zip(ids[1:], whole[1:], strict=True):
        kept = [(rank, token, value) for rank, (token, value) in enumerate(ranked, 1) if rank <= top or token == own]
        found.append({str(t): {"logprob": v, "rank": r, "decoded_token": f"<{t}>"} for r, t, v in kept})
    return found


def as_sglang(net: torch.nn.Module, ids: list[int], top: int) -> dict[str, Any]:
    """`meta_info`, with text that is null."""
    listed = [each and [[value, token, None] for token, value in each] for each in likeliest(net, ids, top)]
    whole = likeliest(net, ids, net.config.vocab_size)
    own = [[each and dict(each)[one], one, None] for one, each in zip(ids, whole, strict=True)]
    return {"input_top_logprobs": listed, "input_token_logprobs": own}


@contextmanager
def serving(net: torch.nn.Module) -> Iterator[str]:
    """Its address while it runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/completions":
                assert body["max_tokens"] == 1
                answer: Any = as_vllm(net, body["prompt"], body["prompt_logprobs"])
                answer = {"id": "cmpl-1", "choices": [{"text": "x", "prompt_logprobs": answer}]}
            else:
                assert self.path == "/generate" and body["return_logprob"] and body["logprob_start_len"] == 0
                answer = {"text": "x", "meta_info": as_sglang(net, body["input_ids"], body["top_logprobs_num"])}
            written = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
