#!/usr/bin/env python3
"""Records what tiny encoders with made-up weights compute in transformers, for the tests of the engine's own.

    pip install torch transformers
    python node/testdata/record_encoders.py        # writes node/testdata/parity/<name>.json

The weights are not kept: each is drawn by its name (`drawn` below, and `engine/parity.rs`), so a file holds the config, the
tensors' shapes, the tokens, and the last hidden states. Made with torch 2.15 and transformers 5.23, on one thread.
"""

import json
import math
import pathlib

import numpy as np
import torch
import transformers
from transformers import (
    BertConfig, BertForMaskedLM, BertModel, DistilBertConfig, DistilBertForMaskedLM, DistilBertModel, ModernBertConfig,
    ModernBertForMaskedLM, ModernBertModel, RobertaConfig, RobertaModel, XLMRobertaConfig, XLMRobertaForMaskedLM, XLMRobertaModel,
)

FOLDER = pathlib.Path(__file__).parent / "parity"
IDS = [2, 17, 99, 5, 5, 64, 31, 120, 77, 8, 42, 42, 3, 126, 50, 11, 90, 25, 66, 101, 7, 33, 58, 3]


def drawn(name, shape):
    """A tensor drawn by its name: splitmix64 from the FNV-1a of the name."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    count = math.prod(shape)
    with np.errstate(over="ignore"):
        z = np.uint64(state) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float64) / 2**24
    norm = "norm" in name.lower() and name.endswith("weight")
    values = 1 + (u - 0.5) * 0.2 if norm else (u - 0.5) * 2 * 0.08
    return values.astype(np.float32).reshape(shape)


def record(name, model, base=None):
    model.eval().to(torch.float32)
    shapes = {}
    with torch.no_grad():
        # What two names share is kept once, under the first; a head is saved without the embeddings that it shares.
        seen = set()
        for key, tensor in sorted(model.state_dict().items(), key=lambda item: item[0].startswith("lm_head.")):
            if tensor.data_ptr() in seen:
                continue
            seen.add(tensor.data_ptr())
            assert tensor.dtype == torch.float32, key
            shapes[key] = list(tensor.shape)
            tensor.copy_(torch.from_numpy(drawn(key, tuple(tensor.shape)).copy()))
        base = base(model) if base else model
        hidden = base(input_ids=torch.tensor([IDS])).last_hidden_state[0]
    assert torch.isfinite(hidden).all()
    config = json.loads(model.config.to_json_string(use_diff=False))
    config["architectures"] = [type(model).__name__]
    record = {
        "made_with": f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}",
        "config": config,
        "tensors": shapes,
        "ids": IDS,
        "hidden": [[float(f"{value:.9g}") for value in row] for row in hidden.tolist()],
    }
    text = json.dumps(record, indent=None, separators=(",", ":"))
    (FOLDER / f"{name}.json").write_text(text + "\n")
    print(name, len(text), "bytes, largest", float(hidden.abs().max()))


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    FOLDER.mkdir(exist_ok=True)
    bert = dict(vocab_size=128, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=40)
    record("bert", BertModel(BertConfig(**bert)))
    record("bert-masked-lm", BertForMaskedLM(BertConfig(**bert)), lambda model: model.bert)
    roberta = dict(bert, type_vocab_size=1, pad_token_id=1)
    record("roberta", RobertaModel(RobertaConfig(**roberta)))
    record("xlm-roberta", XLMRobertaModel(XLMRobertaConfig(**roberta)))
    record("xlm-roberta-masked-lm", XLMRobertaForMaskedLM(XLMRobertaConfig(**roberta)), lambda model: model.roberta)
    distil = DistilBertConfig(vocab_size=128, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=40)
    record("distilbert", DistilBertModel(distil))
    record("distilbert-masked-lm", DistilBertForMaskedLM(distil), lambda model: model.distilbert)
    # Four layers: the first and the last look at all, those between at a window of 8 tokens.
    modern = ModernBertConfig(
        vocab_size=128, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48, max_position_embeddings=64,
        global_attn_every_n_layers=3, local_attention=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
    record("modernbert", ModernBertModel(modern))
    record("modernbert-masked-lm", ModernBertForMaskedLM(modern), lambda model: model.model)


main()
