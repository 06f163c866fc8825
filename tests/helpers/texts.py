"""Real text that comes with Python: its help topics, one document each."""

import json
from pydoc_data.topics import topics


def documents(count=40):
    return [text for _, text in sorted(topics.items())][:count]


def write(folder, count=40):
    """As JSONL."""
    file = folder / "topics.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in documents(count)))
    return file


def tiny_llama(vocabulary=64, seed=0, layers=2, **changes):
    """A fresh Llama with untied weights that are large enough to tell tokens apart."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    about = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "initializer_range": 0.3}
    config = LlamaConfig(
        vocab_size=vocabulary, num_hidden_layers=layers, max_position_embeddings=64, **(about | changes)
    )
    return LlamaForCausalLM(config).eval()
