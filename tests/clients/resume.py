"""Downloads through a connection that breaks in the middle of a file, and then all of the repo, each twice: `resume.py REPO FOLDER FILE`."""

import filecmp
import pathlib
import sys

import huggingface_hub as hub

repo, folder, broken = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]


def check(name, holds):
    print("ok" if holds else "WRONG", name, flush=True)
    if not holds:
        sys.exit(1)


def same(name, path):
    return filecmp.cmp(folder / name, path, shallow=False)


try:
    one = hub.hf_hub_download(repo, broken)
except Exception as error:
    # 0.36 gives up, and goes on where it was when it is asked again.
    check(f"{type(error).__name__} is for the old one alone", hub.__version__.startswith("0."))
    one = hub.hf_hub_download(repo, broken)
check("hf_hub_download", same(broken, one))
check("hf_hub_download again", hub.hf_hub_download(repo, broken) == one)
snapshot = pathlib.Path(hub.snapshot_download(repo))
names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
check("snapshot_download", len(names) > 3 and all(same(name, snapshot / name) for name in names))
check("snapshot_download again", pathlib.Path(hub.snapshot_download(repo)) == snapshot)
print("all held")
