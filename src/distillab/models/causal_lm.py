"""A causal language model with what it looks like from outside, and the networks that it may hold."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any, Self

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError, reason
from distillab.core.instantiate import did_you_mean
from distillab.core.places import located
from distillab.core.ready_made import NO_CODE, Unreachable, read_causal_lm, read_config
from distillab.models.attention import Attention, AttentionTap
from distillab.models.feature_info import FeatureInfo, Stage
from distillab.models.logit_rows import ProjectedLogits
from distillab.models.model import Model, placed
from distillab.models.packing import check_packable, packed
from distillab.models.quiet import without_bars

AT_ONCE = 2**22  # logits; more are given as rows that are projected where they are read


class CausalLM(Model):
    """Takes tokens, possibly of several documents in a block, and gives logits of the next token.

    `net` is a causal language model of transformers, or any network that turns ids (N, L) into logits (N, L, outputs).
    `vocabulary` is the number of tokens of the tokenizer: outputs beyond it, which some models have for padding, are cut
    off. `stages` are module paths, its layers where None. Raises UserError for fewer outputs than tokens, or an unknown
    stage.
    """

    def __init__(
        self,
        net: nn.Module,
        vocabulary: int,
        length: int,
        name: str | None = None,
        *,
        stages: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.net, self.vocabulary, self.length = net, vocabulary, length
        self.hugging = hasattr(net, "get_output_embeddings") and hasattr(net, "base_model_prefix")
        # Placed by accelerate (device_map), which moves what passes between its parts.
        self.placed_apart = getattr(net, "hf_device_map", None) is not None
        name = name or type(net).__name__
        outputs = net.get_output_embeddings().weight.shape[0] if self.hugging else vocabulary
        if outputs < vocabulary:
            raise UserError(f"{name} has {outputs} outputs and the tokenizer {vocabulary} tokens; data.tokenizer=…")
        config = getattr(net, "config", None)
        longest = getattr(config, "max_position_embeddings", None)
        if longest is not None and length > longest:
            mend = f"data.length={longest}, or less where its blocks are longer than the student's"
            raise UserError(f"{name} takes {longest} tokens at most, and its blocks have {length}: {mend}")
        if self.hugging:
            check_packable(config, name)
        self.info = FeatureInfo(name, self._stages(stages, name), None, vocabulary, None, positions=length)

    def _stages(self, paths: Sequence[str] | None, name: str) -> tuple[Stage, ...]:
        width = getattr(getattr(self.net, "config", None), "hidden_size", None)
        if paths is None:
            paths = layer_paths(self.net) if width else []
        known = dict(self.net.named_modules())
        for path in paths:
            if path not in known:
                raise UserError(f'{name} has no stage "{path}"{did_you_mean(path, list(known))}')
        return tuple(Stage(path, width, 1, self.length) for path in paths)

    def forward(
        self, input_ids: Tensor, documents: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Tensor:
        """Ids (N, L) → logits (N, L, vocabulary); a position sees its own document alone, up to itself.

        `documents` (N, L) numbers the documents of a block, below 0 is padding; without it an `attention_mask` (N, L) of
        transformers says what is padding.
        """
        if not self.hugging:
            return self.net(input_ids)[..., : self.vocabulary]
        given = self._arguments(input_ids, documents, attention_mask)
        if self.placed_apart:
            given = {name: self._at_entrance(value) for name, value in given.items()}
        with self.autocast(input_ids.device):
            logits = self.net(**given).logits[..., : self.vocabulary]
        return logits.to(input_ids.device, logits.dtype if self.held_in is None else torch.float32)

    def _at_entrance(self, value: Any) -> Any:
        """A tensor on the device of the first layer; where that is not in memory, accelerate moves it."""
        if isinstance(value, dict):
            return {name: self._at_entrance(one) for name, one in value.items()}
        device = self.net.get_input_embeddings().weight.device
        return value.to(device) if isinstance(value, Tensor) and device.type != "meta" else value

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """What moves a module, or changes its type: not one whose parts were placed by a device_map."""
        return self if self.placed_apart else super()._apply(fn, recurse)

    def hold_in(self, dtype: str) -> None:
        """Keep and run the network in this type; one that was placed by a device_map was read in it."""
        if self.placed_apart:
            self.held_in = getattr(torch, dtype)
        else:
            super().hold_in(dtype)

    def outputs(self, input_ids: Tensor, **inputs: Tensor) -> Tensor | ProjectedLogits:
        """The same, as rows that are projected later where they would fill the memory."""
        if not self.hugging or self.placed_apart or input_ids.numel() * self.vocabulary <= AT_ONCE:
            return self(input_ids, **inputs)
        with self.autocast(input_ids.device):
            found = self._body(**self._arguments(input_ids, **inputs))
        return ProjectedLogits(found.last_hidden_state, self.head, self.vocabulary)

    def head(self, hidden: Tensor) -> Tensor:
        """Hidden states (R, d) → logits (R, vocabulary), by the network's own code behind its body.

        So tied heads, a bias, a scale of the logits and soft-capping are what they are in the network.
        """
        with self.autocast(hidden.device), standing_in(self.net, hidden[None]):
            ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
            return self.net(input_ids=ids, use_cache=False).logits[0, :, : self.vocabulary]

    def attention_tap(self, note: Callable[[nn.Module, Attention], None]) -> AbstractContextManager:
        """The attention of a network of transformers."""
        return AttentionTap(self.net, self.info.name, note) if self.hugging else super().attention_tap(note)

    def autocast(self, device: torch.device) -> Any:
        """A block in which the network runs in the dtype of the step around it, or in the one that it is held in."""
        enabled = torch.is_autocast_enabled(device.type) and self.held_in is None
        return torch.autocast(device.type, enabled=enabled)

    @property
    def _body(self) -> nn.Module:
        return getattr(self.net, self.net.base_model_prefix)

    def _arguments(
        self, input_ids: Tensor, documents: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> dict[str, Any]:
        """What the network is called with."""
        if documents is None:
            seen = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            documents = torch.where(seen > 0, 0, -1)
        dtype = self.held_in or placed(self.net)[1]
        mask, positions = packed(documents, dtype, self.net.config)
        return {"input_ids": input_ids, "attention_mask": mask, "position_ids": positions, "use_cache": False}

    def example_inputs(self, size: int = 2) -> dict[str, Tensor]:
        """Random tokens of one document a block, on the model's device, with no draw from the run's generators."""
        device, _ = placed(self)
        drawn = torch.randint(self.vocabulary, (size, self.length), generator=torch.Generator().manual_seed(0))
        return {"input_ids": drawn.to(device), "documents": torch.zeros_like(drawn).to(device)}

    def input_settings(self) -> dict[str, Any]:
        """The length of a block, and the number of tokens."""
        return {"length": self.length, "vocabulary": self.vocabulary}


@contextmanager
def standing_in(net: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Let a network of transformers take these hidden states (N, L, d) for what its body has found."""
    from transformers.modeling_outputs import BaseModelOutputWithPast

    class Found(nn.Module):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return BaseModelOutputWithPast(last_hidden_state=hidden)

    prefix = net.base_model_prefix
    body = net._modules[prefix]
    net._modules[prefix] = Found()
    try:
        yield
    finally:
        net._modules[prefix] = body


