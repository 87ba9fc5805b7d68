//! The rows of the catalog, and their keys and values as bytes.
//!
//! A value is a version byte, then postcard. Nothing here knows sled; what does not decode is an [`Unreadable`], never a panic. Rows are bounded
//! so that sled never puts one in a file of its own: it would not be fsynced.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use protocol::{GitId, Hash, Kind, Publisher, RepoId, RepoName, Sha256, SignedRelease};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::engine::Tree;
use super::known::{self, KnownRow, NameKey};

/// The version byte of every value. A value with another one is unreadable: the catalog is rebuilt, not migrated.
pub(super) const VERSION: u8 = 1;

/// Most repos remembered as names of one manifest: enough to show, and one publisher can't bloat the row of another's manifest.
pub const NAMES_MAX: usize = 16;

/// Most providers remembered of one manifest: more than a fetch dials.
pub const PROVIDERS_MAX: usize = 32;

/// Most addresses remembered of one provider.
pub const PROVIDER_ADDRESSES_MAX: usize = 8;

/// Longest address of a provider, in bytes: the limit of a ticket's.
pub const ADDRESS_LEN_MAX: usize = protocol::limits::ADDRESS_LEN_MAX;

/// Longest peer id, in bytes: the longest key that libp2p takes in an identity multihash, and its prefix.
pub const PEER_LEN_MAX: usize = 64;

/// Largest row of providers, in bytes. sled joins up to 20 rows on a page, and moves pages over 128 KiB to files that nobody fsyncs.
pub(super) const PROVIDERS_ROW_LEN_MAX: usize = 6 * 1024;

/// Longest path we store, in bytes: `PATH_MAX` of Linux.
pub const STORED_PATH_LEN_MAX: usize = 4096;

/// Longest path that is a key as it is, in bytes. Longer ones are cut and hashed, so that 256 keys fit a sled index page of 128 KiB.
const PATH_KEY_LEN_MAX: usize = 255;

/// Bytes of a longer path that its key starts with.
const PATH_KEY_HEAD_LEN: usize = 224;

/// What we know of a repo: its highest release, in short. The release file is the truth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoRow {
    /// What the repo is.
    pub kind: Kind,
    /// The number of the release.
    pub seq: u64,
    /// The revision.
    pub manifest: Hash,
    /// When the release was signed, in Unix seconds.
    pub issued: u64,
    /// When it should have been replaced, in Unix seconds.
    pub expires: u64,
    /// The hash of the signed release.
    pub release_hash: Hash,
    /// One of our own publisher keys signs it.
    pub ours: bool,
    /// Its publisher signed two releases with one number.
    pub fork: bool,
}

impl RepoRow {
    /// Shortens a release; `ours` where our publisher key signed it.
    pub fn of(release: &SignedRelease, ours: bool) -> RepoRow {
        let signed = release.release();
        RepoRow {
            kind: signed.kind,
            seq: signed.seq,
            manifest: signed.manifest,
            issued: signed.issued,
            expires: signed.expires,
            release_hash: release.hash(),
            ours,
            fork: false,
        }
    }
}

/// What we know of a manifest that is, or was, in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRow {
    /// How many files it lists.
    pub files: u32,
    /// The sum of their sizes, in bytes.
    pub bytes: u64,
    /// Kept from collection.
    pub pinned: bool,
    /// Every blob of it is in the store.
    pub complete: bool,
    /// When we first had it, in Unix seconds.
    pub added: u64,
    /// Repos that it is, or was, a revision of. Of more than [`NAMES_MAX`] the last ones are kept.
    pub names: Vec<RepoId>,
}

/// What tells an unchanged file without reading it: any write changes at least one of the three, short of somebody setting the clock on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Length in bytes.
    pub len: u64,
    /// Time of the last write, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Inode number.
    pub inode: u64,
}

impl Stamp {
    /// The stamp of a file, from its metadata.
    pub fn of(metadata: &Metadata) -> Stamp {
        let seconds = metadata.mtime().saturating_mul(1_000_000_000);
        Stamp {
            len: metadata.len(),
            mtime_ns: seconds.saturating_add(metadata.mtime_nsec()),
            inode: metadata.ino(),
        }
    }
}

/// Where the bytes of a blob too big for the store's database lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Length in bytes.
    pub len: u64,
    /// In our folder, or where the user has it.
    pub kind: PlaceKind,
}

/// Whose file holds a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlaceKind {
    /// A file in our data folder, named by the blob's hash.
    Owned,
    /// A file of the user's.
    Reference {
        /// Where: an absolute path of at most [`STORED_PATH_LEN_MAX`] bytes, UTF-8 or not.
        #[serde(with = "path_bytes")]
        path: PathBuf,
        /// What it was when its bytes were last read and hashed.
        stamp: Stamp,
    },
}

/// The digests of a file of the user's, so that it is not read again while its stamp stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// What the file was before and after it was read.
    pub stamp: Stamp,
    /// BLAKE3.
    pub blake3: Hash,
    /// SHA-256.
    pub sha256: Sha256,
    /// The git blob id, where it was asked for.
    pub sha1: Option<GitId>,
}

