//! Which files the Hub keeps in git, and which in large-file storage.

use crate::limits::GIT_FILE_LEN_MAX;
use crate::path::RepoPath;

/// Whether the Hub would keep a file in git: it is small, and none of the Hub's patterns for large-file storage fits its path.
///
/// `size` is in bytes. The publisher records the git blob id of exactly these files. An empty file is always kept in git.
pub fn kept_in_git(path: &RepoPath, size: u64) -> bool {
    if size == 0 {
        return true;
    }
    if size > GIT_FILE_LEN_MAX {
        return false;
    }
    let mut components = path.components();
    let name = components.next_back().unwrap_or_default();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let large = LARGE_EXTENSIONS.binary_search(&extension).is_ok()
        || name.contains(".tar.")
        || name.contains(".lfs.")
        || name.contains("tfevents")
        || components.next() == Some("saved_model");
    !large
}

/// The extensions in the `.gitattributes` that the Hub puts into a new model or dataset, sorted.
const LARGE_EXTENSIONS: [&str; 51] = [
    "7z",
    "aac",
    "arrow",
    "avro",
    "bin",
    "bmp",
    "bz2",
    "ckpt",
    "flac",
    "ftz",
    "gif",
    "gz",
    "h5",
    "joblib",
    "jpeg",
    "jpg",
    "lz4",
    "mds",
    "mlmodel",
    "model",
    "mp3",
    "mp4",
    "msgpack",
    "npy",
    "npz",
    "ogg",
    "onnx",
    "ot",
    "parquet",
    "pb",
    "pcm",
    "pickle",
    "pkl",
    "png",
    "pt",
    "pth",
    "rar",
    "raw",
    "safetensors",
    "sam",
    "tar",
    "tflite",
    "tgz",
    "tiff",
    "wasm",
    "wav",
    "webm",
    "webp",
    "xz",
    "zip",
    "zst",
];
