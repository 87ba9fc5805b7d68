//! What survives a restart: records kept for others, and where peers were found.

use std::{io, path::PathBuf};

use libp2p::PeerId;
use tracing::warn;

use super::Actor;
use crate::swarm::{
    book::{self, Book},
    records::{self, Records},
    snapshot,
};

/// First line of the file of records.
const RECORDS_FORMAT: &str = "shoal records 1";
/// First line of the file of known peers.
const PEERS_FORMAT: &str = "shoal peers 1";

impl Actor {
    /// Writes what changed, beside the actor. One save at a time; the next one takes what this one missed.
    pub(super) fn save(&mut self) {
        if self.saving.is_none()
            && let Some(write) = self.snapshots()
        {
            self.saving = Some(tokio::task::spawn_blocking(write));
        }
    }

    fn snapshots(&mut self) -> Option<impl FnOnce() -> io::Result<()> + Send + 'static> {
        let folder = self.folder.clone()?;
        let records = self.records().is_dirty().then(|| self.records().encode());
        let peers = self.book.encode();
        Some(move || {
            if let Some(records) = records {
                snapshot::write(&folder.join("records"), RECORDS_FORMAT, &records)?;
            }
            snapshot::write(&folder.join("peers"), PEERS_FORMAT, &peers)
        })
    }

    /// The last save, when everything else is over.
    pub(super) async fn save_last(&mut self) {
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
        let Some(write) = self.snapshots() else {
            return;
        };
        let result = tokio::task::spawn_blocking(write).await;
        if let Err(error) = result.map_err(io::Error::other).and_then(|written| written) {
            warn!(%error, "could not save what the DHT entrusted to us");
        }
    }
}

/// What was saved last time, or nothing: a file that cannot be used is told of and left to be replaced.
pub(super) async fn load(folder: Option<PathBuf>, local: PeerId, now: u64) -> (Records, Book) {
    let load = move || {
        let (mut records, mut book) = (Records::new(local, now), Book::default());
        let Some(folder) = folder else {
            return (records, book);
        };
        let path = folder.join("records");
        match snapshot::read(&path, RECORDS_FORMAT, records::SNAPSHOT_LEN_MAX) {
            Ok(body) => {
                if body.is_some_and(|body| records.restore(&body).is_none()) {
                    warn!(path = %path.display(), "saved DHT records make no sense, starting without");
                }
            }
            Err(error) => {
                warn!(path = %path.display(), %error, "saved DHT records cannot be used, starting without")
            }
        }
        let path = folder.join("peers");
        match snapshot::read(&path, PEERS_FORMAT, book::SAVED_LEN_MAX) {
            Ok(body) => {
                if body.is_some_and(|body| book.restore(&body).is_none()) {
                    warn!(path = %path.display(), "saved peers make no sense, starting without");
                }
            }
            Err(error) => {
                warn!(path = %path.display(), %error, "saved peers cannot be used, starting without")
            }
        }
        (records, book)
    };
    match tokio::task::spawn_blocking(load).await {
        Ok(loaded) => loaded,
        Err(error) => {
            warn!(%error, "saved DHT records cannot be read, starting without");
            (Records::new(local, now), Book::default())
        }
    }
}