/// The other digests of a blob, as they were hashed here: what a manifest says of them is held against these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// SHA-256.
    pub sha256: Sha256,
    /// The git blob id, where it was asked for.
    pub sha1: Option<GitId>,
}

/// A peer that announced a manifest to us before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its peer id, 1 to [`PEER_LEN_MAX`] bytes.
    pub peer: Vec<u8>,
    /// Multiaddresses as text. Those past [`PROVIDER_ADDRESSES_MAX`] or longer than [`ADDRESS_LEN_MAX`] are dropped.
    pub addresses: Vec<String>,
    /// When it last answered, in Unix seconds.
    pub last_seen: u64,
}

/// Why a value is no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable;

/// A kind of row: where it is stored, and how its key is written.
pub(super) trait Table {
    const TREE: Tree;
    type Key: ?Sized;
    type OwnedKey;
    type Row;

    fn key(key: &Self::Key) -> Vec<u8>;
    fn encode(key: &Self::Key, row: &Self::Row) -> Vec<u8>;
    fn decode(key: &[u8], value: &[u8]) -> Result<(Self::OwnedKey, Self::Row), Unreadable>;
}

/// Rows with their keys.
pub(super) type Rows<T> = Vec<(<T as Table>::OwnedKey, <T as Table>::Row)>;

pub(super) struct Repos;
pub(super) struct Manifests;
pub(super) struct Places;
pub(super) struct Digests;
pub(super) struct SumsOf;
pub(super) struct Providers;
pub(super) struct Known;

impl Table for Repos {
    const TREE: Tree = Tree::Repos;
    type Key = RepoId;
    type OwnedKey = RepoId;
    type Row = RepoRow;

    /// The 32 bytes of the publisher, then the name: the repos of one publisher are neighbours.
    fn key(key: &RepoId) -> Vec<u8> {
        [key.publisher.as_bytes(), key.name.as_str().as_bytes()].concat()
    }

    fn encode(_: &RepoId, row: &RepoRow) -> Vec<u8> {
        encode_value(row)
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<(RepoId, RepoRow), Unreadable> {
        let (publisher, name) = key.split_first_chunk::<32>().ok_or(Unreadable)?;
        let name = std::str::from_utf8(name).map_err(|_| Unreadable)?;
        let id = RepoId {
            publisher: Publisher::from_bytes(*publisher).map_err(|_| Unreadable)?,
            name: RepoName::new(name).map_err(|_| Unreadable)?,
        };
        Ok((id, decode_value(value)?))
    }
}

macro_rules! by_hash {
    ($table:ident, $tree:ident, $row:ty) => {
        impl Table for $table {
            const TREE: Tree = Tree::$tree;
            type Key = Hash;
            type OwnedKey = Hash;
            type Row = $row;

            fn key(key: &Hash) -> Vec<u8> {
                key.as_bytes().to_vec()
            }

            fn encode(_: &Hash, row: &$row) -> Vec<u8> {
                encode_value(row)
            }

            fn decode(key: &[u8], value: &[u8]) -> Result<(Hash, $row), Unreadable> {
                let hash = <[u8; 32]>::try_from(key).map_err(|_| Unreadable)?;
                Ok((Hash::from_bytes(hash), decode_value(value)?))
            }
        }
    };
}

by_hash!(Manifests, Manifests, ManifestRow);
by_hash!(SumsOf, Sums, Sums);
by_hash!(Places, Places, Place);
by_hash!(Providers, Providers, Vec<Provider>);

impl Table for Known {
    const TREE: Tree = Tree::Known;
    type Key = NameKey;
    type OwnedKey = NameKey;
    type Row = KnownRow;

    fn key(key: &NameKey) -> Vec<u8> {
        key.to_vec()
    }

    fn encode(_: &NameKey, row: &KnownRow) -> Vec<u8> {
        known::encode(row)
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<(NameKey, KnownRow), Unreadable> {
        let row = known::decode(key, value)?;
        Ok((key.try_into().map_err(|_| Unreadable)?, row))
    }
}

/// A digest with the path that its key could not hold.
#[derive(Serialize, Deserialize)]
struct DigestValue<D> {
    digest: D,
    long_path: Option<Vec<u8>>,
}

impl Table for Digests {
    const TREE: Tree = Tree::Digests;
    type Key = Path;
    type OwnedKey = PathBuf;
    type Row = Digest;

    /// The path as it is, so that the files of one folder are neighbours; a long one is cut and its hash put behind, which makes it longer than any
    /// that is not.
    fn key(key: &Path) -> Vec<u8> {
        let bytes = key.as_os_str().as_bytes();
        match bytes.split_at_checked(PATH_KEY_HEAD_LEN) {
            Some((head, _)) if bytes.len() > PATH_KEY_LEN_MAX => [head, Hash::of(bytes).as_bytes()].concat(),
            _ => bytes.to_vec(),
        }
    }

