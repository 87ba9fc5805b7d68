//! Opening a data folder: the lock first, then the reserve, for on a full disk it has to give way before the catalog opens.

use super::{LibraryError, OpenError};
use crate::{
    attest::Attestations,
    catalog::{Catalog, OpenState, Reserve},
    denials::Denials,
    durable,
    identity::Identity,
    keys::{self, KeyKind},
    mirror::Inventory,
    names::{Following, Names, Statements},
};
use ed25519_dalek::SigningKey;
use fd_lock::{RwLock, RwLockWriteGuard};
use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

/// What opens without waiting for anything but the disk.
pub(super) struct Opened {
    pub(super) data: PathBuf,
    pub(super) catalog: Catalog,
    pub(super) state: OpenState,
    pub(super) names: Names,
    pub(super) following: Following,
    pub(super) inventory: Inventory,
    pub(super) denials: Denials,
    pub(super) attestations: Attestations,
    pub(super) node_key: SigningKey,
    pub(super) identity: Identity,
    pub(super) statements: Statements,
    pub(super) reserve: Reserve,
    pub(super) lock: RwLockWriteGuard<'static, File>,
}

impl Opened {
    /// Takes the lock, then opens one thing after the other. Blocking.
    pub(super) fn open(data: &Path) -> Result<Opened, OpenError> {
        let folder = |source| OpenError::Folder {
            folder: data.to_owned(),
            source,
        };
        durable::create_folders(data).map_err(folder)?;
        let data = data.canonicalize().map_err(folder)?;
        let lock = lock(&data)?;
        // The reserve gives way before sled is opened: sled cannot open on a full disk.
        let reserve = Reserve::open(&data.join("reserve"))?;
        let opened = Catalog::open(&data.join("catalog")).map_err(LibraryError::from)?;
        let identity = Identity::open(&data)?;
        Ok(Opened {
            names: Names::open(&data)?,
            following: Following::open(&data)?,
            inventory: Inventory::open(&data),
            attestations: Attestations::open(&data)?,
            node_key: keys::load_or_create(&data.join("node.key"), KeyKind::Node)?,
            denials: Denials::open(&data, identity.all())?,
            identity,
            statements: Statements::open(&data)?,
            catalog: opened.catalog,
            state: opened.state,
            reserve,
            lock,
            data,
        })
    }
}

/// Takes the folder's lock and writes our process id into it.
fn lock(data: &Path) -> Result<RwLockWriteGuard<'static, File>, OpenError> {
    let folder = |source| OpenError::Folder {
        folder: data.to_owned(),
        source,
    };
    let path = data.join("lock");
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(folder)?;
    // One small leak for each folder this process opens: the guard borrows the lock, and both live as long as the process
    // may hold the folder.
    let lock: &'static mut RwLock<File> = Box::leak(Box::new(RwLock::new(file)));
    match lock.try_write() {
        Ok(mut guard) => {
            let _ = guard
                .set_len(0)
                .and_then(|()| guard.rewind())
                .and_then(|()| writeln!(guard, "{}", std::process::id()));
            Ok(guard)
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            let mut pid = String::new();
            let _ = File::open(&path).and_then(|file| file.take(32).read_to_string(&mut pid));
            Err(OpenError::InUse {
                folder: data.to_owned(),
                pid: pid.trim().parse().ok(),
            })
        }
        Err(error) => Err(folder(error)),
    }
}
