//! Secret keys as files: the node's and the publishers', Ed25519, one a file.
//!
//! Three lines of text, so that a person sees what it is: `shoal key 1`, the kind, 64 hex digits. Made with mode 0600 from the first moment and given its
//! name only when it is whole and on disk, so that no crash leaves half a key. A file that is there is never written to. Blocking.

use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use rand::TryRngCore;
use rand::rngs::OsRng;

use crate::durable::{self, folder_of};

/// The first line of every key file.
const HEADING: &str = "shoal key 1\n";

/// Longest key file, in bytes: the heading, the longest kind, the digits, and the ends of the lines.
const KEY_FILE_LEN_MAX: usize = 96;

/// Hex digits of a secret key.
const DIGITS: usize = 64;

/// What a key is for. A key of one kind is refused where the other is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// The node's identity among its peers.
    Node,
    /// Signs releases.
    Publisher,
    /// Says where a publisher goes on whose key was lost or stolen. It belongs offline.
    Recovery,
}

/// Why a key can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Others than its owner can read or write the file.
    #[error(
        "key file {path} is open to others (mode {mode:04o}): if nobody can have read it, run: chmod 600 {path}"
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not a key. It is not replaced: who we are does not change silently.
    #[error("{path} is no key file: {why}; restore it, or move it away to get a new identity")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Tells nothing of its content.
        why: &'static str,
    },
    /// The file is a key for something else.
    #[error("{path} is not a {wanted} key")]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        wanted: KeyKind,
    },
    /// There is no room for a new key.
    #[error("no room for {path}")]
    StorageFull {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("key file {path} cannot be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// Loads the key in a file, or makes one where there is no file; durable on return. Its folder must exist.
///
/// Two who make it at the same time get the same key.
///
/// # Errors
/// Every variant of [`KeyError`].
pub fn load_or_create(path: &Path, kind: KeyKind) -> Result<SigningKey, KeyError> {
    if let Some(key) = load(path, kind)? {
        sweep(path);
        return Ok(key);
    }
    let created = create(path, kind);
    match created {
        // Somebody was quicker, or swept our unfinished file because somebody was.
        Err(error) if path.exists() => load(path, kind)?.ok_or_else(|| io_error(path, error)),
        outcome => outcome.map_err(|error| io_error(path, error)),
    }
}

/// Loads the key in a file. `None`: there is no such file.
///
/// # Errors
/// Every variant of [`KeyError`] but `StorageFull`.
pub fn load(path: &Path, kind: KeyKind) -> Result<Option<SigningKey>, KeyError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| io_error(path, error))?,
    };
    let metadata = file.metadata().map_err(|error| io_error(path, error))?;
    let path_owned = || path.to_owned();
    if !metadata.is_file() {
        return Err(KeyError::Malformed {
            path: path_owned(),
            why: "it is not a file",
        });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path_owned();
        return Err(KeyError::TooOpen { path, mode });
    }
    let mut text = [0; KEY_FILE_LEN_MAX];
    let key = read_up_to(file, &mut text)
        .map_err(|error| io_error(path, error))
        .and_then(|len| {
            parse(&text[..len], kind).map_err(|wrong| match wrong {
                Wrong::Kind => KeyError::OtherKind {
                    path: path_owned(),
                    wanted: kind,
                },
                Wrong::Text(why) => KeyError::Malformed {
                    path: path_owned(),
                    why,
                },
            })
        });
    wipe(&mut text);
    key.map(Some)
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            KeyKind::Node => "node",
            KeyKind::Publisher => "publisher",
            KeyKind::Recovery => "recovery",
        })
    }
}

