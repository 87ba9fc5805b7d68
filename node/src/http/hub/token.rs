//! The token for whoever writes over the Hub's API: `hf_` and 40 letters and digits, because clients in JavaScript take no
//! other form. It lies in `upload.token` in the data folder, mode 0600, and stays the same over restarts; who removes the file
//! gets another one. `shoal id --token` prints it, and `HF_TOKEN` is where clients look for it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rand::{TryRngCore, rngs::OsRng};

use crate::durable;

/// What clients in JavaScript demand at the start.
const PREFIX: &str = "hf_";
/// Letters and digits behind it: 200 bits.
const DIGITS: usize = 40;
/// The digits: a power of two of them, so that each has the same chance.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Longest file that is read, in bytes: the token and the end of its line, and room to see that there is more.
const FILE_LEN_MAX: u64 = 64;

/// The token for writing over the Hub's API.
#[derive(Clone, PartialEq, Eq)]
pub struct UploadToken(String);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Others than its owner can read or write the file.
    #[error(
        "{path} is open to others (mode {mode:04o}): remove it, and the next start makes another token",
        path = path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error(
        "{path} holds no upload token: remove it, and the next start makes one",
        path = path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{path} cannot be used", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl UploadToken {
    /// Where the file is.
    pub fn path(data: &Path) -> PathBuf {
        data.join("upload.token")
    }

    /// Reads the token of a data folder, or makes one where there is none; two who make it at once get the same. Blocks.
    ///
    /// # Errors
    /// Every variant of [`TokenError`].
    pub fn load_or_create(data: &Path) -> Result<UploadToken, TokenError> {
        if let Some(token) = load(data)? {
            return Ok(token);
        }
        let path = UploadToken::path(data);
        let io = |source| TokenError::Io {
            path: path.clone(),
            source,
        };
        let token = UploadToken::new().map_err(io)?;
        match token.create(data) {
            Ok(()) => Ok(token),
            // Somebody was quicker.
            Err(error) if path.exists() => load(data)?.ok_or_else(|| io(error)),
            Err(error) => Err(io(error)),
        }
    }

    /// The token as it is sent.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether somebody has the token. Hashes are compared, in constant time: the time tells nothing of it.
    pub(super) fn is(&self, offered: &str) -> bool {
        blake3::hash(offered.as_bytes()) == blake3::hash(self.0.as_bytes())
    }

    fn new() -> io::Result<UploadToken> {
        let mut secret = [0; DIGITS];
        OsRng.try_fill_bytes(&mut secret).map_err(io::Error::other)?;
        let digits = secret
            .iter()
            .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
        Ok(UploadToken(PREFIX.chars().chain(digits).collect()))
    }

    /// Written whole under another name, with mode 0600 and never over a file that is there, then given its own.
    fn create(&self, data: &Path) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".unfinished-")
            .tempfile_in(data)?;
        writeln!(file, "{}", self.0)?;
        file.as_file().sync_all()?;
        file.persist_noclobber(UploadToken::path(data))
            .map_err(|error| error.error)?;
        durable::sync_folder(data)
    }

    fn read(text: &str) -> Option<UploadToken> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let digits = text.strip_prefix(PREFIX)?;
        let good = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
        good.then(|| UploadToken(text.to_owned()))
    }
}

fn load(data: &Path) -> Result<Option<UploadToken>, TokenError> {
    let path = UploadToken::path(data);
    let io = |source| TokenError::Io {
        path: path.clone(),
        source,
    };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(io)?,
    };
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(TokenError::TooOpen { path, mode });
    }
    let mut text = Vec::new();
    file.take(FILE_LEN_MAX).read_to_end(&mut text).map_err(io)?;
    let token = std::str::from_utf8(&text).ok().and_then(UploadToken::read);
    token.map(Some).ok_or(TokenError::Malformed { path })
}

impl fmt::Debug for UploadToken {
    /// Without the token: it must not end up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UploadToken")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn token_is_made_once_is_private_and_stays() {
        let data = tempfile::tempdir().unwrap();
        let token = UploadToken::load_or_create(data.path()).unwrap();
        assert!(token.text().starts_with("hf_") && token.text().len() == 43);
        assert!(
            token
                .text()
                .bytes()
                .skip(3)
                .all(|byte| byte.is_ascii_alphanumeric())
        );
        assert!(token.is(token.text()));
        assert!(!token.is("") && !token.is(&token.text()[..42]) && !token.is(&token.text().to_uppercase()));
        let path = UploadToken::path(data.path());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(UploadToken::load_or_create(data.path()).unwrap(), token);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1);
        assert!(!format!("{token:?}").contains(token.text()));
        fs::remove_file(&path).unwrap();
        assert_ne!(UploadToken::load_or_create(data.path()).unwrap(), token);
    }

    #[test]
    fn file_that_is_no_token_or_open_to_others_is_not_used_and_not_replaced() {
        let data = tempfile::tempdir().unwrap();
        let path = UploadToken::path(data.path());
        let good = format!("hf_{}", "a".repeat(40));
        let table = [
            "",
            "hf_",
            &good[3..],
            &good[..42],
            &format!("{good}a"),
            &"x".repeat(500),
        ];
        for text in table {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let read = UploadToken::load_or_create(data.path());
            assert!(matches!(read, Err(TokenError::Malformed { .. })), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::write(&path, &good).unwrap();
        assert_eq!(UploadToken::load_or_create(data.path()).unwrap().text(), good);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let read = UploadToken::load_or_create(data.path());
        assert!(matches!(read, Err(TokenError::TooOpen { mode: 0o644, .. })));
    }
}
