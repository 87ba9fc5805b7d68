"""Records what transformers computes for tiny models of each decoder architecture, in float32, into parity/NAME.json.

    python record_decoders.py        (torch 2.15, transformers 5.23, gguf 0.19, numpy 2.4)

Weights are not recorded: both sides make them from the tensors' names. The numbers of a tensor are those of splitmix64, whose
state starts as the FNV-1a hash (64 bits) of its name; the upper 24 bits of each, divided by 2^24, give u in [0, 1). An element is
(u - 0.5) * 0.16, that of a norm 1 + (u - 0.5) * 0.2, or for gemma's norms, whose files hold what is added to 1, (u - 0.5) * 0.2.

Recorded for each: config.json as transformers 5 writes it; the same model's config as transformers 4 wrote it, where that differs;
for some the GGUF file of it, as gguf-py's writer and llama.cpp's converter make it: its metadata, its keys with the types of their
values and its tensors, both in the order that they have, and its SHA-1, so that who writes it anew knows that it is the same; token
ids; and of the logits behind each position a few values, the likeliest tokens, and the logarithm of the sum of exponentials.
"""

import hashlib, json, math, os, tempfile
from pathlib import Path

import gguf
import numpy
import torch
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent / "parity"
VOCAB = 101
IDS = [3, 17, 99, 4, 4, 63, 28, 5, 0, 100, 42, 7, 81, 12, 56, 33, 9, 71, 2, 88, 14, 39, 60, 25]
RAW = [0, 1, 31, 50, 77, 100]
SMALL = dict(vocab_size=VOCAB, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=None)


def numbers(name: str, count: int) -> numpy.ndarray:
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(state) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z = z ^ (z >> numpy.uint64(31))
    return (z >> numpy.uint64(40)).astype(numpy.float64) / 2**24 - 0.5


def fill(model, gemma: bool):
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            values = numbers(name, tensor.numel())
            if "norm" in name:
                values = values * 0.2 + (0.0 if gemma else 1.0)
            else:
                values = values * 0.16
            tensor.copy_(torch.from_numpy(values.astype(numpy.float32)).reshape(tensor.shape))
    model.tie_weights()


def rows(model):
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0].double()
    out = []
    for row in logits:
        top = torch.topk(row, 3)
        out.append({"lse": round(torch.logsumexp(row, 0).item(), 8), "raw": [round(row[i].item(), 8) for i in RAW],
                    "top": [[i, round(v, 8)] for i, v in zip(top.indices.tolist(), top.values.tolist())]})
    return out


def permuted(weights: numpy.ndarray, heads: int) -> numpy.ndarray:
    """What llama.cpp's converter does to the rows of llama's q and k."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def as_gguf(model, arch, path, keys, rope_freqs=None):
    """Writes the model as llama.cpp's converter does; gives the metadata and tensors as the file's reader says them."""
    config = model.config
    enum = {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[arch]
    names = gguf.get_tensor_name_map(enum, config.num_hidden_layers)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(0)
    for key, value in keys.items():
        getattr(writer, key)(value)
    tied = config.tie_word_embeddings
    made = {}
    for name, tensor in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        values = tensor.numpy()
        if arch == "llama" and "q_proj" in name:
            values = permuted(values, config.num_attention_heads)
        if arch == "llama" and "k_proj" in name:
            values = permuted(values, config.num_key_value_heads)
        if arch == "gemma3" and "norm" in name:
            values = values + 1
        made[name] = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(made[name], values)
    if rope_freqs is not None:
        writer.add_tensor("rope_freqs.weight", rope_freqs)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    reader = gguf.GGUFReader(path)
    fields = [f for f in reader.fields.values() if not f.name.startswith("GGUF.")]
    return {"metadata": {f.name: f.contents() for f in fields}, "names": made,
            "keys": [[f.name, f.types[0].value] for f in fields], "tensors": [t.name for t in reader.tensors],
            "sha1": hashlib.sha1(Path(path).read_bytes()).hexdigest()}


def case(name, model_type, settings, old=None, arch=None, keys=None, rope_freqs=None):
    """`old`: what config.json says in transformers 4's words instead of the keys mapped to None."""
    config = AutoConfig.for_model(model_type, **{**SMALL, **settings})
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    fill(model, model_type.startswith("gemma"))
    config.architectures = [type(model).__name__]
    said = json.loads(config.to_json_string())
    record = {"name": name, "config": said, "ids": IDS, "raw": RAW, "rows": rows(model)}
    if old is not None:
        before = {k: v for k, v in {**said, **old}.items() if v is not None and k not in ("dtype", "transformers_version")}
        before["torch_dtype"] = "float32"
        again = AutoModelForCausalLM.from_config(AutoConfig.for_model(**before), dtype=torch.float32, attn_implementation="eager").eval()
        fill(again, model_type.startswith("gemma"))
        assert rows(again) == record["rows"], f"{name}: the older config is another model"
        record["config_before"] = before
    if arch is not None:
        with tempfile.TemporaryDirectory() as folder:
            record["gguf"] = as_gguf(model, arch, os.path.join(folder, "model.gguf"), keys or {}, rope_freqs)
            loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", config=config, dtype=torch.float32,
                                                          attn_implementation="eager").eval()
            for a, b in zip(rows(loaded), record["rows"]):
                worst = max(abs(x - y) for x, y in zip(a["raw"], b["raw"]))
                assert worst < 1e-5, f"{name}: transformers reads another model from the GGUF file: {worst}"
    text = json.dumps(record, separators=(",", ":"))
    (HERE / f"{name}.json").write_text(text + "\n")
    print(name, len(text), record["rows"][-1])


