//! The search index: full text over every known release. The catalog is the truth; this is made of it, and is made again where it is lost.
//!
//! tantivy stands behind it. A document holds no text, only what is found by and what is sorted by; a hit is a key of the catalog. Everything here **blocks**:
//! use a blocking pool. An [`Index`] is a handle; clone it freely.
//!
//! **Order of things.** [`Index::put`] and [`Index::remove`] collect; [`Index::commit`] makes it durable and visible, for tens of milliseconds: once for many. A commit
//! carries a number of the caller's, the largest [`KnownRow::arrived`] that is in it, and the next open tells it: what arrived later is put in again. What a
//! crash takes is never more than what came after the last commit.
//!
//! **Losing it.** An index that is missing, was made by another version of this code or cannot be read is emptied at open, which says so. Damage
//! met by a search is a [`SearchError::Damaged`]; [`Index::clear`] then begins anew. tantivy checks a file's length and its mark when it opens it, not its
//! content, and its panics are taken for damage.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use std::thread;
use std::time::Duration;

use tantivy::{IndexReader, IndexWriter};

mod favour;
mod opening;
mod prefix;
mod query;
mod rank;
mod schema;
#[cfg(test)]
mod tests;
mod words;

pub use favour::Favoured;
pub use query::{
    Cursor, CursorError, FACTS_MAX, Fact, PAGE_MAX, Page, Query, Sort, TEXT_LEN_MAX, WORDS_MAX, Within,
};

use crate::catalog::{KnownRow, NameKey};
use opening::{begin, guarded, live, payload, writer_of};
use rank::{Found, Ranking};
use schema::Fields;

/// How long closing waits for parts that are being merged.
const MERGES_WAIT: Duration = Duration::from_secs(5);

/// A handle on the index. See the module's own words.
#[derive(Clone)]
pub struct Index(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    fields: Fields,
    /// Taken before `live`.
    writer: Mutex<Option<IndexWriter>>,
    live: RwLock<Option<IndexReader>>,
}

/// What [`Index::open`] gives.
#[derive(Debug)]
pub struct Opened {
    /// The index.
    pub index: Index,
    /// What is in it.
    pub state: State,
}

/// What is in an index that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Everything up to the number that was committed last.
    Good {
        /// That number.
        upto: u64,
    },
    /// Nothing: there was none.
    Missing,
    /// Nothing: it was of another version, or it was never filled to its end.
    Other,
    /// Nothing: it could not be read, and was removed.
    Damaged {
        /// What could not be read.
        why: String,
    },
}

