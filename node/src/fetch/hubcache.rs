//! Handing out into the cache of the Hub's clients, in its layout: a tool then finds the repo without asking anybody.
//!
//! ```text
//! CACHE/models--OWNER--NAME/blobs/ETAG             the bytes, by reflink, hard link or a hashed copy
//!                           snapshots/COMMIT/PATH  a link to ../../blobs/ETAG
//!                           refs/main              COMMIT, and nothing else
//! ```
//! In this order: whoever reads meanwhile, or after a crash, finds a link only to a whole blob, and a ref only to all its links. What a
//! blob is called is hashed first, for the clients never do. Below the cache no link is followed.

use super::{
    FetchRequest, FetchWhat, Sought,
    handout::{self, HandOutError, HandedOut, Way, make_folders, put, put_small},
    jobs::Brought,
};
use crate::{
    durable,
    library::Library,
    limits::SMALL_LEN,
    node::Node,
    progress::{Phase, Progress},
    store::{blocking, digest, shard_values},
};
use protocol::{FileEntry, Hash, Kind, RepoRef};
use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// A cache to hand a repo out to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubCache {
    /// Its folder, such as `~/.cache/huggingface/hub`.
    pub folder: PathBuf,
    /// What the repo is called there. `None`: by its publisher, or where it has no name, by its hash.
    pub name: Option<RepoRef>,
}

impl HubCache {
    /// A cache in which the repo is called what it is asked for by.
    pub fn new(folder: PathBuf, what: &FetchWhat) -> HubCache {
        let name = match what {
            FetchWhat::Repo(repo) => Some(repo.clone()),
            // What a ticket says of the name is believed later, if a release says so too.
            FetchWhat::Ticket(_) => None,
        };
        HubCache { folder, name }
    }
}

/// Where in a cache a revision belongs.
#[derive(Clone, Debug)]
struct Place {
    cache: PathBuf,
    kind: Kind,
    name: RepoRef,
    /// The 40 hex digits that the clients know the revision by.
    commit: String,
}

impl Place {
    /// `models--OWNER--NAME`, as the clients write it. No part of a name has two hyphens in a row.
    fn repo_folder(&self) -> String {
        format!("{}s--{}", self.kind, self.name.to_string().replace('/', "--"))
    }
}

impl Node {
    /// Hands out what was brought, to wherever it is wanted.
    pub(super) async fn hand_out(
        &self,
        sought: &Sought,
        request: &FetchRequest,
        brought: &Brought,
        progress: &Progress,
    ) -> Result<(Option<PathBuf>, HandedOut), HandOutError> {
        let mut handed_out = HandedOut::default();
        if let Some(to) = &request.to {
            let (files, sure) = (brought.files.clone(), brought.blobs.clone());
            handed_out = handout::hand_out(self.library(), files, to, sure, progress).await?;
        }
        let Some(cache) = &request.hf_cache else {
            return Ok((None, handed_out));
        };
        let (library, repo) = (self.library().clone(), sought.repo.clone());
        // Nobody says what something without a name is; most of what there is are models.
        let kind = blocking(move || {
            let release = repo.and_then(|repo| library.names().get(&repo).ok().flatten());
            Ok(release.map_or(Kind::Model, |release| release.release().kind))
        });
        let named = sought.repo.clone().map(RepoRef::Id);
        let place = Place {
            cache: cache.folder.clone(),
            kind: kind.await?,
            name: cache
                .name
                .clone()
                .or(named)
                .unwrap_or(RepoRef::Content(sought.manifest)),
            commit: brought.manifest.commit_id(),
        };
        let (files, sure) = (brought.files.clone(), brought.blobs.clone());
        let (snapshot, more) = hand_out(self.library(), files, place, sure, progress).await?;
        Ok((Some(snapshot), handed_out.and(more)))
    }
}

/// Hands files out into a cache, and returns the folder of the snapshot.
///
/// - `sure`: blobs whose bytes were verified a moment ago; the others are verified before they are linked.
async fn hand_out(
    library: &Library,
    files: Vec<FileEntry>,
    place: Place,
    sure: HashSet<Hash>,
    progress: &Progress,
) -> Result<(PathBuf, HandedOut), HandOutError> {
    let bytes = files.iter().map(|file| file.size).sum();
    progress.phase(Phase::HandingOut, bytes, files.len() as u64);
    let opened = place.clone();
    let room = blocking(move || Ok(Room::open(&opened))).await??;
    let mut staged = Staged::default();
    for (number, file) in files.iter().enumerate() {
        let way = room.stage(library, number, file, &sure, &mut staged).await?;
        staged.handed.count(way);
        progress.add(file.size, 1);
    }
    let Staged {
        handed,
        waiting,
        names,
        ..
    } = staged;
    let snapshot = blocking(move || {
        Ok(room
            .settle(&waiting)
            .and_then(|()| room.link(&files, &names, &place.commit)))
    })
    .await??;
    Ok((snapshot, handed))
}

