"""Loads configuration and tokenizer of a real model through the gateway: `transform.py REPO`."""

import sys

from transformers import AutoConfig, AutoTokenizer

config = AutoConfig.from_pretrained(sys.argv[1])
print(config.model_type, config.hidden_size)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
tokens = tokenizer("a model from a peer")["input_ids"]
print(tokens)
assert tokenizer.decode(tokens, skip_special_tokens=True) == "a model from a peer"
print("all held")
