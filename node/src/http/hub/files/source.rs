//! Where the bytes of an answer come from: the store, or a fetch that brings them in the order they are read. Every byte was
//! verified, and each piece has the length that was promised for it.
//!
//! Clients keep what they get under the digest that the publisher says it has, which is known to be true only once all of the file
//! was hashed. So nobody gets all of it before: of a file that is read from its start the last piece waits for the digest of what
//! went out, and of one that is read in parts no piece goes out that was sent after all of it is here. Looking at a file of
//! which not all is here is answered, for then no client can have all of it.

use std::collections::HashSet;
use std::iter;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use protocol::{FileEntry, Hash, RepoId};

use crate::fetch::FetchError;
use crate::limits::PIECE_LEN;
use crate::node::Node;
use crate::store::digest::Linear;
use crate::store::{Blob, StoreError, begin_proof, blocking};

/// Pieces that are read and verified while the one before is sent: enough that neither disk nor socket waits. With the one that
/// is sent they are the memory of an answer.
const READ_AHEAD: usize = 2;
/// Pieces that are asked of peers before the rest of the file; they wait on the disk, not in memory.
const BRING_AHEAD: usize = 4;
/// Files that are fetched at once though nobody may read them any more; the others are fetched only while they are read.
const DEMANDS_MAX: usize = 256;
/// How long such a file is waited for while nobody has it: its client may have gone for good.
const PATIENCE: Duration = Duration::from_secs(600);

/// The files that are being fetched because a client asked for them. They go on when it goes away, so that the next one is
/// served from disk. A cheap handle.
#[derive(Clone, Default)]
pub(in super::super) struct Demands(Arc<Mutex<HashSet<Demand>>>);

/// A file: manifest and blob.
type Demand = (Hash, Hash);

/// One of them, as long as its fetch is under way.
struct UnderWay(Demands, Demand);

impl Demands {
    /// Has a file fetched in the background, once.
    ///
    /// - `repo`: the name it was asked for by.
    pub(super) fn begin(&self, node: &Node, manifest: Hash, repo: Option<RepoId>, file: &FileEntry) {
        let Some(under_way) = self.enter((manifest, file.blake3)) else {
            return;
        };
        let (worker, file) = (node.clone(), file.clone());
        node.task(async move {
            let _under_way = under_way;
            if let Err(error) = worker.fetch_file(manifest, repo, &file, PATIENCE).await {
                let error = &error as &dyn std::error::Error;
                tracing::info!(manifest = %manifest.short(), path = file.path.as_str(), error, "a file that was asked for did not come");
            }
        });
    }

    fn enter(&self, demand: Demand) -> Option<UnderWay> {
        let mut all = self.0.lock().expect("nothing panics while it holds this");
        let entered = all.len() < DEMANDS_MAX && all.insert(demand);
        entered.then(|| UnderWay(self.clone(), demand))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let UnderWay(Demands(all), demand) = self;
        let mut all = all.lock().expect("nothing panics while it holds this");
        all.remove(demand);
    }
}

/// A file that is being answered.
pub(super) struct Source {
    node: Node,
    manifest: Hash,
    /// What it was asked for by, where that is a name.
    repo: Option<RepoId>,
    file: FileEntry,
    /// The blob, opened once, if all of it is here.
    whole: Option<Blob>,
    /// Whether peers may be asked for what is not here.
    fetches: bool,
    /// Whether what its publisher says of it is known to be so.
    proven: bool,
}

/// How it is known that what goes out is what its publisher says.
enum Proof {
    /// It is.
    Given,
    /// All of the file passes in order, and is hashed on the way: so many bytes are to come.
    OnTheWay(Box<Linear>, u64),
    /// Parts of it go out: all of it is hashed as soon as it is here.
    WhenWhole,
}