/// The folder of one repo in a cache, and one beside its blobs in which everything is made before it gets its name.
struct Room {
    folder: PathBuf,
    staging: tempfile::TempDir,
}

/// What has been made so far.
#[derive(Default)]
struct Staged {
    handed: HandedOut,
    /// Made, and not in its place yet: where it is, and what it will be called.
    waiting: Vec<(PathBuf, String)>,
    /// What the blob of each file is called.
    names: Vec<String>,
    /// The names that are there or on their way.
    done: HashSet<String>,
}

impl Room {
    fn open(place: &Place) -> Result<Room, HandOutError> {
        durable::create_folders(&place.cache).map_err(write(&place.cache))?;
        let root = place.cache.canonicalize().map_err(write(&place.cache))?;
        let folder = root.join(place.repo_folder());
        let mut made = BTreeSet::new();
        for below in ["blobs", "refs", "snapshots"] {
            make_folders(&root, &folder.join(below).join("any"), &mut made)?;
        }
        let staging = tempfile::Builder::new()
            .prefix(".shoal-")
            .tempdir_in(&folder)
            .map_err(write(&folder))?;
        Ok(Room { folder, staging })
    }

    /// Makes the blob of one file, under a name of no meaning.
    async fn stage(
        &self,
        library: &Library,
        number: usize,
        file: &FileEntry,
        sure: &HashSet<Hash>,
        staged: &mut Staged,
    ) -> Result<Way, HandOutError> {
        let known = etag(file);
        if let Some(name) = &known {
            let place = self.folder.join("blobs").join(name);
            let same = file.clone();
            if staged.done.contains(name) || blocking(move || Ok(is_same(&place, &same))).await? {
                staged.done.insert(name.clone());
                staged.names.push(name.clone());
                return Ok(Way::Kept);
            }
        }
        let made = self.staging.path().join(number.to_string());
        let (store, entry, place) = (library.store().clone(), file.clone(), made.clone());
        let way = if file.size <= SMALL_LEN {
            let bytes = store.read(file.blake3, SMALL_LEN).await?;
            blocking(move || Ok(put_small(&place, entry.blake3, &bytes))).await??
        } else {
            let blob = store.blob(file.blake3).await?;
            let sure = sure.contains(&file.blake3);
            blocking(move || Ok(put(&store, &place, &entry, &blob, sure))).await??
        };
        let (entry, place) = (file.clone(), made.clone());
        let name = blocking(move || Ok(named(&entry, &place))).await??;
        if staged.done.insert(name.clone()) {
            staged.waiting.push((made, name.clone()));
        }
        staged.names.push(name);
        Ok(way)
    }

    /// Makes the blobs durable and gives them their names.
    fn settle(&self, waiting: &[(PathBuf, String)]) -> Result<(), HandOutError> {
        let blobs = self.folder.join("blobs");
        for (made, _) in waiting {
            durable::sync_file(made).map_err(write(made))?;
        }
        for (made, name) in waiting {
            let place = blobs.join(name);
            if fs::symlink_metadata(&place).is_ok_and(|there| there.is_dir()) {
                return Err(HandOutError::InTheWay { path: place });
            }
            fs::rename(made, &place).map_err(write(&place))?;
        }
        durable::sync_folder(&blobs).map_err(write(&blobs))
    }

