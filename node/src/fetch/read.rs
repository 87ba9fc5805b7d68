//! Reading a file that may not be here yet: what is read is fetched before the rest.

use super::{FetchError, FetchRequest, FetchWhat, Sought};
use crate::{
    limits::READ_LEN_MAX,
    node::Node,
    progress::Progress,
    store::{Blob, StoreError, blocking},
};
use bytes::Bytes;
use protocol::{FileEntry, Hash, RepoId, RepoRef};
use std::{ops::Range, time::Duration};
use tokio::{task::JoinHandle, time::timeout};

/// Pause before a job that was not there is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// A file of a manifest, to be read in any order while it is fetched. Nobody fetches it any further when this is dropped, unless
/// somebody else wants it.
pub struct Reader {
    node: Node,
    manifest: Hash,
    file: FileEntry,
    fetch: Option<JoinHandle<Result<(), FetchError>>>,
}

impl Node {
    /// Opens a file of a manifest for reading, wherever its bytes are.
    pub fn open(&self, manifest: Hash, file: FileEntry) -> Reader {
        Reader {
            node: self.clone(),
            manifest,
            file,
            fetch: None,
        }
    }

    /// Fetches one file of a manifest, whoever else wants it. It is written down meanwhile, for a node that starts again.
    ///
    /// - `repo`: the name it was asked for by, if it was by a name.
    /// - `wait`: how long to wait for a provider while nothing comes.
    pub(crate) async fn fetch_file(
        &self,
        manifest: Hash,
        repo: Option<RepoId>,
        file: &FileEntry,
        wait: Duration,
    ) -> Result<(), FetchError> {
        let what = repo.clone().map_or(RepoRef::Content(manifest), RepoRef::Id);
        let mut request = FetchRequest::new(FetchWhat::Repo(what));
        request.include = vec![globset::escape(file.path.as_str())];
        request.wait = Some(wait);
        // The revision is known, and may be an older one than the name means now.
        let sought = Sought {
            repo,
            ..Sought::content(manifest)
        };
        let fetched = self.fetch_sought(sought, request, &Progress::default()).await;
        fetched.map(drop)
    }
}

impl Reader {
    /// Returns the file's length, in bytes.
    pub fn len(&self) -> u64 {
        self.file.size
    }

    /// Tells whether there is nothing in the file.
    pub fn is_empty(&self) -> bool {
        self.file.size == 0
    }

    /// Reads a range, verified; what lies past the end is cut off, and so is what lies more than 8 MiB behind its start. Waits
    /// until somebody has it.
    ///
    /// # Errors
    /// Those of the fetch that is begun for it, and of the store.
    pub async fn read(&mut self, range: Range<u64>) -> Result<Bytes, FetchError> {
        let start = range.start.min(self.file.size);
        let end = range
            .end
            .min(self.file.size)
            .min(start.saturating_add(READ_LEN_MAX));
        if start >= end {
            return Ok(Bytes::new());
        }
        match self.here(start..end).await {
            Err(StoreError::Missing(_) | StoreError::Damaged { .. } | StoreError::Changed { .. }) => {}
            here => return Ok(here?),
        }
        self.bring(start..end).await?;
        Ok(self.here(start..end).await?)
    }

    /// Waits until a range that is not here, or not right, has been fetched. Reads nothing.
    ///
    /// # Errors
    /// Those of the fetch that is begun for it.
    pub(crate) async fn bring(&mut self, range: Range<u64>) -> Result<(), FetchError> {
        loop {
            if self
                .node
                .fetches()
                .read(self.manifest, self.file.blake3, range.clone())
                .await
            {
                return Ok(());
            }
            // There is no job: it is over, or has not begun. The fetch knows which.
            if let Ok(fetched) = timeout(ASK_AGAIN, self.fetch()).await {
                self.fetch = None;
                return fetched.map_err(|_| StoreError::Closed)?;
            }
        }
    }

    async fn here(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let (store, hash) = (self.node.library().store().clone(), self.file.blake3);
        let blob = store.blob(hash).await?;
        if let Blob::Growing(part) = &blob
            && !part.has(range.clone())
        {
            return Err(StoreError::Missing(hash));
        }
        blocking(move || store.read_range(hash, &blob, range)).await
    }

    /// The fetch that brings the file, begun where there is none.
    fn fetch(&mut self) -> &mut JoinHandle<Result<(), FetchError>> {
        self.fetch.get_or_insert_with(|| {
            let (node, manifest) = (self.node.clone(), self.manifest);
            let mut request = FetchRequest::new(FetchWhat::Repo(RepoRef::Content(manifest)));
            request.include = vec![globset::escape(self.file.path.as_str())];
            tokio::spawn(async move {
                let sought = Sought::content(manifest);
                let fetched = node.fetch_known(sought, request, &Progress::default()).await;
                fetched.map(drop)
            })
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(fetch) = &self.fetch {
            fetch.abort();
        }
    }
}
