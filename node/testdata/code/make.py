"""Makes samples.json: files that can run code, as Python, NumPy and PyTorch write them, and as those who hide them do.

Run: python make.py > samples.json      (Python 3.11, NumPy 2.4, PyTorch 2.15)
Nothing of it is harmful: what would be called is `print`.
"""

import base64
import bz2
import collections
import datetime
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib

import numpy
import torch

samples = []


def sample(name, kind, data):
    # Long ones are cut where a node would: the first 64 KiB and the last 256 KiB are all that is looked at.
    assert len(data) < 20_000, (name, len(data))
    samples.append({"name": name, "kind": kind, "bytes": base64.b64encode(bytes(data)).decode()})


class Call:
    def __reduce__(self):
        return (print, ("called",))


class Plain:
    def __init__(self):
        self.a = 1


Plain.__module__ = "plain"
Plain.__qualname__ = "Plain"
import sys, types

sys.modules["plain"] = types.SimpleNamespace(Plain=Plain)

things = {
    "call": Call(),
    "object": Plain(),
    "dict": collections.OrderedDict(a=[1, 2.5, None, True, "text", b"bytes"]),
    "weights": {"layer.0.weight": numpy.arange(6, dtype="f4").reshape(2, 3), "time": datetime.date(2024, 1, 2)},
    "plain": {"a": [1, 2, (3, 4)], "b": "text" * 20, "c": {1, 2}},
}
ends = ["bin", "pt", "ckpt", "pkl", "pth", "data"]
for protocol in range(6):
    for number, (name, thing) in enumerate(things.items()):
        end = ends[(number + protocol) % len(ends)]
        sample(f"{name}-{protocol}.{end}", "pickle", pickle.dumps(thing, protocol))

tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


def saved(thing, **how):
    file = io.BytesIO()
    torch.save(thing, file, **how)
    return file.getvalue()


archive = saved(tensors)
sample("pytorch_model.bin", "archived_pickle", archive)
sample("model.pt", "archived_pickle", saved(torch.nn.Linear(2, 2)))
sample("renamed.weights", "archived_pickle", archive)
sample("legacy.pth", "pickle", saved(tensors, _use_new_zipfile_serialization=False))
script = io.BytesIO()
torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), script)
sample("script.pt", "archived_pickle", script.getvalue())


def flipped(data, at_local, at_central, mask):
    """Flips bits in all local and central records of an archive, as those do who hide from scanners."""
    data = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", at_local), (b"PK\x01\x02", at_central)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] ^= mask
            at = data.find(signature, at + 1)
    return data


sample("encrypted-flag.bin", "archived_pickle", flipped(archive, 6, 8, 0x01))
sample("method-flag.bin", "archived_pickle", flipped(archive, 8, 10, 0x63))
sample("crc-flag.bin", "archived_pickle", flipped(archive, 14, 16, 0xFF))
# The two lists of names differ: one of them says something harmless.
hidden = bytearray(archive)
for signature, offset in ((b"PK\x03\x04", 30),):
    at = hidden.find(signature)
    while at >= 0:
        name = bytes(hidden[at + offset : at + offset + 60])
        where = name.find(b"data.pkl")
        if where >= 0:
            hidden[at + offset + where : at + offset + where + 8] = b"data.txt"
        at = hidden.find(signature, at + 1)
sample("other-local-name.bin", "archived_pickle", hidden)
hidden = bytes(archive).replace(b"data.pkl", b"data.txt")
sample("other-names.bin", "archived_pickle", hidden)
sample("behind-something.bin", "archived_pickle", b"\x00" * 100 + archive)
sample("with-a-comment.bin", "archived_pickle", archive[:-2] + struct.pack("<H", 5) + b"hello")