/// What is wrong with a text.
enum Wrong {
    Kind,
    Text(&'static str),
}

fn parse(text: &[u8], wanted: KeyKind) -> Result<SigningKey, Wrong> {
    let text = std::str::from_utf8(text).map_err(|_| Wrong::Text("it is not text"))?;
    if text.is_empty() {
        return Err(Wrong::Text("it is empty"));
    }
    let rest = text
        .strip_prefix(HEADING)
        .ok_or(Wrong::Text("it does not start with \"shoal key 1\""))?;
    let (kind, rest) = rest.split_once('\n').ok_or(Wrong::Text("it is cut off"))?;
    let kinds = [KeyKind::Node, KeyKind::Publisher, KeyKind::Recovery];
    let Some(kind) = kinds.into_iter().find(|known| known.to_string() == kind) else {
        return Err(Wrong::Text("its kind is unknown"));
    };
    if kind != wanted {
        return Err(Wrong::Kind);
    }
    let digits = rest.strip_suffix('\n').unwrap_or(rest).as_bytes();
    if digits.len() < DIGITS {
        return Err(Wrong::Text("it is cut off"));
    }
    if digits.len() > DIGITS {
        return Err(Wrong::Text("it is too long"));
    }
    let mut secret = [0; 32];
    for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
            wipe(&mut secret);
            return Err(Wrong::Text("it has a character that is no lower-case hex digit"));
        };
        *byte = high << 4 | low;
    }
    let key = SigningKey::from_bytes(&secret);
    wipe(&mut secret);
    Ok(key)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// Makes a key: written whole under another name with mode 0600, fsynced, then linked to its own name, which fails if that is taken.
fn create(path: &Path, kind: KeyKind) -> io::Result<SigningKey> {
    let mut secret = [0; 32];
    OsRng.try_fill_bytes(&mut secret).map_err(io::Error::other)?;
    let unfinished = unfinished(path, rand::random())?;
    let written = write_new(&unfinished, kind, &secret)
        .and_then(|()| fs::hard_link(&unfinished, path))
        .and_then(|()| durable::sync_folder(folder_of(path)));
    let key = SigningKey::from_bytes(&secret);
    wipe(&mut secret);
    let removed = fs::remove_file(&unfinished);
    written.and(removed)?;
    durable::sync_folder(folder_of(path))?;
    Ok(key)
}

fn write_new(path: &Path, kind: KeyKind, secret: &[u8; 32]) -> io::Result<()> {
    // Room for all of it at once: a string that grows leaves copies behind.
    let mut text = String::with_capacity(KEY_FILE_LEN_MAX);
    let digits = |text: &mut String| -> fmt::Result {
        writeln!(text, "{HEADING}{kind}")?;
        secret.iter().try_for_each(|byte| write!(text, "{byte:02x}"))?;
        text.write_char('\n')
    };
    digits(&mut text).expect("writing to a string cannot fail");
    let mut text = text.into_bytes();
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()
    });
    wipe(&mut text);
    written
}

/// Removes what crashes left of making this key: half keys, or whole ones that nobody ever used.
fn sweep(path: &Path) {
    let (Ok(start), Ok(entries)) = (unfinished_start(path), fs::read_dir(folder_of(path))) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&start)
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::debug!(%error, "unfinished key file cannot be removed");
        }
    }
}

fn unfinished(path: &Path, number: u64) -> io::Result<PathBuf> {
    let name = format!("{}{number:016x}", unfinished_start(path)?);
    Ok(folder_of(path).join(name))
}

fn unfinished_start(path: &Path) -> io::Result<String> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(format!(".{}.new-", name.to_string_lossy()))
}

/// Fills `buffer` from the start; returns how much there was. What does not fit shows as a text that is too long.
fn read_up_to(mut file: File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Overwrites what was secret. A best effort: the compiler may have made copies.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    black_box(bytes);
}

