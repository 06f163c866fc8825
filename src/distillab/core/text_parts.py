"""What a result says of language models alone; roles are `teacher`, `baseline` (the student alone) and `student`."""

from distillab.core.result_parts import STEADY, Figures, Number, Part


class Kind(Part):
    """Bits per byte of each role on the test documents of one kind."""

    name: str
    bytes: int
    scores: Figures


class Acceptance(Part):
    """The share of a draft's tokens that its target would keep, over so many tokens; as of `acceptance.acceptance`."""

    rate: Number
    tokens: int


class Generation(Part):
    """One text written greedily: `new` tokens behind `prompt` ones; as of `generation.speed`."""

    prompt: int
    new: int
    first_token_ms: Number
    tokens_per_second: Number
    spread: Number  # the share by which repeated timings differ
    peak_memory_bytes: int

    @property
    def steady(self) -> bool:
        """Whether the timings can be relied on."""
        return self.spread <= STEADY


class Sample(Part):
    """One prompt of the test text, and how each role goes on."""

    prompt: str
    continuations: dict[str, str]


class Canaries(Part):
    """Random texts that the teacher alone was trained on: how often each stood there, and its exposure in each role.

    An exposure is in bits, from 0 (the text is as likely as any other) to `most`; as of `canaries.exposures`.
    """

    insertions: list[int]
    exposure: dict[str, list[Number]]
    most: Number


class Text(Part):
    """What a run of language models shows beside its metrics; what it did not measure is empty."""

    intervals: dict[str, list[Number]] = {}  # of bits per byte, 95 %, by document
    kinds: list[Kind] = []
    acceptance: dict[str, Acceptance] = {}
    generation: dict[str, Generation] = {}
    samples: list[Sample] = []
    canaries: Canaries | None = None
    sentences: list[str] = []
    reloaded: Number | None = None  # largest difference of a logit: the folder as transformers reads it to the student