    fn encode(key: &Path, digest: &Digest) -> Vec<u8> {
        let bytes = key.as_os_str().as_bytes();
        let long_path = (bytes.len() > PATH_KEY_LEN_MAX).then(|| bytes.to_vec());
        encode_value(&DigestValue { digest, long_path })
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<(PathBuf, Digest), Unreadable> {
        let DigestValue { digest, long_path } = decode_value(value)?;
        let path = path_of(long_path.as_deref().unwrap_or(key));
        if Digests::key(&path) != key {
            return Err(Unreadable);
        }
        Ok((path, digest))
    }
}

/// The common start of the keys of all paths below `folder`.
pub(super) fn below(folder: &Path) -> Vec<u8> {
    let mut prefix = folder.as_os_str().as_bytes().to_vec();
    if prefix.last() != Some(&b'/') {
        prefix.push(b'/');
    }
    prefix.truncate(PATH_KEY_HEAD_LEN);
    prefix
}

/// Whether a path may be stored: absolute, and not longer than [`STORED_PATH_LEN_MAX`].
pub(super) fn is_storable(path: &Path) -> bool {
    path.is_absolute() && path.as_os_str().len() <= STORED_PATH_LEN_MAX
}

/// Brings the providers of one manifest within their bounds: one row a peer, the latest seen first, the oldest dropped.
pub(super) fn bounded_providers(mut providers: Vec<Provider>) -> Vec<Provider> {
    providers.retain(|provider| (1..=PEER_LEN_MAX).contains(&provider.peer.len()));
    for provider in &mut providers {
        provider
            .addresses
            .retain(|address| address.len() <= ADDRESS_LEN_MAX);
        provider.addresses.truncate(PROVIDER_ADDRESSES_MAX);
    }
    providers.sort_by(|a, b| b.last_seen.cmp(&a.last_seen).then(a.peer.cmp(&b.peer)));
    let mut seen = std::collections::BTreeSet::new();
    providers.retain(|provider| seen.insert(provider.peer.clone()));
    providers.truncate(PROVIDERS_MAX);
    while encode_value(&providers).len() > PROVIDERS_ROW_LEN_MAX {
        providers.pop();
    }
    providers
}

fn encode_value(row: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(row, vec![VERSION]).expect("rows have no map, float or unsized sequence")
}

fn decode_value<T: DeserializeOwned>(value: &[u8]) -> Result<T, Unreadable> {
    let (&version, body) = value.split_first().ok_or(Unreadable)?;
    if version != VERSION {
        return Err(Unreadable);
    }
    match postcard::take_from_bytes(body) {
        Ok((row, [])) => Ok(row),
        Ok(_) | Err(_) => Err(Unreadable),
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// Paths as the bytes that the system knows them by: not every one is UTF-8.
mod path_bytes {
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        Ok(super::path_of(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(
            key in proptest::collection::vec(any::<u8>(), 0..300),
            mut value in proptest::collection::vec(any::<u8>(), 0..300),
            known: bool,
        ) {
            if let Some(version) = value.first_mut().filter(|_| known) {
                *version = VERSION;
            }
            let _ = Repos::decode(&key, &value);
            let _ = Manifests::decode(&key, &value);
            let _ = Places::decode(&key, &value);
            let _ = Digests::decode(&key, &value);
            let _ = SumsOf::decode(&key, &value);
            let _ = Providers::decode(&key, &value);
        }

        #[test]
        fn paths_of_any_length_and_bytes_come_back_from_their_keys(
            bytes in proptest::collection::vec(1_u8.., 1..600),
        ) {
            let path = path_of(&[b"/", &bytes[..]].concat());
            let stamp = Stamp { len: 1, mtime_ns: -2, inode: 3 };
            let (blake3, sha256) = (Hash::EMPTY, Sha256::EMPTY);
            let digest = Digest { stamp, blake3, sha256, sha1: None };
            let key = Digests::key(&path);
            prop_assert!(key.len() <= PATH_KEY_LEN_MAX + 1);
            let decoded = Digests::decode(&key, &Digests::encode(&path, &digest));
            prop_assert_eq!(decoded, Ok((path, digest)));
        }
    }

    #[test]
    fn value_of_another_version_or_with_bytes_to_spare_is_unreadable() {
        let place = Place {
            len: 5,
            kind: PlaceKind::Owned,
        };
        let key = Places::key(&Hash::EMPTY);
        let value = Places::encode(&Hash::EMPTY, &place);
        assert_eq!(Places::decode(&key, &value), Ok((Hash::EMPTY, place)));
        let newer = [&[VERSION + 1], &value[1..]].concat();
        let longer = [&value[..], &[0]].concat();
        for value in [&newer[..], &longer, &value[..1], &[]] {
            assert_eq!(Places::decode(&key, value), Err(Unreadable));
        }
        assert_eq!(Places::decode(&key[1..], &value), Err(Unreadable));
    }
}
