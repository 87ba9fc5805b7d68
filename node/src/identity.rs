//! Who we publish as, and how that changes: `rotate`, `recover` and `revoke`.
//!
//! ```text
//! publisher.key          the first key; it stays where it is
//! keys/PUBLISHER.key     those as which the publisher went on
//! recovery.key           made with the first release, until the user moves it offline
//! ```
//! Which key is the current one no file says: the statements do, as they do for everybody else. So a change is done when its statement is on disk, and a
//! thief who makes one is seen here as by all others. Every call blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ed25519_dalek::SigningKey;
use protocol::key::{ForkKind, Passage};
use protocol::limits::KEY_STEPS_MAX;
use protocol::{Publisher, Reason, SignedStatement, Statement};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::keys::{self, KeyError, KeyKind};
use crate::library::{Library, LibraryError, now};
use crate::names::NamesError;

/// The file of the recovery key, until it is moved away.
pub const RECOVERY_FILE: &str = "recovery.key";
const FIRST: &str = "publisher.key";
const LATER: &str = "keys";
/// A key that is made and not yet anybody's.
const NEXT: &str = "next";
const ENDING: &str = ".key";

/// The secret keys that we publish with, and published with.
#[derive(Debug)]
pub(crate) struct Identity {
    data: PathBuf,
    first: Publisher,
    keys: Mutex<BTreeMap<Publisher, SigningKey>>,
}

/// Why our keys cannot do what they should.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Somebody who has our key went on from it, to a key that is not here.
    #[error(
        "{ours} went on as {to}, whose secret key is not here: somebody else has the key of this node, or its folder keys/ was lost"
    )]
    Taken {
        /// The last key that is ours.
        ours: Publisher,
        /// The key that others follow now.
        to: Publisher,
    },
    /// The current key was revoked.
    #[error("the publisher key {key} was revoked ({reason}): it signs nothing that anybody follows")]
    Revoked {
        /// The key.
        key: Publisher,
        /// Why.
        reason: Reason,
    },
    /// Two rotations of the key are about: another one would count for nothing.
    #[error("{key} already signed two rotations to different keys, so that nobody follows either")]
    Forked {
        /// The key.
        key: Publisher,
    },
    /// It went on too often.
    #[error("a publisher goes on as another key at most {KEY_STEPS_MAX} times")]
    TooMany,
    /// The file holds another recovery key than the publisher's.
    #[error("{path} is not the recovery key of {publisher}, which is {wanted}", path = path.display())]
    OtherRecovery {
        /// The file.
        path: PathBuf,
        /// The publisher.
        publisher: Publisher,
        /// Its recovery key.
        wanted: Publisher,
    },
    /// Nobody here knows a recovery key of the publisher.
    #[error("no recovery key of {publisher} is known here")]
    NoRecovery {
        /// The publisher.
        publisher: Publisher,
    },
    /// The file is not there.
    #[error("there is no recovery key at {path}", path = path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// Neither the secret key nor the recovery key was given.
    #[error("the secret key of {key} is not here: only its recovery key can revoke it")]
    NotOurs {
        /// The key.
        key: Publisher,
    },
    /// To revoke a key that was rotated away cuts newcomers off, who see both at once, unless the recovery key says where it goes on.
    #[error(
        "{key} went on as {to}: who hears of that and of the revocation at once would not go on, unless the recovery key says so too"
    )]
    NeedsRecovery {
        /// The key.
        key: Publisher,
        /// As which it went on.
        to: Publisher,
    },
    /// A key cannot be had or kept.
    #[error("a key")]
    Key(#[from] KeyError),
    /// A statement cannot be made.
    #[error("the statement")]
    Statement(#[from] protocol::KeyError),
    /// A statement cannot be kept.
    #[error("the statement")]
    Names(#[from] NamesError),
    /// A release under the new key.
    #[error("the release under the new key")]
    Release(#[from] protocol::ReleaseError),
    /// Something of ours fails.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

/// Who we publish as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityView {
    /// Who we are to other nodes.
    pub peer_id: String,
    /// Who we publish as.
    pub publisher: Publisher,
    /// The keys that the publisher had, the first one first, this one last.
    pub keys: Vec<KeyView>,
    /// Its recovery key.
    pub recovery: Option<Publisher>,
    /// Where that still lies, though it belongs offline.
    pub recovery_file: Option<PathBuf>,
}

/// One key of a publisher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// The key.
    pub key: Publisher,
    /// Whether its secret key is here.
    pub here: bool,
    /// Why it was revoked; `None`: it was not.
    pub revoked: Option<String>,
}

/// What came of `rotate` and `recover`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The old key.
    pub from: Publisher,
    /// The one that took its place.
    pub to: Publisher,
    /// Whether the recovery key is bound to the new one as well.
    pub recovery: bool,
    /// Names that were released again under the new key.
    pub names: Vec<String>,
    /// Names whose last release is not of something that is here: they were left out, for anybody who had the old key may have made it.
    pub left_out: Vec<String>,
}

/// What is to be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoke {
    /// The key; `None`: the one that we publish with.
    pub key: Option<Publisher>,
    /// Why.
    pub reason: Reason,
    /// The file of the recovery key.
    pub recovery: Option<PathBuf>,
}

