"""Publishes a file that is too large for a commit: `large.py NAME LENGTH WAY`. HF_TOKEN has the upload token.

WAY is `lfs` if it must work by git's protocol for large files, and in parts too; `refused` if it must fail and say what to set."""

import hashlib
import os
import pathlib
import subprocess
import sys

import huggingface_hub as hub
from huggingface_hub import _commit_api, lfs

name, length, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]
api = hub.HfApi()
work = pathlib.Path(os.environ["HF_HOME"]) / "large.bin"
work.parent.mkdir(parents=True, exist_ok=True)
hf = pathlib.Path(sys.executable).with_name("hf")
ways = []


def check(name, holds):
    print("ok" if holds else "WRONG", name, flush=True)
    if not holds:
        sys.exit(1)


def noted(step):
    """Writes down each call of a step of the client's."""
    work = getattr(lfs, step)

    def does(*args, **kwargs):
        ways.append(step)
        return work(*args, **kwargs)

    setattr(lfs, step, does)


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def fresh():
    """Other bytes, which nobody has yet."""
    work.write_bytes(os.urandom(length))
    return digest(work)


def is_there(path, sha256):
    entry = api.get_paths_info(repo, [path])[0]
    return entry.lfs.sha256 == sha256 and entry.size == length and digest(hub.hf_hub_download(repo, path)) == sha256


noted("_upload_single_part")
noted("_upload_multi_part")
repo = api.create_repo(name, exist_ok=True).repo_id
wanted = fresh()
if way == "refused":
    says = "this node takes no xet uploads: set HF_HUB_DISABLE_XET=1"
    try:
        api.upload_file(path_or_fileobj=work, path_in_repo="large.bin", repo_id=repo)
        check("it is refused", False)
    except Exception as error:
        print(type(error).__name__, error)
        check("the error says what to set", says in str(error))
    said = subprocess.run([hf, "upload", repo, work], capture_output=True, text=True)
    print(said.stdout, said.stderr)
    check("and so does `hf upload`", said.returncode != 0 and says in " ".join((said.stdout + said.stderr).split()))
    check("nothing was published", api.list_repo_files(repo) == [])
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    said = subprocess.run([hf, "upload", repo, work], capture_output=True, text=True)
    check("`hf upload` with it", said.returncode == 0 and is_there("large.bin", wanted))
else:
    api.upload_file(path_or_fileobj=work, path_in_repo="large.bin", repo_id=repo)
    check("it came in one piece", is_there("large.bin", wanted) and ways == ["_upload_single_part"])
    # The client takes parts if it is given any; here it is made to ask for nothing else.
    ask = _commit_api.post_lfs_batch_info
    _commit_api.post_lfs_batch_info = lambda *args, **kwargs: ask(*args, **{**kwargs, "transfers": ["multipart"]})
    ways.clear()
    wanted = fresh()
    api.upload_file(path_or_fileobj=work, path_in_repo="parts.bin", repo_id=repo)
    check("it came in parts", is_there("parts.bin", wanted) and ways == ["_upload_multi_part"])
    _commit_api.post_lfs_batch_info = ask
    ways.clear()
    api.upload_file(path_or_fileobj=work, path_in_repo="again.bin", repo_id=repo)
    check("what is there is not sent again", is_there("again.bin", wanted) and ways == [])
print("all held")