/// Why the index could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// Another process has it open.
    #[error("search index {folder} is open in another process")]
    InUse {
        /// The index's folder.
        folder: PathBuf,
    },
    /// It cannot be read. [`Index::clear`] mends it.
    #[error("search index is damaged: {what}")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// It could not write, as on a full disk. It is what it was at the last commit: what was put in since has to be put in again.
    #[error("search index lost what was not committed: {what}")]
    Lost {
        /// What went wrong.
        what: String,
    },
    /// Too many facts at once.
    #[error("a search takes {max} filters at most, not {found}", max = FACTS_MAX)]
    Facts {
        /// How many were asked for.
        found: usize,
    },
    /// It was closed, or could not be opened anew after damage.
    #[error("search index is closed")]
    Closed,
    /// The system refused.
    #[error("search index {folder} cannot be used")]
    Io {
        /// The index's folder.
        folder: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl Index {
    /// Opens the index in `folder`, which is made if it is missing. Unless the state is [`State::Good`] it is empty: put in everything that is known, with
    /// [`Index::add`], then commit with the largest number.
    ///
    /// # Errors
    /// [`SearchError::InUse`] and [`SearchError::Io`].
    pub fn open(folder: &Path) -> Result<Opened, SearchError> {
        let (schema, fields) = Fields::build();
        let opened = guarded(folder, || live(folder, &schema));
        let (state, opened) = match opened {
            Ok(Some((upto, writer, reader))) => (State::Good { upto }, Some((writer, reader))),
            Ok(None) if folder.join("meta.json").exists() => (State::Other, None),
            Ok(None) => (State::Missing, None),
            Err(SearchError::Damaged { what }) => (State::Damaged { why: what }, None),
            Err(error) => return Err(error),
        };
        let (writer, reader) = match opened {
            Some(opened) => opened,
            None => {
                if state != State::Missing {
                    tracing::warn!(?state, folder = %folder.display(), "search index must be filled anew");
                }
                begin(folder, schema)?
            }
        };
        let inner = Inner {
            folder: folder.to_owned(),
            fields,
            writer: Mutex::new(Some(writer)),
            live: RwLock::new(Some(reader)),
        };
        let index = Index(Arc::new(inner));
        Ok(Opened { index, state })
    }

    /// Puts in releases, each in place of what there is of its name. Seen and durable after [`Index::commit`].
    ///
    /// # Errors
    /// [`SearchError::Lost`], [`SearchError::Damaged`] and [`SearchError::Closed`].
    pub fn put(&self, rows: &[KnownRow]) -> Result<(), SearchError> {
        self.writing(|writer, fields| {
            for row in rows {
                writer.delete_term(fields.key_term(&row.key()));
                writer.add_document(fields.document(row))?;
            }
            Ok(())
        })
    }

    /// The same for releases of names that are not in the index, which is for filling it: nothing is looked up.
    ///
    /// # Errors
    /// As [`Index::put`].
    pub fn add(&self, rows: &[KnownRow]) -> Result<(), SearchError> {
        self.writing(|writer, fields| {
            for row in rows {
                writer.add_document(fields.document(row))?;
            }
            Ok(())
        })
    }

    /// Takes out names. Not seen any more after [`Index::commit`].
    ///
    /// # Errors
    /// As [`Index::put`].
    pub fn remove(&self, keys: &[NameKey]) -> Result<(), SearchError> {
        self.writing(|writer, fields| {
            for key in keys {
                writer.delete_term(fields.key_term(key));
            }
            Ok(())
        })
    }

    /// Makes everything that was put in or taken out durable and visible. `upto`: the number that [`State::Good`] tells at the next open; 0 while it is being
    /// filled, so that a filling that is cut off begins again.
    ///
    /// # Errors
    /// As [`Index::put`].
    pub fn commit(&self, upto: u64) -> Result<(), SearchError> {
        self.writing(|writer, _| {
            let mut commit = writer.prepare_commit()?;
            commit.set_payload(&payload(upto));
            commit.commit()?;
            self.reload()
        })
    }

    /// Waits until what was put in is merged into few parts, which takes minutes after millions: for the end of a filling.
    ///
    /// # Errors
    /// As [`Index::put`].
    pub fn settle(&self) -> Result<(), SearchError> {
        let mut held = self.writer();
        let writer = held.take().ok_or(SearchError::Closed)?;
        let index = writer.index().clone();
        let anew = guarded(&self.0.folder, || {
            writer.wait_merging_threads()?;
            writer_of(&index)
        })?;
        *held = Some(anew);
        guarded(&self.0.folder, || self.reload())
    }

    /// Stops writing, so that the folder is free when it returns, unless parts are being merged for longer than [`MERGES_WAIT`]: that is done again
    /// another time. What was not committed is lost; searches go on.
    pub fn close(&self) {
        let Some(writer) = self.writer().take() else {
            return;
        };
        let (ended, ends) = mpsc::channel();
        thread::spawn(move || {
            let _ = catch_unwind(AssertUnwindSafe(|| writer.wait_merging_threads()));
            // Nobody may wait any more.
            let _ = ended.send(());
        });
        let _ = ends.recv_timeout(MERGES_WAIT);
    }

    /// Throws everything away and begins an empty index.
    ///
    /// # Errors
    /// [`SearchError::Io`]. The index is then closed: call it again.
    pub fn clear(&self) -> Result<(), SearchError> {
        let mut writer = self.writer();
        let mut live = self.0.live.write().unwrap_or_else(PoisonError::into_inner);
        // No thread of its may write files while they are removed.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            writer.take().map(IndexWriter::wait_merging_threads)
        }));
        live.take();
        let (schema, _) = Fields::build();
        let (anew, reader) = begin(&self.0.folder, schema)?;
        *writer = Some(anew);
        *live = Some(reader);
        Ok(())
    }

    /// How many releases are found at present.
    pub fn count(&self) -> u64 {
        let live = self.0.live.read().unwrap_or_else(PoisonError::into_inner);
        live.as_ref().map_or(0, |reader| reader.searcher().num_docs())
    }

    /// Looks for releases. Where no word fits, and nothing was skipped, it looks again for words that differ by one letter.
    ///
    /// # Errors
    /// [`SearchError::Facts`], [`SearchError::Damaged`] and [`SearchError::Closed`].
    pub fn search(&self, query: &Query, favoured: &Arc<Favoured>) -> Result<Page, SearchError> {
        let found = query.facts.len() + query.any.len();
        if found > FACTS_MAX {
            return Err(SearchError::Facts { found });
        }
        let begun_fuzzy = query.after.as_ref().map(|after| after.fuzzy);
        let page = self.look(query, favoured, begun_fuzzy.unwrap_or(false))?;
        if page.total == 0 && begun_fuzzy.is_none() && query.could_be_fuzzy() {
            return self.look(query, favoured, true);
        }
        Ok(page)
    }

    fn look(&self, query: &Query, favoured: &Arc<Favoured>, fuzzy: bool) -> Result<Page, SearchError> {
        let searcher = {
            let live = self.0.live.read().unwrap_or_else(PoisonError::into_inner);
            live.as_ref().ok_or(SearchError::Closed)?.searcher()
        };
        favoured.keep(searcher.segment_readers());
        let fields = &self.0.fields;
        let folder = &self.0.folder;
        let compiled = guarded(folder, || {
            query.compile(fields, fuzzy, |term| searcher.doc_freq(term))
        })?;
        let now = query.after.as_ref().map_or(query.now, |after| after.now);
        let ranking = Ranking {
            fields: *fields,
            bytes: query.bytes,
            parameters: query.parameters,
            favoured: favoured.clone(),
            sort: query.sort,
            ascending: query.ascending && query.sort != Sort::Relevance,
            scored: compiled.scored,
            now,
            limit: query.limit.clamp(1, PAGE_MAX),
            after: query.after.clone(),
        };
        let Found { total, best, more } = guarded(folder, || searcher.search(&*compiled.query, &ranking))?;
        let next = best.last().filter(|_| more).map(|last| Cursor {
            rank: last.rank,
            key: last.key,
            name: last.name.clone(),
            now,
            fuzzy,
        });
        Ok(Page {
            hits: best.iter().map(|hit| hit.key.to_be_bytes()).collect(),
            total,
            next,
            fuzzy: fuzzy && total > 0,
        })
    }

    fn writing<R>(
        &self,
        write: impl FnOnce(&mut IndexWriter, &Fields) -> tantivy::Result<R>,
    ) -> Result<R, SearchError> {
        let mut writer = self.writer();
        let writer = writer.as_mut().ok_or(SearchError::Closed)?;
        let outcome = guarded(&self.0.folder, || match write(writer, &self.0.fields) {
            Ok(answer) => Ok(Ok(answer)),
            // Its threads may be gone: without this it would take nothing any more.
            Err(error) => writer.rollback().map(|_| Err(error.to_string())),
        });
        outcome?.map_err(|what| SearchError::Lost { what })
    }

    /// Shows searches what was committed.
    fn reload(&self) -> tantivy::Result<()> {
        let live = self.0.live.read().unwrap_or_else(PoisonError::into_inner);
        live.as_ref().map_or(Ok(()), IndexReader::reload)
    }

    fn writer(&self) -> MutexGuard<'_, Option<IndexWriter>> {
        self.0.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("folder", &self.0.folder).finish()
    }
}