impl Source {
    /// Looks how much of a file is here.
    ///
    /// - `ours`: the manifest is our own word.
    ///
    /// # Errors
    /// It is denied; the store fails; the blob has another length or another digest than the manifest says.
    pub(super) async fn find(
        node: &Node,
        manifest: Hash,
        repo: Option<RepoId>,
        file: &FileEntry,
        ours: bool,
    ) -> Result<Source, FetchError> {
        refuse_denied(node, repo.as_ref(), manifest, file)?;
        let (store, hash) = (node.library().store(), file.blake3);
        let whole = match store.blob(hash).await {
            Ok(Blob::Growing(_)) | Err(StoreError::Missing(_)) => None,
            Err(StoreError::Damaged { .. } | StoreError::Changed { .. }) => None,
            Ok(_) if store.is_damaged(hash) => None,
            Ok(blob) if blob.len() != file.size => {
                return Err(StoreError::WrongLen {
                    blob: hash,
                    len: file.size,
                    actual: blob.len(),
                }
                .into());
            }
            Ok(blob) => Some(blob),
            Err(error) => return Err(error.into()),
        };
        let (judge, said, blob) = (store.clone(), file.clone(), whole.clone());
        let proven = ours || blocking(move || judge.is_proven(&said, blob.as_ref())).await?;
        Ok(Source {
            node: node.clone(),
            manifest,
            repo,
            file: file.clone(),
            whole,
            fetches: false,
            proven,
        })
    }

    /// Whether all of it is here.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// Allows that peers are asked for what is not here.
    pub(super) fn fetching(self) -> Source {
        Source {
            fetches: true,
            ..self
        }
    }

    /// Waits until these bytes are here. Only of use where it is known that peers may be asked.
    pub(super) async fn bring(&self, range: Range<u64>) -> Result<(), FetchError> {
        if range.is_empty() || self.whole.is_some() || self.has(range.clone()).await? {
            return Ok(());
        }
        let mut reader = self.node.open(self.manifest, self.file.clone());
        reader.bring(range).await
    }

    /// The bytes of a range, verified, in pieces of at most 1 MiB and in order. Ends early only with an error.
    pub(super) fn pieces(
        self: Arc<Self>,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Bytes, FetchError>> + Send + 'static {
        let (reader, prover) = (self.clone(), self.clone());
        let proof = match (self.proven, range == (0..self.file.size)) {
            (true, _) => Proof::Given,
            (false, true) => Proof::OnTheWay(Box::new(begin_proof(&self.file)), self.file.size),
            (false, false) => Proof::WhenWhole,
        };
        let bring = move |piece: Range<u64>| {
            let source = self.clone();
            async move {
                source.bring(piece.clone()).await?;
                Ok(piece)
            }
        };
        let read = move |piece: Result<Range<u64>, FetchError>| {
            let source = reader.clone();
            async move { source.read(piece?).await }
        };
        let brought = stream::iter(cut(range)).map(bring).buffered(BRING_AHEAD);
        let pieces = Box::pin(brought.map(read).buffered(READ_AHEAD));
        stream::try_unfold((pieces, proof), move |(mut pieces, proof)| {
            let source = prover.clone();
            async move {
                let Some(piece) = pieces.next().await.transpose()? else {
                    return Ok(None);
                };
                let proof = source.prove(&piece, proof).await?;
                Ok(Some((piece, (pieces, proof))))
            }
        })
    }

    /// Lets a piece pass, unless with it a client could have all of a file that is not what its publisher says.
    async fn prove(&self, piece: &Bytes, proof: Proof) -> Result<Proof, StoreError> {
        let store = self.node.library().store().clone();
        match proof {
            Proof::Given => Ok(Proof::Given),
            Proof::OnTheWay(mut linear, left) => {
                let (file, piece) = (self.file.clone(), piece.clone());
                blocking(move || {
                    linear.update(&piece);
                    let left = left.saturating_sub(piece.len() as u64);
                    if left > 0 {
                        return Ok(Proof::OnTheWay(linear, left));
                    }
                    store.conclude(&file, *linear)?;
                    Ok(Proof::Given)
                })
                .await
            }
            Proof::WhenWhole => match store.prove(&self.file).await {
                Ok(()) => Ok(Proof::Given),
                Err(StoreError::Missing(_) | StoreError::Damaged { .. } | StoreError::Changed { .. }) => {
                    Ok(Proof::WhenWhole)
                }
                Err(error) => Err(error),
            },
        }
    }