def zipped(files, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


sample("deflated.zip", "archived_pickle", zipped({"x/data.pkl": pickle.dumps(things["call"])}))
sample("nested.mar", "archived_pickle", zipped({"MAR-INF/MANIFEST.json": "{}", "model.pt": archive}))
sample("cut.zip", "archive", zipped({"a.txt": "text" * 100})[:-30])
sample("model.keras", "keras", zipped({"metadata.json": "{}", "config.json": "{}", "model.weights.h5": "x"}))
sample("empty-list.7z", "archive", b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(24))
sample("model.rar", "archive", b"Rar!\x1a\x07\x01\x00" + bytes(24))


def tarred(files):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue().rstrip(b"\0") + bytes(1024)


sample("oldest.pt", "archived_pickle", tarred({"sys_info": b"x", "pickle": pickle.dumps(things["call"], 2)}))
sample("model.nemo", "archived_pickle", tarred({"model_config.yaml": b"a: 1", "model_weights.ckpt": b"x"}))


def array(value, **how):
    file = io.BytesIO()
    numpy.save(file, value, **how)
    return file.getvalue()


objects = numpy.array([{"a": 1}, "b"], dtype=object)
sample("objects.npy", "numpy_objects", array(objects, allow_pickle=True))
record = numpy.array([(1, "x")], dtype=[("a", "<i4"), ("b", "O")])
sample("records.npy", "numpy_objects", array(record, allow_pickle=True))
file = io.BytesIO()
numpy.savez(file, objects=objects)
sample("objects.npz", "numpy_objects", file.getvalue())

thing = pickle.dumps(things["weights"], 4)
sample("zlib.joblib", "compressed_pickle", zlib.compress(thing, 3))
sample("fast.joblib", "compressed_pickle", zlib.compress(thing, 1))
sample("model.pkl.gz", "compressed_pickle", gzip.compress(thing, mtime=0))
sample("bz2.joblib", "compressed_pickle", bz2.compress(thing))
sample("xz.pkl", "compressed_pickle", lzma.compress(thing))
sample("lzma.joblib", "compressed_pickle", lzma.compress(thing, format=lzma.FORMAT_ALONE))
sample("oldest.joblib", "compressed_pickle", b"ZF0x1c                 " + zlib.compress(thing))

hdf5 = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + bytes(80)
sample("model.h5", "hdf5", hdf5)
sample("renamed.weights2", "hdf5", hdf5)
sample("behind-a-block.h5", "hdf5", bytes(512) + hdf5)

# Run before they turn out not to read.
sample("broken-behind.pkl", "pickle", b"\x80\x02cbuiltins\nprint\n(S'called'\ntR\xff\xff\xff\xff")
sample("broken-without-mark.pkl", "pickle", b"cbuiltins\nprint\n(S'called'\ntR\xff\xff\xff\xff")
sample("instance.pkl", "pickle", b"(S'called'\nibuiltins\nprint\n.")
sample("object-op.pkl", "pickle", b"(cbuiltins\nprint\nS'called'\no.")
sample("build.pkl", "pickle", b"\x80\x03cbuiltins\nprint\n)\x81}b.")
sample("extension.pkl", "pickle", b"\x80\x02\x82\x01.")
sample("concatenated.bin", "pickle", pickle.dumps(1, 2) + pickle.dumps(things["call"], 2))
sample("frames.bin", "pickle", pickle.dumps(["x" * 1_000] * 3 + [Call()], 4) + bytes(100))
sample("long.bin", "pickle", pickle.dumps([Call()] + list(range(3_000)), 2))

sample("modeling.py", "python", b"import os\n")
sample("run", "python", b"#!/usr/bin/env python3\nprint(1)\n")
sample("cached.pyc", "python", b"\xa7\r\r\n" + bytes(12) + b"\xe3")
sample("library.so", "native", b"\x7fELF\x02\x01\x01" + bytes(60))
sample("tool.exe", "native", b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(20))

print("[\n" + ",\n".join(json.dumps(sample) for sample in samples) + "\n]")
