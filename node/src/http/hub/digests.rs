//! What clients of the Hub's API call a file's content: the SHA-256 of what the Hub keeps as a large file, the git id of everything else.
//! Where a manifest does not say it, the first digits of the BLAKE3 stand in: as stable, and of the same length.

use protocol::manifest::kept_in_git;
use protocol::{FileEntry, GitId};
use sha1::Digest;

use crate::store::digest::git_hasher;

/// Bytes of a git id.
const GIT_ID_LEN: usize = 20;

/// Whether the Hub would keep the file in large-file storage, with a pointer to it in git.
pub(super) fn is_lfs(file: &FileEntry) -> bool {
    !kept_in_git(&file.path, file.size)
}

/// The id by which clients know the content: 64 hex digits for large files, 40 for others.
pub(super) fn etag(file: &FileEntry) -> String {
    match is_lfs(file) {
        true => lfs_oid(file),
        false => blob_id(file).to_string(),
    }
}

/// The id of a large file: 64 hex digits.
pub(super) fn lfs_oid(file: &FileEntry) -> String {
    file.sha256
        .map_or_else(|| file.blake3.to_string(), |sha256| sha256.to_string())
}

/// The id of what lies in git: the file, or the pointer to it.
pub(super) fn blob_id(file: &FileEntry) -> GitId {
    if is_lfs(file) {
        return git_id("blob", pointer(file).as_bytes());
    }
    file.sha1.unwrap_or_else(|| {
        let mut id = [0; GIT_ID_LEN];
        id.copy_from_slice(&file.blake3.as_bytes()[..GIT_ID_LEN]);
        GitId::from_bytes(id)
    })
}

/// What lies in git for a large file.
pub(super) fn pointer(file: &FileEntry) -> String {
    let (oid, size) = (lfs_oid(file), file.size);
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
}

/// The id that git gives an object: `kind` is `blob` or `tree`.
pub(super) fn git_id(kind: &str, content: &[u8]) -> GitId {
    let mut hasher = git_hasher(kind, content.len() as u64);
    hasher.update(content);
    GitId::from_bytes(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use protocol::{Hash, RepoPath, Sha256};

    use super::*;

    fn file(path: &str, size: u64) -> FileEntry {
        FileEntry {
            path: RepoPath::new(path).unwrap(),
            size,
            blake3: Hash::of(path.as_bytes()),
            sha256: None,
            sha1: None,
        }
    }

    #[test]
    fn large_files_go_by_sha256_and_others_by_their_git_id() {
        let large = FileEntry {
            sha256: Some(Sha256::EMPTY),
            ..file("model.safetensors", 5)
        };
        assert_eq!(etag(&large), Sha256::EMPTY.to_string());
        let small = FileEntry {
            sha1: Some(GitId::EMPTY),
            ..file("config.json", 0)
        };
        assert_eq!(etag(&small), GitId::EMPTY.to_string());
        assert_eq!(etag(&file("a.bin", 5)).len(), 64);
        assert_eq!(etag(&file("a.json", 5)).len(), 40);
    }

    #[test]
    fn git_would_give_the_same_ids() {
        // printf hello | git hash-object --stdin
        let hello = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
        assert_eq!(git_id("blob", b"hello").to_string(), hello);
        assert_eq!(git_id("blob", b""), GitId::EMPTY);
    }
}
