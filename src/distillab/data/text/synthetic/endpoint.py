"""A teacher behind an OpenAI-compatible server: requests at once, retries, and one line for what is wrong."""

import asyncio
import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from distillab.core.errors import UserError
from distillab.data.seeded import Stream, random_bits
from distillab.data.text.synthetic.config import Generation
from distillab.data.text.synthetic.rows import Report, Row

if TYPE_CHECKING:
    import httpx

URL, KEY = "DISTILLAB_ENDPOINT", "DISTILLAB_API_KEY"  # environment variables
LONGEST = 300.0  # seconds that a server may ask to wait


@dataclass(frozen=True)
class Failed:
    """A request without an answer that may have one later."""

    reason: str
    wait: float | None = None  # seconds, where the server says so


class Endpoint:
    """Asks a server for each row. The key is read from the environment, sent in a header, and told nowhere."""

    hash, device = None, "a server"

    def __init__(self, config: Generation) -> None:
        self.config, self.settings = config, config.endpoint
        url = os.environ.get(URL, "").strip().rstrip("/").removesuffix("/v1")
        if not _is_address(url):
            raise UserError(f"teacher=endpoint needs the address of a server; set {URL}=http://host:port, without /v1")
        if "@" in url or "?" in url:
            raise UserError(f"{URL} must be an address alone, without user, password or query; a key goes in {KEY}")
        key = os.environ.get(KEY, "").strip()
        if not key.isascii() or not (key.isprintable()):
            raise UserError(f"{KEY} has letters that no key has; set it to the key alone")
        self._key, self.url = key, url
        self.path = "/v1/chat/completions" if config.chat else "/v1/completions"
        self.name = str(self.settings.model)

    def check(self, prompts: Sequence[str]) -> None:
        """Nothing: only the server knows how long a prompt may be."""

    def write(self, prompts: Iterator[tuple[int, str]], report: Report) -> list[Row]:
        """A row for each row number and prompt, in their order."""
        return asyncio.run(self._write(list(prompts), report))

    async def _write(self, prompts: Sequence[tuple[int, str]], report: Report) -> list[Row]:
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        free = asyncio.Semaphore(self.settings.concurrency)
        limits = httpx.Limits(max_connections=self.settings.concurrency)
        async with httpx.AsyncClient(headers=headers, timeout=self.settings.timeout, limits=limits) as client:

            async def one(number: int, prompt: str) -> Row:
                async with free:
                    row = self._row(number, prompt, await self._answer(client, number, prompt))
                report(row.tokens or 0, 1)
                return row

            try:
                async with asyncio.TaskGroup() as group:  # the first that fails ends the others
                    tasks = [group.create_task(one(number, prompt)) for number, prompt in prompts]
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    def _body(self, number: int, prompt: str) -> dict[str, Any]:
        """The request of a row; the server gets a seed of the row's own."""
        how = self.config.sampling
        seed = int(random_bits(how.seed, 0, torch.tensor([number]), Stream.WRITTEN)) & 0x7FFFFFFF
        body = {
            "model": self.settings.model,
            "temperature": how.temperature,
            "top_p": how.top_p,
            "max_tokens": how.max_new_tokens,
            "seed": seed,
        }
        if self.config.chat:
            told = {"logprobs": True} if self.config.filters.perplexity else {}
            return body | told | {"messages": [{"role": "user", "content": prompt}]}
        return body | ({"logprobs": 1} if self.config.filters.perplexity else {}) | {"prompt": self._prompt(prompt)}

    def _prompt(self, prompt: str) -> str:
        """The prompt; of a document its first words, as there is no tokenizer."""
        if self.config.source != "documents":
            return prompt
        return " ".join(prompt.split()[: self.config.prefix_tokens])

    async def _answer(self, client: "httpx.AsyncClient", number: int, prompt: str) -> Mapping[str, Any]:
        """What the server answers for a row, after retries. Raises UserError where it does not."""
        body, tries = self._body(number, prompt), self.settings.retries + 1
        for attempt in range(tries):
            found = await self._ask(client, body, number)
            if not isinstance(found, Failed):
                return found
            if attempt + 1 < tries:
                spread = 1 + random.random()  # noqa: S311 - no secret: not all requests at the same moment
                wait = self.settings.wait * 2**attempt * spread
                await asyncio.sleep(min(max(wait, found.wait or 0.0), LONGEST))
        after = f" after {tries} tries" if tries > 1 else ""
        raise UserError(f"{self.url} {found.reason}{after}; finished files are kept, and the same command goes on")

    async def _ask(self, client: "httpx.AsyncClient", body: dict[str, Any], number: int) -> Mapping[str, Any] | Failed:
        """One request. Raises UserError for what no retry mends."""
        import httpx

        try:
            async with asyncio.timeout(self.settings.timeout):  # httpx counts from byte to byte
                response = await client.post(self.url + self.path, json=body)
        except (httpx.TimeoutException, TimeoutError):
            return Failed(f"gave no answer within {self.settings.timeout:g} s (endpoint.timeout=…)")
        except httpx.TransportError as error:
            return Failed(f"cannot be reached ({self._safe(str(error) or type(error).__name__)}; {URL})")
        status = response.status_code
        if status in (408, 409, 425, 429) or status >= 500:
            return Failed(f"answers {status} ({self._said(response)})", _seconds(response.headers.get("retry-after")))
        if status != 200:
            raise UserError(self._refusal(response, number))
        try:
            found = response.json()
            found["choices"][0]
        except (ValueError, LookupError, TypeError):
            raise UserError(f"{self.url}{self.path} answers something else than a completion; set {URL}=…") from None
        return found

    def _refusal(self, response: "httpx.Response", number: int) -> str:
        status = response.status_code
        if status in (401, 403):
            what = "refuses the key" if self._key else "wants a key"
            return f"{self.url} {what} ({status}); set {KEY}"
        if 300 <= status < 400:
            return f"{self.url} sends on to another address ({status}); set {URL} to that one"
        said = self._said(response)
        if status == 404:
            other = "endpoint.model=…, or chat=" + ("false" if self.config.chat else "true")
            return f'{self.url} knows no model "{self.settings.model}" or no {self.path} (404: {said}); set {other}'
        return f"{self.url} refuses row {number} ({status}: {said}); mend its prompt, or sampling.…"

    def _said(self, response: "httpx.Response") -> str:
        """The server's own reason, in a line."""
        try:
            found = response.json()
            error = found.get("error", found)
            text = str(error.get("message", error) if isinstance(error, dict) else error)
        except (ValueError, AttributeError):
            text = response.text or response.reason_phrase
        return self._safe(text)

    def _safe(self, text: str) -> str:
        line = " ".join(text.split())
        return (line.replace(self._key, "…") if self._key else line)[:200]

    def _row(self, number: int, prompt: str, found: Mapping[str, Any]) -> Row:
        choice, usage = found["choices"][0], found.get("usage") or {}
        try:
            text = choice["message"]["content"] if self.config.chat else choice["text"]
            told = choice.get("logprobs") or {}
            logprobs = [one["logprob"] for one in told.get("content") or []] if self.config.chat else []
            logprobs = logprobs or [one for one in told.get("token_logprobs") or [] if one is not None]
            counts = [usage.get(f"{of}_tokens") for of in ("completion", "prompt")]
        except (LookupError, TypeError, AttributeError):
            raise UserError(f"{self.url}{self.path} answers something else than a completion; set {URL}=…") from None
        if self.config.filters.perplexity and text and not logprobs:
            raise UserError(
                f"{self.url} tells no log-probabilities, which the filter of perplexity needs; "
                "switch it off (filters.max_perplexity=null and the like)"
            )
        perplexity = math.exp(min(-sum(logprobs) / len(logprobs), 700.0)) if logprobs else None
        prompt = self._prompt(prompt)
        text = f"{prompt}{text or ''}" if self.config.source == "documents" else text or ""
        # JSON can hold half a letter, which no file can.
        text = text.encode("utf-8", "replace").decode()
        finish = "length" if choice.get("finish_reason") == "length" else "stop"
        return Row(number, prompt, text, finish, *counts, perplexity)


def _is_address(url: str) -> bool:
    import httpx

    try:
        found = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return found.scheme in ("http", "https") and bool(found.host)


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:  # a date
        return None
