//! `control.json` in the data folder: where a running node listens, and the token that proves that the caller may read its files.
//!
//! ```json
//! {"address":"127.0.0.1:7070","token":"64 hex digits","pid":4711}
//! ```
//! It is written when the node serves, with mode 0600, and removed at a clean stop. One that is left over from a crash is told
//! by nobody answering at its address.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rand::{TryRngCore, rngs::OsRng};
use serde::{Deserialize, Serialize};

use crate::durable;

/// Longest `control.json` that is read, in bytes: three times what we write.
const CONTACT_LEN_MAX: u64 = 512;

/// How to reach a running node.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Where it listens; always a loopback address.
    pub address: SocketAddr,
    /// What every request carries: 64 hex digits.
    pub token: String,
    /// The process.
    pub pid: u32,
}

impl Contact {
    /// The contact of this process at `address`, with a new token.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new(address: SocketAddr) -> io::Result<Contact> {
        let mut secret = [0; 32];
        OsRng.try_fill_bytes(&mut secret).map_err(io::Error::other)?;
        let token = blake3::Hash::from_bytes(secret).to_hex().to_string();
        let pid = std::process::id();
        Ok(Contact { address, token, pid })
    }

    /// Where the file is.
    pub fn path(data: &Path) -> PathBuf {
        data.join("control.json")
    }

    /// Reads what a node left in its data folder. `None`: nothing, or nothing to be trusted: too long, not ours in form, or
    /// an address that is not loopback.
    pub fn read(data: &Path) -> Option<Contact> {
        let mut text = Vec::new();
        let file = File::open(Contact::path(data)).ok()?;
        file.take(CONTACT_LEN_MAX).read_to_end(&mut text).ok()?;
        let contact: Contact = serde_json::from_slice(&text).ok()?;
        let token = contact.token.len() == 64 && contact.token.bytes().all(|byte| byte.is_ascii_hexdigit());
        (contact.address.ip().is_loopback() && token).then_some(contact)
    }

    /// Writes the file. Blocks.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, data: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        durable::write_atomic(&Contact::path(data), &text)
    }

    /// Removes the file if it is still this one. Blocks.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(&self, data: &Path) -> io::Result<()> {
        if Contact::read(data).as_ref() == Some(self) {
            durable::remove(&Contact::path(data))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Contact {
    /// Without the token: it must not end up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Contact");
        shown
            .field("address", &self.address)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn contact_is_private_read_back_and_removed_only_by_its_owner() {
        let data = tempfile::tempdir().unwrap();
        let ours = Contact::new(([127, 0, 0, 1], 7070).into()).unwrap();
        assert_eq!(Contact::read(data.path()), None);
        ours.write(data.path()).unwrap();
        let mode = fs::metadata(Contact::path(data.path()))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Contact::read(data.path()), Some(ours.clone()));
        let other = Contact::new(ours.address).unwrap();
        assert_ne!(other.token, ours.token);
        other.remove(data.path()).unwrap();
        assert_eq!(Contact::read(data.path()), Some(ours.clone()));
        ours.remove(data.path()).unwrap();
        assert_eq!(Contact::read(data.path()), None);
    }

    #[test]
    fn contact_that_could_send_the_token_elsewhere_is_not_trusted() {
        let data = tempfile::tempdir().unwrap();
        let token = "0123456789abcdef".repeat(4);
        let long = format!(
            r#"{{"address":"127.0.0.1:1","token":"{token}","pid":1{}}}"#,
            " ".repeat(512)
        );
        let table = [
            "".to_owned(),
            "{}".to_owned(),
            format!(r#"{{"address":"192.0.2.1:80","token":"{token}","pid":1}}"#),
            format!(r#"{{"address":"example.org:80","token":"{token}","pid":1}}"#),
            r#"{"address":"127.0.0.1:1","token":"short","pid":1}"#.to_owned(),
            long,
        ];
        for text in table {
            fs::write(Contact::path(data.path()), &text).unwrap();
            assert_eq!(Contact::read(data.path()), None, "{text}");
        }
    }

    #[test]
    fn token_is_not_shown() {
        let contact = Contact::new(([127, 0, 0, 1], 1).into()).unwrap();
        assert!(!format!("{contact:?}").contains(&contact.token));
    }
}