def llama3_factors(scaling, theta, dim):
    """llama.cpp's converter's rope_freqs.weight."""
    low = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
    high = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
    out = []
    for i in range(0, dim, 2):
        length = 2 * math.pi * theta ** (i / dim)
        if length < high:
            out.append(1.0)
        elif length > low:
            out.append(scaling["factor"])
        else:
            smooth = (scaling["original_max_position_embeddings"] / length - scaling["low_freq_factor"]) / (
                scaling["high_freq_factor"] - scaling["low_freq_factor"])
            out.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return numpy.array(out, dtype=numpy.float32)


HERE.mkdir(exist_ok=True)
case("llama", "llama", dict(rope_parameters={"rope_type": "default", "rope_theta": 100000.0}, tie_word_embeddings=False, rms_norm_eps=1e-5),
     old=dict(rope_parameters=None, rope_theta=100000.0), arch="llama", keys=dict(add_rope_dimension_count=12, add_rope_freq_base=100000.0))
scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
case("llama-llama3", "llama",
     dict(rope_parameters={"rope_type": "llama3", "rope_theta": 500.0, **scaling}, tie_word_embeddings=True, head_dim=16),
     old=dict(rope_parameters=None, rope_theta=500.0, rope_scaling={"rope_type": "llama3", **scaling}),
     arch="llama", keys=dict(add_rope_dimension_count=16, add_key_length=16, add_value_length=16, add_rope_freq_base=500.0),
     rope_freqs=llama3_factors(scaling, 500.0, 16))
case("llama-biases", "llama", dict(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}, attention_bias=True, mlp_bias=True),
     old=dict(rope_parameters=None, rope_scaling={"type": "linear", "factor": 4.0}))
case("mistral", "mistral", dict(sliding_window=7, head_dim=16, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
     old=dict(rope_parameters=None, rope_theta=1000000.0))
case("qwen2", "qwen2", dict(rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, tie_word_embeddings=True, use_sliding_window=False),
     old=dict(rope_parameters=None, rope_theta=1000000.0, layer_types=None, sliding_window=32, max_window_layers=1),
     arch="qwen2", keys=dict(add_rope_freq_base=1000000.0))
case("qwen2-window", "qwen2", dict(num_hidden_layers=3, use_sliding_window=True, sliding_window=6, max_window_layers=2),
     old=dict(rope_parameters=None, rope_theta=10000.0, layer_types=None))
case("qwen3", "qwen3", dict(head_dim=16, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, tie_word_embeddings=True),
     old=dict(rope_parameters=None, rope_theta=1000000.0, layer_types=None),
     arch="qwen3", keys=dict(add_rope_freq_base=1000000.0, add_key_length=16, add_value_length=16))
case("gemma3", "gemma3_text",
     dict(num_hidden_layers=7, hidden_size=32, intermediate_size=48, head_dim=16, query_pre_attn_scalar=16, sliding_window=8,
          rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                           "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}),
     old=dict(rope_parameters=None, layer_types=None, sliding_window_pattern=6, rope_theta=1000000.0, rope_local_base_freq=10000.0,
              rope_scaling={"rope_type": "linear", "factor": 8.0}, cache_implementation="hybrid"),
     arch="gemma3", keys=dict(add_rope_freq_base=1000000.0, add_key_length=16, add_value_length=16, add_sliding_window=8,
                              add_rope_scaling_type=gguf.RopeScalingType.LINEAR, add_rope_scaling_factor=8.0))
case("gemma3-pattern", "gemma3_text",
     dict(num_hidden_layers=3, hidden_size=32, intermediate_size=48, head_dim=16, query_pre_attn_scalar=24, sliding_window=5,
          layer_types=["sliding_attention", "full_attention", "sliding_attention"],
          rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 20000.0},
                           "sliding_attention": {"rope_type": "default", "rope_theta": 500.0}}),
     old=dict(rope_parameters=None, layer_types=None, sliding_window_pattern=2, _sliding_window_pattern=None, rope_theta=20000.0, rope_local_base_freq=500.0))
case("phi3", "phi3", dict(rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}, hidden_size=64, pad_token_id=0,
                          sliding_window=9, original_max_position_embeddings=64),
     old=dict(rope_parameters=None, rope_theta=10000.0, rope_scaling=None, partial_rotary_factor=0.5),
     arch="phi3", keys=dict(add_rope_freq_base=10000.0, add_rope_dimension_count=8, add_sliding_window=9))