fn io_error(path: &Path, source: io::Error) -> KeyError {
    let full = durable::is_full(&source);
    let path = path.to_owned();
    if full {
        return KeyError::StorageFull { path };
    }
    KeyError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn private(path: &Path, bytes: &[u8]) {
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn made_key_is_loaded_again_and_is_another_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        assert!(load(&path, KeyKind::Node).unwrap().is_none());
        let made = load_or_create(&path, KeyKind::Node).unwrap();
        let loaded = load_or_create(&path, KeyKind::Node).unwrap();
        assert_eq!(made.to_bytes(), loaded.to_bytes());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("shoal key 1\nnode\n"));
        assert!(text.len() < KEY_FILE_LEN_MAX);
        let other = load_or_create(&folder.path().join("b"), KeyKind::Node).unwrap();
        assert_ne!(made.to_bytes(), other.to_bytes());
        let wrong = load(&path, KeyKind::Publisher);
        assert!(matches!(wrong, Err(KeyError::OtherKind { .. })));
    }

    #[test]
    fn key_file_is_private_under_every_umask() {
        use rustix::fs::Mode;
        use rustix::process::umask;

        let folder = tempfile::tempdir().unwrap();
        // The mask is the whole process's: tests beside this one make their own files private or not at all.
        for mask in [0o000, 0o022, 0o077] {
            let before = umask(Mode::from_raw_mode(mask));
            let path = folder.path().join(format!("{mask:o}.key"));
            let made = load_or_create(&path, KeyKind::Node);
            umask(before);
            made.unwrap();
            assert_eq!(mode(&path), 0o600, "umask {mask:03o}");
        }
    }

    #[test]
    fn key_that_others_can_read_or_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        load_or_create(&path, KeyKind::Node).unwrap();
        for open in [0o644, 0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let error = load_or_create(&path, KeyKind::Node).expect_err("open to others");
            assert!(matches!(&error, KeyError::TooOpen { mode, .. } if *mode == open));
            let text = error.to_string();
            assert!(text.contains("chmod 600") && text.contains("node.key"), "{text}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        load_or_create(&path, KeyKind::Node).unwrap();
    }

    #[test]
    fn half_written_key_of_a_crash_is_no_obstacle_and_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let litter = folder.path().join(".node.key.new-00000000deadbeef");
        private(&litter, b"shoal key 1\nnode\n0123");
        let made = load_or_create(&path, KeyKind::Node).unwrap();
        let loaded = load_or_create(&path, KeyKind::Node).unwrap();
        assert_eq!(made.to_bytes(), loaded.to_bytes());
        assert!(!litter.exists());
    }

    #[test]
    fn file_that_is_no_key_is_refused_and_left_as_it_is() {
        let digits = "0123456789abcdef".repeat(4);
        let table = [
            ("", "empty"),
            ("shoal key 1", "start"),
            ("shoal key 1\n", "cut off"),
            ("shoal key 1\nnode", "cut off"),
            ("shoal key 1\nnode\n", "cut off"),
            (&format!("shoal key 1\nnode\n{}", &digits[1..]), "cut off"),
            (&format!("shoal key 1\nnode\n{digits}0\n"), "too long"),
            (&format!("shoal key 1\nnode\n{digits}\n\n"), "too long"),
            (&format!("shoal key 1\nnode\n{digits}\n{digits}"), "too long"),
            (&format!("shoal key 1\nnode\n{}", digits.to_uppercase()), "hex"),
            (&format!("shoal key 1\nnode\n{}", "\u{e9}".repeat(32)), "hex"),
            (&format!("shoal key 2\nnode\n{digits}\n"), "start"),
            (&format!("shoal key 1\nroot\n{digits}\n"), "kind"),
            (&format!("\u{feff}shoal key 1\nnode\n{digits}\n"), "start"),
            (&format!("shoal key 1\r\nnode\r\n{digits}\r\n"), "start"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        for (text, word) in table {
            private(&path, text.as_bytes());
            let error = load_or_create(&path, KeyKind::Node).expect_err(text);
            let KeyError::Malformed { why, .. } = &error else {
                panic!("{text:?}: {error}")
            };
            assert!(why.contains(word), "{text:?}: {why}");
            assert!(!error.to_string().contains("0123"));
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        private(&path, &[0xff; 200]);
        let error = load_or_create(&path, KeyKind::Node);
        assert!(matches!(error, Err(KeyError::Malformed { .. })));
        let error = load_or_create(folder.path(), KeyKind::Node);
        assert!(matches!(error, Err(KeyError::Malformed { .. })));
        private(&path, format!("shoal key 1\nnode\n{digits}").as_bytes());
        load_or_create(&path, KeyKind::Node).unwrap();
    }

    #[test]
    fn two_makers_get_one_key() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = folder.path().join(format!("{round}.key"));
            let make = || load_or_create(&path, KeyKind::Publisher).unwrap().to_bytes();
            let (one, two) = thread::scope(|scope| {
                let one = scope.spawn(make);
                let two = scope.spawn(make);
                (one.join().unwrap(), two.join().unwrap())
            });
            assert_eq!(one, two);
        }
    }

    #[test]
    fn folder_that_is_missing_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none/node.key");
        let error = load_or_create(&path, KeyKind::Node);
        assert!(matches!(error, Err(KeyError::Io { .. })));
    }
}
