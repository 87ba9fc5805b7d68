//! A blob of more than one shard while it is being fetched: a file of its full length with holes, and its outboard, also
//! with holes. The two say by themselves which groups are there, so nothing else has to be kept, and a crash loses only
//! what had not been written.

use super::{StoreError, groups::Groups, tree, walk::FileBlob, walk::Placed};
use crate::runs;
use bao_tree::{ChunkNum, io::sync::valid_ranges};
use fixedbitset::FixedBitSet;
use protocol::{Hash, SHARD_LEN, shard};
use rayon::prelude::{IntoParallelIterator, ParallelIterator};
use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

/// Shards that one task of a resume looks at.
const RESUME_SHARDS: u32 = 64;

/// A blob on its way.
#[derive(Debug)]
pub(crate) struct Part {
    /// The files, readable while they grow.
    pub(crate) blob: Arc<FileBlob>,
    /// Where the bytes lie.
    pub(crate) path: PathBuf,
    /// Where the outboard lies.
    pub(crate) outboard_path: PathBuf,
    here: Mutex<Groups>,
}

impl Part {
    /// Opens what there is of a blob, or begins it. What there is is verified, on all cores. Blocking.
    pub(crate) fn open(
        hash: Hash,
        len: u64,
        path: PathBuf,
        outboard_path: PathBuf,
    ) -> Result<Part, StoreError> {
        let existed = path.exists();
        let open = |path: &PathBuf, len: u64| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            file.set_len(len)?;
            Ok::<File, io::Error>(file)
        };
        let data = open(&path, len).map_err(StoreError::io(&path))?;
        let outboard =
            open(&outboard_path, tree::outboard_len(len)).map_err(StoreError::io(&outboard_path))?;
        let blob = FileBlob {
            hash,
            len,
            data,
            outboard,
        };
        let here = Mutex::new(Groups::none(len));
        if existed {
            find_right(&blob, &here).map_err(StoreError::io(&path))?;
        }
        Ok(Part {
            blob: Arc::new(blob),
            path,
            outboard_path,
            here,
        })
    }

    /// Writes verified bytes. Blocking.
    pub(crate) fn write(&self, piece: &[u8], placed: &Placed) -> Result<(), StoreError> {
        for (offset, spans) in &placed.data {
            write_spans(&self.blob.data, *offset, piece, spans).map_err(StoreError::io(&self.path))?;
        }
        for (offset, pairs) in &placed.pairs {
            let written = self.blob.outboard.write_all_at(pairs, *offset);
            written.map_err(StoreError::io(&self.outboard_path))?;
        }
        Ok(())
    }

    /// Has what was written so far written to disk. Blocking.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        self.blob.data.sync_data().map_err(StoreError::io(&self.path))
    }

    /// Notes that verified bytes are written; returns the runs of shards of this blob that are complete by it.
    ///
    /// Only groups that lie wholly within `bytes` count; the last one ends with the blob.
    pub(crate) fn landed(&self, bytes: Range<u64>) -> Vec<Range<u32>> {
        self.here().add(bytes)
    }

    /// Returns the bytes of a run of shards that are not here: whole groups, joined where they touch, in order.
    pub(crate) fn missing(&self, run: Range<u32>) -> Vec<Range<u64>> {
        self.here().missing(run)
    }

    /// Tells whether all of a range of bytes is here and can be served; what lies behind the end does not count.
    pub(crate) fn has(&self, bytes: Range<u64>) -> bool {
        self.here().has(bytes)
    }

    /// Tells which shards are complete.
    pub(crate) fn shards(&self) -> FixedBitSet {
        self.here().shards().clone()
    }

    /// How many shards are complete.
    pub(crate) fn count(&self) -> usize {
        self.here().count()
    }

    /// Tells whether all shards are complete.
    pub(crate) fn is_complete(&self) -> bool {
        self.count() == shard::shard_count(self.blob.len) as usize
    }

    fn here(&self) -> MutexGuard<'_, Groups> {
        self.here.lock().expect("nothing panics while it holds this")
    }
}

/// Writes several ranges of `piece` one behind the other, in as few calls as the system allows.
fn write_spans(file: &File, offset: u64, piece: &[u8], spans: &[Range<usize>]) -> io::Result<()> {
    let total: usize = spans.iter().map(Range::len).sum();
    let slices: Vec<IoSlice<'_>> = spans
        .iter()
        .map(|span| IoSlice::new(&piece[span.clone()]))
        .collect();
    let written = rustix::io::pwritev(file, &slices, offset)?;
    if written == total {
        return Ok(());
    }
    let mut at = 0;
    for span in spans {
        if at + span.len() > written {
            let skip = written.saturating_sub(at);
            file.write_all_at(&piece[span.start + skip..span.end], offset + (at + skip) as u64)?;
        }
        at += span.len();
    }
    Ok(())
}

/// Finds which groups of a blob's file are right by its outboard.
fn find_right(blob: &FileBlob, here: &Mutex<Groups>) -> io::Result<()> {
    let count = shard::shard_count(blob.len);
    let starts: Vec<u32> = (0..count).step_by(RESUME_SHARDS as usize).collect();
    starts
        .into_par_iter()
        .try_for_each(|start| find_in_run(blob, start..count.min(start + RESUME_SHARDS), here))
}

fn find_in_run(blob: &FileBlob, run: Range<u32>, here: &Mutex<Groups>) -> io::Result<()> {
    let bytes = u64::from(run.start) * SHARD_LEN..(u64::from(run.end) * SHARD_LEN).min(blob.len);
    let ranges = super::walk::chunks(&bytes, blob.len);
    let mut right: Vec<Range<u64>> = Vec::new();
    for valid in valid_ranges(blob.tree(), &blob.data, &ranges) {
        let valid: Range<ChunkNum> = valid?;
        let bytes = valid.start.to_bytes()..valid.end.to_bytes().min(blob.len);
        runs::push(&mut right, bytes);
    }
    let mut here = here.lock().expect("nothing panics while it holds this");
    for bytes in right {
        here.add(bytes);
    }
    Ok(())
}
