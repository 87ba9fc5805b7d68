"""Publishes through the gateway as datasets and transformers do: `push.py`. HF_TOKEN has the upload token."""

from datasets import Dataset, load_dataset
from huggingface_hub import ModelCard
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoConfig, AutoTokenizer, BertConfig, PreTrainedTokenizerFast


def check(name, holds):
    print("ok" if holds else "WRONG", name, flush=True)
    assert holds, name


columns = {"text": ["a", "b", "c"], "label": [0, 1, 0]}
Dataset.from_dict(columns).push_to_hub("local/pushed")
check("a dataset", load_dataset("local/pushed", split="train").to_dict() == columns)
more = {"text": ["d"], "label": [1]}
Dataset.from_dict(more).push_to_hub("local/pushed", split="test")
check("another split of it", load_dataset("local/pushed", split="test").to_dict() == more)
check("beside the first one", load_dataset("local/pushed", split="train").to_dict() == columns)
large = {"text": [str(number) * 100 for number in range(20_000)]}
Dataset.from_dict(large).push_to_hub("local/shards", num_shards=3)
check("shards", load_dataset("local/shards", split="train").to_dict() == large)
Dataset.from_dict(large).push_to_hub("local/shards", num_shards=3)
check("the same again", load_dataset("local/shards", split="train").to_dict() == large)

# The card that transformers would write otherwise needs a package more.
ModelCard("---\nlicense: mit\n---\n# A model\n").push_to_hub("local/model")
BertConfig(hidden_size=48, num_attention_heads=4).push_to_hub("local/model")
check("a configuration", AutoConfig.from_pretrained("local/model").hidden_size == 48)
words = Tokenizer(WordLevel({"[UNK]": 0, "from": 1, "here": 2}, unk_token="[UNK]"))
words.pre_tokenizer = Whitespace()
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").push_to_hub("local/model")
check("a tokenizer", AutoTokenizer.from_pretrained("local/model")("here from")["input_ids"] == [2, 1])
check("beside the configuration", AutoConfig.from_pretrained("local/model").hidden_size == 48)
print("all held")
