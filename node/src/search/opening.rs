//! Opening: is what lies there an index of ours? And beginning a new one where it is not.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tantivy::directory::MmapDirectory;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::schema::Schema;
use tantivy::store::Compressor;
use tantivy::{IndexBuilder, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, TantivyError};

use super::{SearchError, schema};
use crate::durable;

/// Memory for documents that are not committed, in bytes: about 25,000 of them, then they are written out.
const WRITER_LEN: usize = 30 * 1024 * 1024;

/// Threads that search at once; a question is cut along the parts of the index.
const SEARCH_THREADS_MAX: usize = 4;

/// Documents of a part above which it is merged no more: parts of this size share a search between the threads, and a merge stays short.
const MERGED_DOCUMENTS_MAX: usize = 200_000;

/// Fewest parts of a size that are merged into one.
const MERGED_PARTS_MIN: usize = 6;

/// Documents up to which parts count as of one size: small ones do not pile up.
const SMALL_PART_DOCUMENTS: u32 = 5_000;

/// Share of removed documents in a part from which on it is merged, to be rid of them.
const REMOVED_SHARE_MAX: f32 = 0.3;

/// What a commit says beside the documents: the version, and how far it is.
pub(super) fn payload(upto: u64) -> String {
    format!("{} {upto}", schema::VERSION)
}

fn read_payload(payload: &str) -> Option<u64> {
    let (version, upto) = payload.split_once(' ')?;
    let upto = upto.parse().ok()?;
    (version == schema::VERSION.to_string()).then_some(upto)
}

/// Opens what is there. `None`: nothing, nothing of ours, or something that was never filled to its end.
pub(super) fn live(
    folder: &Path,
    schema: &Schema,
) -> tantivy::Result<Option<(u64, IndexWriter, IndexReader)>> {
    if !folder.join("meta.json").exists() {
        return Ok(None);
    }
    let mut index = tantivy::Index::open(MmapDirectory::open(folder)?)?;
    let meta = index.load_metas()?;
    let upto = meta.payload.as_deref().and_then(read_payload);
    let Some(upto) = upto.filter(|upto| *upto > 0 && meta.schema == *schema) else {
        return Ok(None);
    };
    let (writer, reader) = open_both(&mut index)?;
    Ok(Some((upto, writer, reader)))
}

/// How often what is written to a folder while it is removed is removed again.
const REMOVALS_MAX: usize = 100;

/// Removes a folder with all that is in it. What tantivy collects on threads of its own may write there until it has ended.
fn remove(folder: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries < REMOVALS_MAX => {
                tries += 1
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => return Ok(()),
        }
    }
}

/// Makes an empty index in the place of whatever is there.
pub(super) fn begin(folder: &Path, schema: Schema) -> Result<(IndexWriter, IndexReader), SearchError> {
    let io = |source| SearchError::Io {
        folder: folder.to_owned(),
        source,
    };
    remove(folder).map_err(io)?;
    durable::create_folders(folder).map_err(io)?;
    guarded(folder, || {
        let settings = IndexSettings {
            docstore_compression: Compressor::None,
            docstore_compress_dedicated_thread: false,
            ..IndexSettings::default()
        };
        let directory = MmapDirectory::open(folder)?;
        let index = IndexBuilder::new().schema(schema).settings(settings);
        open_both(&mut index.open_or_create(directory)?)
    })
}

fn open_both(index: &mut tantivy::Index) -> tantivy::Result<(IndexWriter, IndexReader)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    index.set_multithread_executor(threads.min(SEARCH_THREADS_MAX))?;
    let writer = writer_of(index)?;
    let reader = index
        .reader_builder()
        .reload_policy(ReloadPolicy::Manual)
        .try_into()?;
    Ok((writer, reader))
}

pub(super) fn writer_of(index: &tantivy::Index) -> tantivy::Result<IndexWriter> {
    let options = IndexWriterOptions::builder()
        .memory_budget_per_thread(WRITER_LEN)
        .num_worker_threads(1)
        .num_merge_threads(1)
        .build();
    let writer = index.writer_with_options(options)?;
    let mut merging = LogMergePolicy::default();
    merging.set_max_docs_before_merge(MERGED_DOCUMENTS_MAX);
    merging.set_min_num_segments(MERGED_PARTS_MIN);
    merging.set_min_layer_size(SMALL_PART_DOCUMENTS);
    merging.set_del_docs_ratio_before_merge(REMOVED_SHARE_MAX);
    writer.set_merge_policy(Box::new(merging));
    Ok(writer)
}

/// Runs a piece of tantivy; a panic in it is damage.
pub(super) fn guarded<T>(folder: &Path, run: impl FnOnce() -> tantivy::Result<T>) -> Result<T, SearchError> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(outcome) => outcome.map_err(|error| refused(folder, error)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let what = format!("it gave up: {}", text.unwrap_or("no reason given"));
            Err(SearchError::Damaged { what })
        }
    }
}

fn refused(folder: &Path, error: TantivyError) -> SearchError {
    let folder = folder.to_owned();
    match error {
        TantivyError::LockFailure(..) => SearchError::InUse { folder },
        TantivyError::IoError(source)
            if source.kind() == io::ErrorKind::PermissionDenied || durable::is_full(&source) =>
        {
            let source = io::Error::new(source.kind(), source);
            SearchError::Io { folder, source }
        }
        other => SearchError::Damaged {
            what: other.to_string(),
        },
    }
}