    /// Makes the links, and then the ref.
    fn link(&self, files: &[FileEntry], names: &[String], commit: &str) -> Result<PathBuf, HandOutError> {
        let snapshot = self.folder.join("snapshots").join(commit);
        let mut made = BTreeSet::new();
        for (file, name) in files.iter().zip(names) {
            let place = snapshot.join(file.path.as_str());
            make_folders(&self.folder, &place, &mut made)?;
            let up = "../".repeat(2 + file.path.as_str().matches('/').count());
            self.put_link(&place, &PathBuf::from(format!("{up}blobs/{name}")), file)?;
        }
        // With those above them, up to the cache: any of them may have been made a moment ago.
        let cache = durable::folder_of(&self.folder);
        let above = |folder: &'_ PathBuf| -> Vec<PathBuf> {
            let above = folder.ancestors().take_while(|above| above.starts_with(cache));
            above.map(Path::to_owned).collect()
        };
        for folder in made.iter().flat_map(above).collect::<BTreeSet<_>>() {
            durable::sync_folder(&folder).map_err(write(&folder))?;
        }
        self.put_ref(commit)?;
        Ok(snapshot)
    }

    fn put_link(&self, place: &Path, to: &Path, file: &FileEntry) -> Result<(), HandOutError> {
        match fs::symlink_metadata(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => symlink(to, place).map_err(write(place)),
            Err(error) => Err(write(place)(error)),
            Ok(there) if there.is_symlink() => {
                if fs::read_link(place).is_ok_and(|there| there == to) {
                    return Ok(());
                }
                let beside = self.staging.path().join("link");
                symlink(to, &beside)
                    .and_then(|()| fs::rename(&beside, place))
                    .map_err(write(place))
            }
            // Where a disk has no links, the clients put the file itself there.
            Ok(_) if is_same(place, file) => Ok(()),
            Ok(_) => Err(HandOutError::InTheWay {
                path: place.to_owned(),
            }),
        }
    }

    fn put_ref(&self, commit: &str) -> Result<(), HandOutError> {
        let place = self.folder.join("refs/main");
        if fs::symlink_metadata(&place).is_ok_and(|there| there.is_dir()) {
            return Err(HandOutError::InTheWay { path: place });
        }
        let beside = self.staging.path().join("main");
        let made = || {
            let mut file = File::create_new(&beside)?;
            file.write_all(commit.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &place)?;
            durable::sync_folder(durable::folder_of(&place))
        };
        made().map_err(write(&place))
    }
}

/// What the clients call the blob of a file: its git id if the Hub would keep it in git, else its SHA-256.
fn etag(file: &FileEntry) -> Option<String> {
    let git = file.sha1.map(|id| id.to_string());
    git.or_else(|| file.sha256.map(|digest| digest.to_string()))
}

/// Hashes a blob for the name that the clients look for it by. The publisher's word for it is not enough.
fn named(file: &FileEntry, made: &Path) -> Result<String, HandOutError> {
    let mut bytes = File::open(made).map_err(write(made))?;
    let name = match file.sha1 {
        Some(_) => digest::git_id(&mut bytes, file.size).map(|id| id.to_string()),
        None => digest::sha256(&mut bytes, file.size).map(|digest| digest.to_string()),
    };
    let name = name.map_err(write(made))?;
    match etag(file) {
        Some(claimed) if claimed != name => Err(HandOutError::Claim {
            path: file.path.to_string(),
        }),
        _ => Ok(name),
    }
}

/// Whether a plain file with these bytes is there. Reads it.
fn is_same(place: &Path, file: &FileEntry) -> bool {
    let plain = fs::symlink_metadata(place).is_ok_and(|there| there.is_file() && there.len() == file.size);
    if !plain {
        return false;
    }
    if file.size <= SMALL_LEN {
        return fs::read(place).is_ok_and(|bytes| Hash::of(&bytes) == file.blake3);
    }
    File::open(place)
        .and_then(|there| shard_values(&there, file.size, &|_| {}))
        .is_ok_and(|(root, _)| root == file.blake3)
}

