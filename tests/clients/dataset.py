"""Loads a dataset through the gateway, streamed and whole: `dataset.py REPO ROWS`."""

import sys

from datasets import load_dataset

repo, rows = sys.argv[1], int(sys.argv[2])
streamed = load_dataset(repo, split="train", streaming=True)
first = next(iter(streamed))
print(first)
whole = load_dataset(repo, split="train")
print(whole.num_rows)
assert whole.num_rows == rows
assert whole[0] == first
print("all held")