    async fn read(&self, piece: Range<u64>) -> Result<Bytes, FetchError> {
        // It may have been denied since the answer began.
        refuse_denied(&self.node, self.repo.as_ref(), self.manifest, &self.file)?;
        let (store, hash) = (self.node.library().store(), self.file.blake3);
        let here = match &self.whole {
            Some(blob) => {
                let (store, blob, piece) = (store.clone(), blob.clone(), piece.clone());
                blocking(move || store.read_range(hash, &blob, piece)).await
            }
            // The reader looks anew where it lies.
            None => Err(StoreError::Missing(hash)),
        };
        let bytes = match here {
            Err(StoreError::Missing(_) | StoreError::Damaged { .. } | StoreError::Changed { .. })
                if self.fetches =>
            {
                let mut reader = self.node.open(self.manifest, self.file.clone());
                reader.read(piece.clone()).await?
            }
            here => here?,
        };
        let (len, actual) = (piece.end - piece.start, bytes.len() as u64);
        if len != actual {
            let blob = hash;
            return Err(StoreError::WrongLen { blob, len, actual }.into());
        }
        Ok(bytes)
    }

    async fn has(&self, range: Range<u64>) -> Result<bool, StoreError> {
        match self.node.library().store().blob(self.file.blake3).await {
            Ok(Blob::Growing(part)) => Ok(part.has(range)),
            Ok(Blob::Memory(_) | Blob::File(..)) => Ok(true),
            Err(StoreError::Missing(_) | StoreError::Damaged { .. } | StoreError::Changed { .. }) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Refuses a file that is denied by itself, or with what it belongs to.
fn refuse_denied(
    node: &Node,
    repo: Option<&RepoId>,
    manifest: Hash,
    file: &FileEntry,
) -> Result<(), FetchError> {
    let denials = node.library().denials();
    denials.check(repo, Some(manifest))?;
    match denials.file(file.blake3) {
        None => Ok(()),
        Some(why) => Err(FetchError::DeniedFile {
            path: file.path.as_str().to_owned(),
            manifest,
            why: Box::new(why),
        }),
    }
}

/// Cuts a range where its pieces end: all but the first begin where a shard does.
fn cut(range: Range<u64>) -> impl Iterator<Item = Range<u64>> + Send {
    let len = PIECE_LEN as u64;
    let Range { mut start, end } = range;
    iter::from_fn(move || {
        let next = (start / len).saturating_add(1).saturating_mul(len).min(end);
        let piece = start..next;
        start = next;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of one piece is meant")]
mod tests {
    use super::*;

    #[test]
    fn pieces_tile_a_range_and_end_where_shards_do() {
        let mib = PIECE_LEN as u64;
        let cut = |range| cut(range).collect::<Vec<_>>();
        assert_eq!(cut(0..0), []);
        assert_eq!(cut(7..7), []);
        assert_eq!(cut(0..1), [0..1]);
        assert_eq!(cut(0..mib), [0..mib]);
        assert_eq!(cut(5..2 * mib + 1), [5..mib, mib..2 * mib, 2 * mib..2 * mib + 1]);
        assert_eq!(cut(u64::MAX - 1..u64::MAX), [u64::MAX - 1..u64::MAX]);
    }

    #[test]
    fn files_under_way_are_counted_once_and_bounded() {
        let demands = Demands::default();
        let demand = |index: usize| (Hash::of(b"manifest"), Hash::of(&index.to_le_bytes()));
        let first = demands.enter(demand(0));
        assert!(first.is_some());
        assert!(demands.enter(demand(0)).is_none(), "it is under way");
        let others: Vec<_> = (1..DEMANDS_MAX)
            .map(|index| demands.enter(demand(index)))
            .collect();
        assert!(others.iter().all(Option::is_some));
        assert!(demands.enter(demand(DEMANDS_MAX)).is_none(), "enough is enough");
        drop(first);
        assert!(demands.enter(demand(0)).is_some());
    }
}