def layer_paths(net: nn.Module) -> list[str]:
    """The module paths of a transformer's layers: its longest list of modules."""
    lists = {path: module for path, module in net.named_modules() if isinstance(module, nn.ModuleList)}
    if not lists:
        return []
    path, longest = max(lists.items(), key=lambda one: len(one[1]))
    return [f"{path}.{place}" for place in range(len(longest))]


def llama(
    vocabulary: int,
    length: int,
    *,
    width: int,
    layers: int,
    heads: int,
    hidden: int,
    key_value_heads: int | None = None,
    tied: bool = True,
) -> nn.Module:
    """A Llama of any size with fresh weights (arXiv 2302.13971); `hidden` is the width inside its feed-forward parts."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if width % heads:
        raise UserError(f"width must be a multiple of heads, got {width} and {heads}")
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads or heads,
        max_position_embeddings=max(length, 512),
        tie_word_embeddings=tied,
        attn_implementation="sdpa",
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config)


def pretrained_lm(
    path: str,
    *,
    pretrained: bool = True,
    layers: Sequence[int] | None = None,
    gguf: str | None = None,
    attention: str = "sdpa",
    device_map: Any = None,
    dtype: str = "float32",
) -> nn.Module:
    """A causal language model of a local folder or of the hub, in float32 or the `dtype` of a teacher that stays as it is.

    Without `pretrained` its weights are fresh. `layers` keeps some of its layers alone, by number: a student that starts
    from a part of its teacher (arXiv 1910.01108). `gguf` is the file in the folder that holds the weights. `device_map` is
    that of transformers, for accelerate. Raises UserError where it cannot be loaded, or has no such layer.
    """
    from transformers import AutoModelForCausalLM, GgufConfig

    if device_map is not None and find_spec("accelerate") is None:
        raise UserError(
            "device_map needs accelerate, which is not installed: pip install accelerate, or device_map=null"
        )
    place = str(found) if (found := located(path, "path")).exists() else path
    how: dict[str, Any] = {"attn_implementation": attention} | ({"gguf_file": gguf} if gguf else {})
    try:
        if pretrained:
            where = {"device_map": device_map} if device_map is not None else {}
            if gguf:  # quantised weights could be neither trained nor saved
                where["quantization_config"] = GgufConfig(dequantize=True)
            with without_bars() if found.is_dir() else nullcontext():  # a download may show how far it is
                net = read_causal_lm(place, dtype=getattr(torch, dtype), **how, **where)
        else:
            net = AutoModelForCausalLM.from_config(read_config(place, **how), **NO_CODE, **how)
    except Unreachable as error:
        raise UserError(f"{error}: path=…") from error
    except Exception as error:  # of transformers, safetensors, the hub: each has its own
        raise UserError(f"{path} holds no causal language model that can be read ({reason(error)})") from error
    if (
        device_map is not None and getattr(net, "hf_device_map", None) is None
    ):  # transformers leaves it out for one device
        net.hf_device_map = {"": str(net.device)}
    return net if layers is None else keep_layers(net, layers)


def keep_layers(net: nn.Module, layers: Sequence[int]) -> nn.Module:
    """The network with some of its layers, in this order. Raises UserError for a layer that it does not have."""
    paths = layer_paths(net)
    if not layers or not all(isinstance(n, int) and 0 <= n < len(paths) for n in layers):
        raise UserError(f"layers must list numbers from 0 to {len(paths) - 1}, got {list(layers)}")
    whole = net.get_submodule(paths[0].rpartition(".")[0])
    kept = nn.ModuleList(whole[number] for number in layers)
    for place, layer in enumerate(kept):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = place
    net.set_submodule(paths[0].rpartition(".")[0], kept)
    net.config.num_hidden_layers = len(kept)
    if getattr(net.config, "layer_types", None):
        net.config.layer_types = [net.config.layer_types[number] for number in layers]
    return net
