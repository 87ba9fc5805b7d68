//! A file is kept in git exactly if the Hub would keep it there.

use crate::fixture::path;
use protocol::manifest::kept_in_git;

#[test]
fn small_text_is_kept_in_git() {
    for name in [
        "config.json",
        "README.md",
        "tokenizer.json",
        ".gitattributes",
        "model.safetensors.index.json",
        "a.BIN",
        "bin",
        "zip",
        "x/tar",
        "a.tarx",
        "saved_model.json",
        "a/saved_model/b",
        "vocab.txt",
        "x.lfs",
        "src/main.py",
        "binary.txt",
    ] {
        assert!(kept_in_git(&path(name), 1), "{name}");
    }
}

#[test]
fn files_of_the_hubs_patterns_are_large() {
    let patterns = "7z arrow avro bin bz2 ckpt ftz gz h5 joblib lz4 mds mlmodel model msgpack npy npz onnx ot parquet pb pcm \
        pickle pkl pt pth rar raw safetensors sam tar tflite tgz wasm wav xz zip zst aac flac mp3 ogg bmp gif png tiff jpg jpeg \
        webp mp4 webm";
    for extension in patterns.split_whitespace() {
        for name in [
            format!("x.{extension}"),
            format!("a/b.c.{extension}"),
            format!(".{extension}"),
        ] {
            assert!(!kept_in_git(&path(&name), 1), "{name}");
        }
    }
    for name in [
        "a.tar.lz",
        "x/a.lfs.json",
        "events.out.tfevents.123",
        "x/tfevents",
        "saved_model/a.json",
        "saved_model/b/c.txt",
    ] {
        assert!(!kept_in_git(&path(name), 1), "{name}");
    }
}

#[test]
fn size_decides_where_no_pattern_does() {
    let limit = 10 * 1024 * 1024;
    assert!(kept_in_git(&path("a.json"), limit));
    assert!(!kept_in_git(&path("a.json"), limit + 1));
    assert!(kept_in_git(&path("empty.bin"), 0));
}
