"""Publishes through the gateway as huggingface_hub does, newest or 0.36: `write.py NAME`. HF_TOKEN has the upload token."""

import os
import pathlib
import subprocess
import sys

import huggingface_hub as hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.utils import HfHubHTTPError

name = sys.argv[1]
api = hub.HfApi()
work = pathlib.Path(os.environ["HF_HOME"]) / "work"
(work / "deep").mkdir(parents=True)
(work / "config.json").write_text('{"model_type": "none"}')
(work / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
(work / "deep" / "weights.bin").write_bytes(os.urandom(3_000_000))


def check(name, holds):
    print("ok" if holds else "WRONG", name, flush=True)
    if not holds:
        sys.exit(1)


def fetched(path, revision=None):
    return pathlib.Path(hub.hf_hub_download(repo, path, revision=revision)).read_bytes()


repo = api.create_repo(name, exist_ok=True).repo_id
check("create_repo", repo.endswith("/" + name))
check("create_repo again", api.create_repo(name, exist_ok=True).repo_id == repo)
api.upload_file(path_or_fileobj=b"hello", path_in_repo="hello.txt", repo_id=repo)
check("upload_file", fetched("hello.txt") == b"hello")
api.upload_folder(folder_path=work, repo_id=repo)
first = api.model_info(repo).sha
check("upload_folder", fetched("deep/weights.bin") == (work / "deep" / "weights.bin").read_bytes())
check("and what was there stays", fetched("hello.txt") == b"hello")
api.upload_folder(folder_path=work, repo_id=repo)
check("the same again is the same revision", api.model_info(repo).sha == first)
operations = [
    CommitOperationAdd(path_in_repo="new.txt", path_or_fileobj=b"new"),
    CommitOperationDelete(path_in_repo="hello.txt"),
]
done = api.create_commit(repo, operations, commit_message="another", parent_commit=first)
check("create_commit", done.oid == api.model_info(repo).sha and done.oid != first)
files = sorted(api.list_repo_files(repo))
check("its files", files == ["README.md", "config.json", "deep/weights.bin", "new.txt"])
check("the revision before is still there", fetched("hello.txt", revision=first) == b"hello")
try:
    operations = [CommitOperationAdd(path_in_repo="late.txt", path_or_fileobj=b"late")]
    api.create_commit(repo, operations, commit_message="late", parent_commit=first)
    check("a stale parent is refused", False)
except HfHubHTTPError as error:
    check("a stale parent is refused", error.response.status_code == 412)
api.delete_file("new.txt", repo)
check("delete_file", "new.txt" not in api.list_repo_files(repo))
api.delete_folder("deep", repo)
check("delete_folder", sorted(api.list_repo_files(repo)) == ["README.md", "config.json"])
try:
    hub.HfApi(token=False).upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo)
    check("without the token nothing is taken", False)
except HfHubHTTPError as error:
    check("without the token nothing is taken", error.response.status_code == 401)
hf = pathlib.Path(sys.executable).with_name("hf")
said = subprocess.run([hf, "upload", name + "-by-hf", work], capture_output=True, text=True)
print(said.stdout, said.stderr)
repo = repo + "-by-hf"
check("hf upload", said.returncode == 0 and fetched("deep/weights.bin") == (work / "deep" / "weights.bin").read_bytes())
print("all held")