/// What came of `revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedKey {
    /// The key.
    pub key: Publisher,
    /// Why.
    pub reason: String,
    /// Who signed: the key itself, or its recovery key.
    pub by: Publisher,
    /// As which key the publisher goes on; `None`: as none.
    pub goes_on_as: Option<Publisher>,
}

impl Identity {
    /// Loads our keys, and makes the first one where there is none.
    pub(crate) fn open(data: &Path) -> Result<Identity, KeyError> {
        let first = keys::load_or_create(&data.join(FIRST), KeyKind::Publisher)?;
        let mut all = BTreeMap::new();
        let id = Publisher::from(first.verifying_key());
        all.insert(id, first);
        let folder = data.join(LATER);
        let io_error = |source| KeyError::Io {
            path: folder.clone(),
            source,
        };
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            entries => Some(entries.map_err(io_error)?),
        };
        for entry in entries.into_iter().flatten() {
            let name = entry.map_err(io_error)?.file_name();
            let named = name.to_str().and_then(|name| name.strip_suffix(ENDING));
            if let Some(named) = named.and_then(|named| named.parse::<Publisher>().ok())
                && let Some(key) = keys::load(&folder.join(&name), KeyKind::Publisher)?
                && Publisher::from(key.verifying_key()) == named
            {
                all.insert(named, key);
            }
        }
        Ok(Identity {
            data: data.to_owned(),
            first: id,
            keys: Mutex::new(all),
        })
    }

    /// The first key: from it statements lead to the current one.
    pub(crate) fn first(&self) -> Publisher {
        self.first
    }

    /// Whether a key's secret is here.
    pub(crate) fn has(&self, key: Publisher) -> bool {
        self.keys().contains_key(&key)
    }

    /// Every key whose secret is here.
    pub(crate) fn all(&self) -> BTreeSet<Publisher> {
        self.keys().keys().copied().collect()
    }

    fn secret(&self, key: Publisher) -> Option<SigningKey> {
        self.keys().get(&key).cloned()
    }

    /// Makes a key, durable on return. One that a crash left without a use is used.
    fn add(&self) -> Result<SigningKey, KeyError> {
        let folder = self.data.join(LATER);
        let next = folder.join(format!("{NEXT}{ENDING}"));
        let io_error = |source| KeyError::Io {
            path: next.clone(),
            source,
        };
        durable::create_folders(&folder).map_err(io_error)?;
        let key = keys::load_or_create(&next, KeyKind::Publisher)?;
        let id = Publisher::from(key.verifying_key());
        fs::rename(&next, folder.join(format!("{id}{ENDING}")))
            .and_then(|()| durable::sync_folder(&folder))
            .map_err(io_error)?;
        self.keys().insert(id, key.clone());
        Ok(key)
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<Publisher, SigningKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Library {
    /// The secret key that we publish with.
    ///
    /// # Errors
    /// [`IdentityError::Revoked`], [`IdentityError::Taken`].
    pub(crate) fn publisher_key(&self) -> Result<SigningKey, IdentityError> {
        let standing = self.standing_of(self.identity().first());
        let key = standing.current();
        if let Some(revoked) = standing.revoked() {
            let reason = revoked.reason;
            return Err(IdentityError::Revoked { key, reason });
        }
        self.identity().secret(key).ok_or_else(|| IdentityError::Taken {
            ours: self.last_of_ours(),
            to: key,
        })
    }

    /// The last key of our publisher whose secret is here.
    fn last_of_ours(&self) -> Publisher {
        let standing = self.standing_of(self.identity().first());
        let mut keys = standing.steps.iter().rev().map(|step| step.key);
        keys.find(|key| self.identity().has(*key))
            .unwrap_or_else(|| self.identity().first())
    }

    /// Who we publish as, and with which keys.
    pub fn identity_view(&self) -> IdentityView {
        let standing = self.standing_of(self.identity().first());
        let keys = standing.steps.iter().map(|step| KeyView {
            key: step.key,
            here: self.identity().has(step.key),
            revoked: step.revoked.map(|revoked| revoked.reason.to_string()),
        });
        let file = self.data().join(RECOVERY_FILE);
        IdentityView {
            peer_id: self.peer_id().to_string(),
            publisher: standing.current(),
            keys: keys.collect(),
            recovery: standing.recovery,
            recovery_file: file.exists().then_some(file),
        }
    }

    /// Makes a recovery key and binds it to ours, if we have none yet. Returns the file, if it was made.
    pub(crate) fn ensure_recovery(&self) -> Result<Option<PathBuf>, IdentityError> {
        let standing = self.standing_of(self.identity().first());
        let introduced = |key| {
            let said = self.statements().about(key);
            said.iter()
                .any(|said| matches!(said.statement(), Statement::Introduce { .. }))
        };
        if standing.recovery.is_some() || introduced(standing.current()) {
            return Ok(None);
        }
        let key = self.publisher_key()?;
        let path = self.data().join(RECOVERY_FILE);
        let recovery = keys::load_or_create(&path, KeyKind::Recovery)?;
        let introduced = introduce(&key, &recovery)?;
        self.statements().take(&[introduced])?;
        Ok(Some(path))
    }

    /// Makes a key of ours: what it will publish is ours at once, whatever lists say.
    fn new_key(&self) -> Result<SigningKey, KeyError> {
        let key = self.identity().add()?;
        self.denials().set_own(self.identity().all());
        Ok(key)
    }

    /// Goes on as a new key: the old one says so, and everybody who follows it follows the new one.
    ///
    /// `recovery`: the file of the recovery key, to be bound to the new key too; where it is not given and still lies in the data folder, that one.
    ///
    /// # Errors
    /// Those of [`IdentityError`] but `NotOurs` and `NeedsRecovery`. Before the statement is made nothing has changed.
    pub fn rotate(&self, recovery: Option<&Path>) -> Result<Moved, IdentityError> {
        let _one_at_a_time = self.signing();
        let old = self.publisher_key()?;
        let from = Publisher::from(old.verifying_key());
        let standing = self.standing_of(from);
        if standing.steps.len() > KEY_STEPS_MAX {
            return Err(IdentityError::TooMany);
        }
        let forked = |fork: &&protocol::key::Fork| fork.key == from && fork.kind == ForkKind::Rotations;
        if standing.forks.iter().find(forked).is_some() {
            return Err(IdentityError::Forked { key: from });
        }
        let kept = self.data().join(RECOVERY_FILE);
        let recovery = match recovery {
            Some(path) => Some(load_recovery(path, from, standing.recovery)?),
            None if kept.exists() && standing.recovery.is_some() => {
                Some(load_recovery(&kept, from, standing.recovery)?)
            }
            None => None,
        };
        let new = self.new_key()?;
        let to = Publisher::from(new.verifying_key());
        let rotate = Statement::Rotate {
            from,
            to,
            issued: now(),
        };
        let mut said = vec![SignedStatement::sign(rotate, &[&old, &new])?];
        if let Some(recovery) = &recovery {
            said.push(introduce(&new, recovery)?);
        }
        self.statements().take(&said)?;
        self.concern()?;
        self.go_on(from, &new, recovery.is_some())
    }

    /// Goes on as another key, by the recovery key: the old one is lost, or somebody else has it.
    ///
    /// - `from`: the key to go on from; `None`: our last one. One that is not ours goes on as the key of this node.
    /// - `recovery`: the file of the recovery key.
    ///
    /// # Errors
    /// Those of [`IdentityError`] but `NotOurs` and `NeedsRecovery`. Before the statement is made nothing has changed.
    pub fn recover(&self, from: Option<Publisher>, recovery: &Path) -> Result<Moved, IdentityError> {
        let _one_at_a_time = self.signing();
        let from = from.unwrap_or_else(|| self.last_of_ours());
        let standing = self.standing_of(from);
        let Some(known) = standing.recovery else {
            return Err(IdentityError::NoRecovery { publisher: from });
        };
        let recovery = load_recovery(recovery, from, Some(known))?;
        let at = standing.steps.iter().position(|step| step.key == from);
        if at.is_some_and(|at| at >= KEY_STEPS_MAX) {
            return Err(IdentityError::TooMany);
        }
        let ours = self.standing_of(self.identity().first());
        let new = match ours.step(from) {
            Some(_) => self.new_key()?,
            None => self.publisher_key()?,
        };
        let to = Publisher::from(new.verifying_key());
        let recover = Statement::Recover {
            from,
            to,
            recovery: Publisher::from(recovery.verifying_key()),
            issued: now(),
        };
        let mut said = vec![SignedStatement::sign(recover, &[&recovery, &new])?];
        // A key that published before has a recovery key of its own.
        if self.standing_of(to).recovery.is_none() {
            said.push(introduce(&new, &recovery)?);
        }
        self.statements().take(&said)?;
        self.concern()?;
        self.go_on(from, &new, true)
    }

    /// Revokes a key for good: nothing that it signs from now on is followed by anybody who hears of it.
    ///
    /// # Errors
    /// Those of [`IdentityError`] but `Taken`, `Revoked`, `Forked` and `TooMany`.
    pub fn revoke(&self, ask: &Revoke) -> Result<RevokedKey, IdentityError> {
        let _one_at_a_time = self.signing();
        let key = ask.key.unwrap_or_else(|| self.last_of_ours());
        let standing = self.standing_of(key);
        let recovery = match &ask.recovery {
            Some(path) => Some(load_recovery(path, key, standing.recovery)?),
            None => None,
        };
        let signer = match &recovery {
            Some(recovery) => recovery.clone(),
            None => {
                let ours = self.identity().secret(key);
                ours.ok_or(IdentityError::NotOurs { key })?
            }
        };
        let by = Publisher::from(signer.verifying_key());
        let revoke = Statement::Revoke {
            key,
            by,
            reason: ask.reason,
            issued: now(),
        };
        let mut said = vec![SignedStatement::sign(revoke, &[&signer])?];
        let mut behind = standing.steps.iter().skip_while(|step| step.key != key).skip(1);
        let next = behind.next().filter(|next| next.by == Some(Passage::Rotated));
        if let Some(next) = next
            && let Some(new) = self.identity().secret(next.key)
        {
            let to = next.key;
            let recovery = recovery.ok_or(IdentityError::NeedsRecovery { key, to })?;
            let recover = Statement::Recover {
                from: key,
                to,
                recovery: by,
                issued: now(),
            };
            said.push(SignedStatement::sign(recover, &[&recovery, &new])?);
        }
        self.statements().take(&said)?;
        let standing = self.standing_of(key);
        Ok(RevokedKey {
            key,
            reason: ask.reason.to_string(),
            by,
            goes_on_as: standing.revoked().is_none().then(|| standing.current()),
        })
    }

    /// Releases under the new key what is here of the old one's.
    fn go_on(&self, from: Publisher, new: &SigningKey, recovery: bool) -> Result<Moved, IdentityError> {
        let mut moved = Moved {
            from,
            to: Publisher::from(new.verifying_key()),
            recovery,
            names: Vec::new(),
            left_out: Vec::new(),
        };
        for repo in self.names().repos_of(from)? {
            let list = match self.release_again(&repo, new)? {
                true => &mut moved.names,
                false => &mut moved.left_out,
            };
            list.push(repo.name.to_string());
        }
        Ok(moved)
    }
}

fn introduce(key: &SigningKey, recovery: &SigningKey) -> Result<SignedStatement, IdentityError> {
    let introduce = Statement::Introduce {
        key: Publisher::from(key.verifying_key()),
        recovery: Publisher::from(recovery.verifying_key()),
        issued: now(),
    };
    Ok(SignedStatement::sign(introduce, &[key, recovery])?)
}

fn load_recovery(
    path: &Path,
    publisher: Publisher,
    wanted: Option<Publisher>,
) -> Result<SigningKey, IdentityError> {
    let path = path.to_owned();
    let Some(key) = keys::load(&path, KeyKind::Recovery)? else {
        return Err(IdentityError::NoFile { path });
    };
    match wanted {
        Some(wanted) if Publisher::from(key.verifying_key()) != wanted => Err(IdentityError::OtherRecovery {
            path,
            publisher,
            wanted,
        }),
        Some(_) => Ok(key),
        None => Err(IdentityError::NoRecovery { publisher }),
    }
}
