//! A blob of more than one shard while it is being fetched: a file of its full length with holes, and its outboard, also
//! with holes. The two say by themselves which shards are there, so nothing else has to be kept, and a crash loses only
//! what had not been written.

use super::{StoreError, tree, walk::FileBlob, walk::Placed};
use bao_tree::{BaoTree, ChunkNum, io::outboard::PreOrderOutboard, io::sync::valid_ranges};
use iroh_blobs::store::IROH_BLOCK_SIZE;
use protocol::{Hash, SHARD_LEN, shard};
use rayon::prelude::{IntoParallelIterator, ParallelIterator};
use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex},
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
    have: Mutex<Have>,
}

/// Which shards are there.
#[derive(Debug)]
struct Have {
    shards: Vec<bool>,
    count: usize,
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
        let shards = if existed {
            present(&blob).map_err(StoreError::io(&path))?
        } else {
            vec![false; shard::shard_count(len) as usize]
        };
        let count = shards.iter().filter(|here| **here).count();
        Ok(Part {
            blob: Arc::new(blob),
            path,
            outboard_path,
            have: Mutex::new(Have { shards, count }),
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

    /// Notes that these shards are written; returns how many of them are new.
    pub(crate) fn mark(&self, shards: Range<u32>) -> u32 {
        let mut have = self.have.lock().expect("nothing panics while it holds this");
        let mut new = 0;
        for index in shards {
            if let Some(here) = have.shards.get_mut(index as usize)
                && !std::mem::replace(here, true)
            {
                new += 1;
            }
        }
        have.count += new as usize;
        new
    }

    /// Tells which shards are there.
    pub(crate) fn shards(&self) -> Vec<bool> {
        self.have
            .lock()
            .expect("nothing panics while it holds this")
            .shards
            .clone()
    }

    /// Tells whether all shards are there.
    pub(crate) fn is_complete(&self) -> bool {
        let have = self.have.lock().expect("nothing panics while it holds this");
        have.count == have.shards.len()
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

/// Returns which shards of a blob's file are right, by its outboard.
fn present(blob: &FileBlob) -> io::Result<Vec<bool>> {
    let count = shard::shard_count(blob.len);
    let starts: Vec<u32> = (0..count).step_by(RESUME_SHARDS as usize).collect();
    let runs: Vec<Vec<bool>> = starts
        .into_par_iter()
        .map(|start| present_run(blob, start..count.min(start + RESUME_SHARDS)))
        .collect::<io::Result<_>>()?;
    Ok(runs.concat())
}

fn present_run(blob: &FileBlob, run: Range<u32>) -> io::Result<Vec<bool>> {
    let first = u64::from(run.start) * SHARD_LEN;
    let end = (u64::from(run.end) * SHARD_LEN).min(blob.len);
    let ranges = super::walk::chunks(&(first..end), blob.len);
    let outboard = PreOrderOutboard {
        root: blob.hash.into(),
        tree: BaoTree::new(blob.len, IROH_BLOCK_SIZE),
        data: &blob.outboard,
    };
    let mut right = vec![0u64; run.len()];
    for valid in valid_ranges(outboard, &blob.data, &ranges) {
        let valid: Range<ChunkNum> = valid?;
        let (start, end) = (valid.start.to_bytes(), valid.end.to_bytes().min(blob.len));
        if let Some(bytes) = right.get_mut(((start - first) / SHARD_LEN) as usize) {
            *bytes += end - start;
        }
    }
    let whole = run.zip(right).map(|(index, right)| {
        shard::shard_range(blob.len, index).is_some_and(|range| range.end - range.start == right)
    });
    Ok(whole.collect())
}
