"""The scripts that ask a server for scores, as `distillab cache requests` prints them."""

from pathlib import Path

VLLM = """\
# vllm serve MODEL --max-logprobs TOP
import json, urllib.request
from concurrent.futures import ThreadPoolExecutor

def scored(line):
    row = json.loads(line)
    body = {"model": "MODEL", "prompt": row["token_ids"], "max_tokens": 1, "temperature": 1, "prompt_logprobs": TOP}
    asked = urllib.request.Request("http://localhost:8000/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.dumps({**row, "prompt_logprobs": json.load(urllib.request.urlopen(asked))["choices"][0]["prompt_logprobs"]})

with open("REQUESTS") as rows, open("scores.jsonl", "w") as file, ThreadPoolExecutor(32) as pool:
    file.writelines(answer + "\\n" for answer in pool.map(scored, rows))
"""
SGLANG = """\
# python -m sglang.launch_server --model-path MODEL
import json, urllib.request
from concurrent.futures import ThreadPoolExecutor

def scored(line):
    row = json.loads(line)
    body = {"input_ids": row["token_ids"], "sampling_params": {"max_new_tokens": 1, "temperature": 1}, "return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": TOP}
    asked = urllib.request.Request("http://localhost:30000/generate", json.dumps(body).encode(), {"Content-Type": "application/json"})
    found = json.load(urllib.request.urlopen(asked))["meta_info"]
    return json.dumps({**row, **{name: found[name] for name in ("input_top_logprobs", "input_token_logprobs")}})

with open("REQUESTS") as rows, open("scores.jsonl", "w") as file, ThreadPoolExecutor(32) as pool:
    file.writelines(answer + "\\n" for answer in pool.map(scored, rows))
"""


def snippets(top: int, requests: Path) -> str:
    """Both scripts for so many tokens at a position, and what follows them."""
    scripts = (
        f"With {name} (never run against a real server):\n\n{script}"
        for name, script in (("vLLM", VLLM), ("SGLang", SGLANG))
    )
    written = "\n".join(scripts).replace("TOP", str(top)).replace("REQUESTS", str(requests))
    return f"\n{written}\nthen python -m distillab.cache import … scheme=imported scheme.teacher=my_teacher scores=scores.jsonl"
