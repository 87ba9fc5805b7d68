//! Gathering the facts: from the disk for a command, from the node's rooms for the node.

use super::{DataFacts, Running};
use crate::{
    durable,
    library::{LibraryError, now},
    node::Node,
    store::blocking,
};
use protocol::limits::CLOCK_SKEW_MAX;
use rustix::{
    fs::{Access, access},
    process::geteuid,
};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

/// Files of the data folder that nobody else may read: keys, and the token of the doors.
const SECRET: [&str; 4] = ["node.key", "publisher.key", "recovery.key", "control.json"];

/// How long a program on this machine may take to take a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(1);

/// Most releases from the future that a node tells of.
const FUTURE_TOLD_MAX: usize = 100;

impl Node {
    /// What the doctor asks of a node.
    pub async fn examined(&self) -> Result<Running, LibraryError> {
        let status = self.status().await?;
        let library = self.library().clone();
        let limit = now().saturating_add(CLOCK_SKEW_MAX);
        let read = move || -> Result<Vec<(String, u64)>, LibraryError> {
            let all = library.names().all()?.filter_map(Result::ok);
            let issued = all.map(|signed| (signed.release().repo().to_string(), signed.release().issued));
            let future = issued.filter(|(_, issued)| *issued > limit);
            Ok(future.take(FUTURE_TOLD_MAX).collect())
        };
        let future = blocking(move || Ok(read())).await??;
        let external = self.swarm().external_addresses();
        Ok(Running {
            http: status.http,
            listen: status.listen,
            external: external.iter().map(ToString::to_string).collect(),
            connected: status.connected,
            quota: status.quota,
            used: status.used,
            damaged: status.damaged.len() as u64,
            future,
        })
    }
}

/// Looks at a data folder, which need not be there, without opening it. Blocking.
pub fn look_around(folder: &Path) -> DataFacts {
    let mut data = DataFacts {
        folder: folder.to_owned(),
        exists: folder.exists(),
        ..DataFacts::default()
    };
    let there = folder.ancestors().find(|above| above.exists());
    data.free = there.and_then(|there| durable::free_space(there).ok());
    if !data.exists {
        if let Some(above) = there.filter(|there| access(*there, Access::WRITE_OK).is_err()) {
            data.rights.push((
                format!(
                    "{} cannot be made: {} may not be written",
                    folder.display(),
                    above.display()
                ),
                "name another folder: --data DIR".to_owned(),
            ));
        }
        return data;
    }
    let shown = folder.display();
    match fs::metadata(folder) {
        Ok(metadata) if !metadata.is_dir() => data.rights.push((
            format!("{shown} is no folder"),
            "name another one: --data DIR".to_owned(),
        )),
        Ok(metadata) if metadata.uid() != geteuid().as_raw() => data.rights.push((
            format!("{shown} is another user's"),
            format!("run shoal as that user, name another folder with --data DIR, or: sudo chown -R $(id -u) {shown}"),
        )),
        Ok(metadata) if metadata.mode() & 0o002 != 0 => data.rights.push((
            format!("{shown} may be written by others"),
            format!("chmod o-w {shown}"),
        )),
        Ok(_) if access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() => {
            data.rights.push((
                format!("{shown} may not be read and written"),
                format!("chmod u+rwx {shown}"),
            ));
        }
        Ok(_) => {}
        Err(error) => data
            .rights
            .push((format!("{shown}: {error}"), "name another folder: --data DIR".to_owned())),
    }
    for name in SECRET {
        let path = folder.join(name);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0) {
            data.rights.push((
                format!(
                    "{} may be read by others: with it they can pass for this node",
                    path.display()
                ),
                format!("chmod 600 {}", path.display()),
            ));
        }
    }
    data
}

/// Tells whether somebody listens at an address of this machine. Blocking.
pub fn usual_is_taken(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, CONNECT_WAIT).is_ok()
}
