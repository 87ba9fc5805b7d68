"""Reads a repo through the gateway as huggingface_hub does, newest or 0.36: `read.py REPO FOLDER`, with the folder that was published.

Exits with an error at the first thing that is not as it should be."""

import filecmp
import os
import pathlib
import subprocess
import sys

import huggingface_hub as hub
from huggingface_hub.utils import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

repo, folder = sys.argv[1], pathlib.Path(sys.argv[2])
api = hub.HfApi()
files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
largest = max(files, key=lambda name: (folder / name).stat().st_size)


def check(name, holds):
    print("ok" if holds else "WRONG", name, flush=True)
    if not holds:
        sys.exit(1)


def same(name, path):
    return filecmp.cmp(folder / name, path, shallow=False)


def raises(kind, work):
    try:
        work()
    except kind:
        return True
    except Exception as error:
        print(f"{type(error).__name__} instead of {kind.__name__}: {error}")
    return False


info = api.model_info(repo, files_metadata=True)
check("model_info: a commit", len(info.sha) == 40 and int(info.sha, 16) >= 0)
check("model_info: the files", sorted(file.rfilename for file in info.siblings) == files)
sizes = {file.rfilename: file.size for file in info.siblings}
check("model_info: their sizes", all(sizes[name] == (folder / name).stat().st_size for name in files))
check("list_repo_files", sorted(api.list_repo_files(repo)) == files)
tree = list(api.list_repo_tree(repo, recursive=True, expand=True))
check("list_repo_tree", sorted(entry.path for entry in tree if hasattr(entry, "blob_id")) == files)
paths = api.get_paths_info(repo, [files[0], "no/such/file"])
check("get_paths_info", [entry.path for entry in paths] == [files[0]])
refs = api.list_repo_refs(repo)
check("list_repo_refs", [branch.name for branch in refs.branches] == ["main"])
check("list_repo_refs: the commit", refs.branches[0].target_commit == info.sha)
commits = api.list_repo_commits(repo)
check("list_repo_commits", commits[0].commit_id == info.sha)
check("repo_exists", api.repo_exists(repo) and not api.repo_exists(repo + "-that-nobody-has"))
check("file_exists", api.file_exists(repo, files[0]) and not api.file_exists(repo, "no-such-file"))
name = repo.split("/")[1]
owner = repo.split("/")[0]
check("list_models", repo in [model.id for model in api.list_models(search=name, limit=10)])
labelled = api.list_models(author=owner, filter=["test", "license:mit"], sort="created_at")
check("list_models: by its author and its card", [model.id for model in labelled] == [repo])
check("list_models: others", list(api.list_models(search=name, filter="license:apache-2.0")) == [])

one = hub.hf_hub_download(repo, largest)
check("hf_hub_download", same(largest, one))
meta = hub.get_hf_file_metadata(hub.hf_hub_url(repo, largest))
check("get_hf_file_metadata", meta.commit_hash == info.sha and meta.size == (folder / largest).stat().st_size)
for revision in ["main", info.sha, "refs/heads/main"]:
    check(f"revision {revision}", same(files[0], hub.hf_hub_download(repo, files[0], revision=revision)))

snapshot = pathlib.Path(hub.snapshot_download(repo))
check("snapshot_download", all(same(name, snapshot / name) for name in files))
blobs = snapshot.parent.parent / "blobs"
before = {blob.name: blob.stat().st_mtime_ns for blob in blobs.iterdir()}
again = pathlib.Path(hub.snapshot_download(repo))
after = {blob.name: blob.stat().st_mtime_ns for blob in blobs.iterdir()}
check("a second snapshot_download downloads nothing", again == snapshot and before == after)
local = pathlib.Path(hub.snapshot_download(repo, local_dir=os.environ["HF_HOME"] + "/local"))
check("snapshot_download to a folder", all(same(name, local / name) for name in files))
check("and offline", pathlib.Path(hub.snapshot_download(repo, local_files_only=True)) == snapshot)

blob = (snapshot / largest).resolve()
whole = blob.read_bytes()
(snapshot / largest).unlink()
blob.unlink()
blob.with_name(blob.name + ".incomplete").write_bytes(whole[: len(whole) // 2])
check("what was begun is completed", same(largest, hub.hf_hub_download(repo, largest)))

hf = pathlib.Path(sys.executable).with_name("hf")
said = subprocess.run([hf, "download", repo, files[0]], capture_output=True, text=True)
check("hf download", said.returncode == 0 and str(snapshot) in said.stdout)
if not hub.__version__.startswith("0."):
    said = subprocess.run([hf, "cache", "verify", repo], capture_output=True, text=True)
    check("hf cache verify", said.returncode == 0 and f"Verified {len(files)} file(s)" in said.stdout)
    listing = [hf, "models", "ls", "--search", name, "--author", owner, "--format", "json"]
    said = subprocess.run(listing, capture_output=True, text=True)
    check("hf models ls", said.returncode == 0 and repo in said.stdout)

fs = hub.HfFileSystem()
check("HfFileSystem.find", sorted(name[len(repo) + 1 :] for name in fs.find(repo)) == files)
with fs.open(f"{repo}/{largest}", "rb", block_size=65536) as file:
    size = (folder / largest).stat().st_size
    expected = (folder / largest).read_bytes()
    for at in [0, size // 3, max(size - 100, 0)]:
        file.seek(at)
        check(f"HfFileSystem.open: bytes at {at}", file.read(1000) == expected[at : at + 1000])

check("RepositoryNotFoundError", raises(RepositoryNotFoundError, lambda: api.model_info(repo + "-x")))
check("RepositoryNotFoundError of a file", raises(RepositoryNotFoundError, lambda: hub.hf_hub_download(repo + "-x", "a")))
check("RevisionNotFoundError", raises(RevisionNotFoundError, lambda: api.model_info(repo, revision="0" * 40)))
check("EntryNotFoundError", raises(EntryNotFoundError, lambda: hub.hf_hub_download(repo, "no-such-file")))
check("of another kind", raises(RepositoryNotFoundError, lambda: api.dataset_info(repo)))
print("all held")
