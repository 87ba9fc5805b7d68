"""Records what transformers' Jinja2 makes of chats by the templates in chats/, into chats.json.

    python record_chats.py SMOLLM2.gguf        (transformers 5.23, jinja2 3.1, gguf 0.19)

qwen2.5.jinja is the template of Qwen2.5-Instruct (Apache-2.0); smollm2 the one in SmolLM2's GGUF file (Apache-2.0); alternating is of
the kind that refuses chats whose roles do not alternate; features uses what templates use here and there.
"""

import json, sys
from pathlib import Path

import gguf
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).parent
SPECIALS = {"bos_token": "<s>", "eos_token": "</s>"}
CHATS = [
    [{"role": "user", "content": "Hello!"}],
    [{"role": "system", "content": "You answer in one word.\nAlways. "}, {"role": "user", "content": "  Which colour is the sky?\n"}],
    [{"role": "user", "content": "Name a prime."}, {"role": "assistant", "content": "Seven."}, {"role": "user", "content": " Another?\n"}],
    [{"role": "user", "content": "Größe <|im_end|> {{ 7 * 7 }} {% raw %} \"quoted\" \\ & <b> '\t\u2028"}],
    [{"role": "system", "content": ""}, {"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "user", "content": "c"},
     {"role": "assistant", "content": ""}],
    [{"role": "assistant", "content": "first"}],
]

templates = {path.stem: path.read_text() for path in sorted((HERE / "chats").glob("*.jinja"))}
templates["smollm2"] = gguf.GGUFReader(sys.argv[1]).fields["tokenizer.chat_template"].contents()
record = {"specials": SPECIALS, "chats": CHATS, "smollm2": templates["smollm2"], "rendered": {}}
for name, template in templates.items():
    said = []
    for chat in CHATS:
        try:
            said.append(render_jinja_template([chat], chat_template=template, add_generation_prompt=True, **SPECIALS)[0][0])
        except Exception as error:
            said.append({"refused": str(error)})
    record["rendered"][name] = said
(HERE / "chats.json").write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n")
print(json.dumps(record["rendered"], ensure_ascii=False, indent=1)[:6000])
