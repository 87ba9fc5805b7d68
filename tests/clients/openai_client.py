"""Talks to models with OpenAI's own client: `openai_client.py BASE_URL ENCODER LM`."""

import base64
import struct
import sys

import openai
from openai import OpenAI

base_url, encoder, lm = sys.argv[1:4]
client = OpenAI(base_url=base_url, api_key="any token will do", max_retries=0, timeout=200)


def refused(kind, call, param=None):
    """The call must fail in this way, and the error say so in the API's own words."""
    try:
        call()
    except kind as error:
        assert error.body and error.body["message"], error.body
        assert param is None or error.param == param, (error.param, param)
        return error
    raise AssertionError(f"no {kind.__name__}")


# Models are listed under names that can be asked for.
listed = [model.id for model in client.models.list()]
assert encoder in listed and lm in listed, listed
assert client.models.retrieve(lm).id == lm
error = refused(openai.NotFoundError, lambda: client.models.retrieve("nobody/nothing"))
assert error.code == "model_not_found", error.code

# Embeddings: the client asks for base64 if nothing is said, and gets the same numbers either way.
texts = ["A cat sits on the mat.", "Ein Satz.", "A kitten is lying on a rug."]
answer = client.embeddings.create(model=encoder, input=texts)
vectors = [row.embedding for row in answer.data]
assert [row.index for row in answer.data] == [0, 1, 2]
assert [len(vector) for vector in vectors] == [384] * 3
floats = client.embeddings.create(model=encoder, input=texts[0], encoding_format="float").data[0].embedding
assert max(abs(a - b) for a, b in zip(floats, vectors[0])) < 1e-6
raw = client.embeddings.with_raw_response.create(model=encoder, input=texts[0], encoding_format="base64")
packed = base64.b64decode(raw.http_response.json()["data"][0]["embedding"])
assert list(struct.unpack("<384f", packed)) == vectors[0]
assert abs(sum(value * value for value in vectors[0]) - 1) < 1e-5
dot = lambda a, b: sum(x * y for x, y in zip(a, b))
assert dot(vectors[0], vectors[2]) > dot(vectors[0], vectors[1]) + 0.2
assert answer.usage.prompt_tokens == answer.usage.total_tokens > 15
tokens = [101, 1037, 4937, 7719, 2006, 1996, 13523, 1012, 102]
of_tokens = client.embeddings.create(model=encoder, input=[tokens], encoding_format="float")
assert max(abs(a - b) for a, b in zip(of_tokens.data[0].embedding, vectors[0])) < 1e-6
assert of_tokens.usage.prompt_tokens == len(tokens)
client.embeddings.create(model=encoder, input="x", dimensions=384)
refused(openai.BadRequestError, lambda: client.embeddings.create(model=encoder, input="x", dimensions=64), "dimensions")
refused(openai.BadRequestError, lambda: client.embeddings.create(model=encoder, input=[]), "input")
refused(openai.BadRequestError, lambda: client.embeddings.create(model=lm, input="x"), "model")

# A chat: the same answer each time at temperature 0, and what was used is counted.
ask = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
chat = lambda **more: client.chat.completions.create(model=lm, messages=ask, **more)
whole = chat(temperature=0, max_completion_tokens=48)
text = whole.choices[0].message.content
print(repr(text))
assert "Paris" in text, text
assert whole.object == "chat.completion" and whole.choices[0].message.role == "assistant"
assert whole.choices[0].finish_reason == "stop" and whole.model == lm
assert 0 < whole.usage.completion_tokens <= 48
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
assert chat(temperature=0, max_tokens=48).choices[0].message.content == text
cut = chat(temperature=0, max_tokens=2)
assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 2
assert text.startswith(cut.choices[0].message.content)
stopped = chat(temperature=0, max_tokens=48, stop="Paris")
assert stopped.choices[0].finish_reason == "stop"
assert stopped.choices[0].message.content == text[: text.index("Paris")], stopped.choices[0].message.content
parts = [{"role": "user", "content": [{"type": "text", "text": ask[0]["content"]}]}]
again = client.chat.completions.create(model=lm, messages=parts, temperature=0, max_tokens=48)
assert again.choices[0].message.content == text

# A seed draws the same tokens, another one others.
drawn = [chat(temperature=1.5, seed=seed, max_tokens=24).choices[0].message.content for seed in (7, 7, 8, 9)]
assert drawn[0] == drawn[1] and len(set(drawn)) > 1, drawn

# The same as a stream.
chunks = list(chat(temperature=0, max_tokens=48, stream=True, stream_options={"include_usage": True}))
assert chunks[0].choices[0].delta.role == "assistant"
assert len({chunk.id for chunk in chunks}) == 1
pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
assert "".join(pieces) == text and len([piece for piece in pieces if piece]) > 3, pieces
ends = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
assert ends[-1] == "stop" and not any(ends[:-1]), ends
assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage.model_copy(), (chunks[-1].usage, whole.usage)
assert all(chunk.usage is None for chunk in chat(temperature=0, max_tokens=2, stream=True))

# Who goes away in the middle is not waited for, and the next one gets an answer.
stream = chat(temperature=0, max_tokens=2000, stream=True)
next(iter(stream))
stream.close()
assert chat(temperature=0, max_tokens=48).choices[0].message.content == text

# Plain completions, whole and as a stream.
plain = lambda **more: client.completions.create(model=lm, prompt="Once upon a time", temperature=0, **more)
story = plain(max_tokens=12)
assert story.object == "text_completion" and story.usage.completion_tokens == 12
assert story.choices[0].finish_reason == "length" and story.choices[0].text
assert "".join(chunk.choices[0].text for chunk in plain(max_tokens=12, stream=True)) == story.choices[0].text
assert plain().usage.completion_tokens <= 16

# What this node does not do is refused, and the parameter named.
tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
for param, more in {
    "n": {"n": 2},
    "tools": {"tools": [tool]},
    "logprobs": {"logprobs": True},
    "response_format": {"response_format": schema},
    "temperature": {"temperature": 3},
    "frequency_penalty": {"frequency_penalty": 1},
    "top_k": {"extra_body": {"top_k": 40}},
}.items():
    refused(openai.BadRequestError, lambda: chat(**more), param)
refused(openai.BadRequestError, lambda: client.completions.create(model=lm, prompt=["a", "b"]), "prompt")
refused(openai.BadRequestError, lambda: client.chat.completions.create(model=encoder, messages=ask), "model")
refused(openai.NotFoundError, lambda: client.chat.completions.create(model="nobody/nothing", messages=ask), "model")
image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}]
refused(openai.BadRequestError, lambda: client.chat.completions.create(model=lm, messages=image), "messages")
print("all held")
