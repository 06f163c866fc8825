"""A tiny language model with a tokenizer of words, and folders of both."""

import torch

WORDS = 60  # tokens of the tokenizer; the model has outputs for a few more


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<s>", "</s>", "<unk>", *(f"w{number}" for number in range(3, WORDS))]
    words = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    found = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    found.chat_template = "{% for m in messages %}<s> w5 {{ m.content }} w6 {% endfor %}"
    return found


def network(seed=0):
    """A Llama of two layers whose logits depend much on what stands before, and on where it stands."""
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=64, max_position_embeddings=48, initializer_range=0.3, **size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def saved(folder, seed=0):
    network(seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)