fn write(path: &Path) -> impl FnOnce(io::Error) -> HandOutError {
    let path = path.to_owned();
    move |source| HandOutError::Write { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn place(cache: &Path) -> Place {
        Place {
            cache: cache.to_owned(),
            kind: Kind::Dataset,
            name: "meta/llama".parse().unwrap(),
            commit: COMMIT.to_owned(),
        }
    }

    fn entry(path: &str, bytes: &[u8]) -> FileEntry {
        FileEntry {
            path: path.parse().unwrap(),
            size: bytes.len() as u64,
            blake3: Hash::of(bytes),
            sha256: Some(digest::sha256(&mut &*bytes, bytes.len() as u64).unwrap()),
            sha1: None,
        }
    }

    /// Does what follows once the blobs are made.
    fn finish(room: &Room, files: &[(&str, &[u8])]) -> Result<PathBuf, HandOutError> {
        let entries: Vec<FileEntry> = files.iter().map(|(path, bytes)| entry(path, bytes)).collect();
        let mut waiting = Vec::new();
        let mut names = Vec::new();
        for (number, (file, (_, bytes))) in entries.iter().zip(files).enumerate() {
            let made = room.staging.path().join(number.to_string());
            fs::write(&made, bytes).unwrap();
            names.push(named(file, &made)?);
            waiting.push((made, names[number].clone()));
        }
        room.settle(&waiting)?;
        room.link(&entries, &names, COMMIT)
    }

    #[test]
    fn layout_is_the_clients_and_links_are_relative() {
        let cache = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 2] = [("a.txt", b"a"), ("deep/er/b.txt", b"b")];
        // Twice: the second time everything is there.
        for _ in 0..2 {
            let room = Room::open(&place(cache.path())).unwrap();
            let snapshot = finish(&room, &files).unwrap();
            let folder = cache.path().canonicalize().unwrap().join("datasets--meta--llama");
            assert_eq!(snapshot, folder.join("snapshots").join(COMMIT));
            // `printf a | sha256sum`
            let name = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
            let to = fs::read_link(snapshot.join("a.txt")).unwrap();
            assert_eq!(to, PathBuf::from(format!("../../blobs/{name}")));
            let to = fs::read_link(snapshot.join("deep/er/b.txt")).unwrap();
            assert!(to.starts_with("../../../../blobs"), "{to:?}");
            assert_eq!(fs::read(snapshot.join("deep/er/b.txt")).unwrap(), b"b");
            assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
            drop(room);
            let rest: BTreeSet<_> = fs::read_dir(&folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            assert_eq!(rest, ["blobs", "refs", "snapshots"].map(str::to_owned).into());
        }
    }

    #[test]
    fn links_in_the_way_are_replaced_and_never_followed() {
        let cache = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        fs::write(&secret, b"keep me").unwrap();
        let folder = cache.path().join("datasets--meta--llama");
        let snapshot = folder.join("snapshots").join(COMMIT);
        for below in ["blobs", "refs", &format!("snapshots/{COMMIT}")] {
            fs::create_dir_all(folder.join(below)).unwrap();
        }
        let name = entry("a.txt", b"a").sha256.unwrap().to_string();
        for place in [
            snapshot.join("a.txt"),
            folder.join("refs/main"),
            folder.join("blobs").join(&name),
        ] {
            symlink(&secret, place).unwrap();
        }
        let room = Room::open(&place(cache.path())).unwrap();
        finish(&room, &[("a.txt", b"a")]).unwrap();
        assert_eq!(fs::read(&secret).unwrap(), b"keep me");
        assert_eq!(fs::read(snapshot.join("a.txt")).unwrap(), b"a");
        assert!(fs::symlink_metadata(folder.join("refs/main")).unwrap().is_file());
        assert!(
            fs::symlink_metadata(folder.join("blobs").join(&name))
                .unwrap()
                .is_file()
        );
    }

    #[test]
    fn folders_that_are_links_and_files_of_others_are_in_the_way() {
        let outside = tempfile::tempdir().unwrap();
        for below in [
            "datasets--meta--llama",
            "datasets--meta--llama/blobs",
            "datasets--meta--llama/snapshots",
        ] {
            let cache = tempfile::tempdir().unwrap();
            let path = cache.path().join(below);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(outside.path(), &path).unwrap();
            let opened = Room::open(&place(cache.path())).map(drop);
            assert!(
                matches!(opened, Err(HandOutError::InTheWay { .. })),
                "{below}: {opened:?}"
            );
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        let cache = tempfile::tempdir().unwrap();
        let room = Room::open(&place(cache.path())).unwrap();
        let snapshot = room.folder.join("snapshots").join(COMMIT);
        fs::create_dir_all(&snapshot).unwrap();
        fs::write(snapshot.join("a.txt"), b"an edit of the user's").unwrap();
        let linked = finish(&room, &[("a.txt", b"a")]);
        assert!(matches!(linked, Err(HandOutError::InTheWay { .. })), "{linked:?}");
        assert!(!room.folder.join("refs/main").exists(), "a ref before its links");
    }

    #[test]
    fn blob_is_not_called_what_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("made");
        fs::write(&made, b"a").unwrap();
        let lie = FileEntry {
            sha256: Some("0".repeat(64).parse().unwrap()),
            ..entry("a.txt", b"a")
        };
        assert!(matches!(named(&lie, &made), Err(HandOutError::Claim { path }) if path == "a.txt"));
        let silent = FileEntry { sha256: None, ..lie };
        assert_eq!(
            named(&silent, &made).unwrap(),
            entry("a.txt", b"a").sha256.unwrap().to_string()
        );
    }
}
