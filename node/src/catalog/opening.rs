//! Opening: is what lies there the catalog that we left? And beginning a new one where it is not.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, RwLock};

use super::commit::Progress;
use super::engine::{Change, Engine, Fault, Tree};
use super::mark::{Mark, MarkFile};
use super::record::{Digests, Known, Manifests, Places, Providers, Repos, Table};
use super::{CatalogError, Inner, Live, OpenState, Writer, decode};
use crate::durable;

/// Rows read at open to find damage: all of a small catalog, a quarter of a second of a large one.
const CHECK_ROWS_MAX: usize = 50_000;

/// Known releases among them: each takes five times as long as another row, and there may be millions of them all over a cold disk.
const CHECK_KNOWN_MAX: usize = 1_000;

/// Rows read at a time for that.
const CHECK_PAGE_ROWS: usize = 1_024;

/// Damaged catalogs kept for whoever wants to look into them.
const DAMAGED_KEPT_MAX: usize = 2;

pub(super) const META_COMMITS: &str = "commits";
pub(super) const META_COMPLETE: &str = "complete";
const META_INCARNATION: &str = "incarnation";

/// What a database says about itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    pub(super) incarnation: u64,
    pub(super) commits: u64,
    complete: bool,
}

/// Where sled's files lie.
pub(super) fn database(folder: &Path) -> PathBuf {
    folder.join("sled")
}

/// A change of a number in the tree of the catalog's own notes.
pub(super) fn meta(key: &str, number: u64) -> Change {
    Change {
        tree: Tree::Meta,
        key: key.as_bytes().to_vec(),
        value: Some(number.to_le_bytes().to_vec()),
    }
}

/// Reads what a database says about itself; what is not there counts as 0.
pub(super) fn counted(engine: &Engine) -> Result<Counted, Fault> {
    let number = |key: &str| {
        let Some(value) = engine.get(Tree::Meta, key.as_bytes())? else {
            return Ok(0);
        };
        match <[u8; 8]>::try_from(value.as_slice()) {
            Ok(bytes) => Ok(u64::from_le_bytes(bytes)),
            Err(_) => Err(Fault::Damaged(format!("{key} is no number"))),
        }
    };
    Ok(Counted {
        incarnation: number(META_INCARNATION)?,
        commits: number(META_COMMITS)?,
        complete: number(META_COMPLETE)? != 0,
    })
}

pub(super) fn open(folder: &Path) -> Result<(Inner, OpenState), CatalogError> {
    let (mut file, was_marked) =
        MarkFile::open(&folder.join("generation")).map_err(|source| CatalogError::io(folder, source))?;
    let (live, commits, state) = match judge(folder, file.mark(), was_marked)? {
        Ok((live, commits)) => (live, commits, OpenState::Good),
        Err(state) => {
            tracing::warn!(?state, folder = %folder.display(), "catalog must be rebuilt");
            clear(folder, matches!(state, OpenState::Damaged { .. }))?;
            let (live, commits) = begin(folder, &mut file)?;
            (live, commits, state)
        }
    };
    let progress = Progress {
        applied: commits,
        durable: file.mark().map_or(0, |mark| mark.commits),
        complete: state == OpenState::Good,
        ..Progress::default()
    };
    let inner = Inner {
        folder: folder.to_owned(),
        writer: Mutex::new(Writer { commits }),
        engine: RwLock::new(Some(live)),
        mark: Mutex::new(file),
        progress: Mutex::new(progress),
        moved_on: Condvar::new(),
    };
    Ok((inner, state))
}

/// Opens what is there. The inner `Err` is a state that calls for a new one; the outer is an error that a new one would not mend.
fn judge(
    folder: &Path,
    mark: Option<Mark>,
    was_marked: bool,
) -> Result<Result<(Live, u64), OpenState>, CatalogError> {
    let database = database(folder);
    if !database.join("db").exists() {
        let state = if was_marked {
            OpenState::Stale
        } else {
            OpenState::Missing
        };
        return Ok(Err(state));
    }
    let Some(mark) = mark else {
        return Ok(Err(OpenState::Stale));
    };
    if mark.suspect {
        let why = "damage was found when it was last in use".to_owned();
        return Ok(Err(OpenState::Damaged { why }));
    }
    let opened = Engine::open(&database).and_then(|engine| {
        let counted = counted(&engine)?;
        Ok((engine, counted))
    });
    let (engine, counted) = match opened {
        Ok(opened) => opened,
        Err(Fault::Damaged(why)) => return Ok(Err(OpenState::Damaged { why })),
        Err(fault) => return Err(CatalogError::of(folder, fault)),
    };
    let lost = counted.incarnation != mark.incarnation || counted.commits < mark.commits;
    if lost || !counted.complete {
        tracing::info!(?counted, ?mark, "catalog is stale");
        return Ok(Err(OpenState::Stale));
    }
    match check(folder, &engine) {
        Ok(()) => {}
        Err(CatalogError::Damaged { what }) => return Ok(Err(OpenState::Damaged { why: what })),
        Err(error) => return Err(error),
    }
    let incarnation = counted.incarnation;
    Ok(Ok((Live { engine, incarnation }, counted.commits)))
}

/// Reads rows, those that matter most first, until there is no more or it was enough.
fn check(folder: &Path, engine: &Engine) -> Result<(), CatalogError> {
    let mut left = CHECK_ROWS_MAX;
    check_table::<Repos>(folder, engine, &mut left)?;
    check_table::<Manifests>(folder, engine, &mut left)?;
    check_table::<Providers>(folder, engine, &mut left)?;
    check_table::<Places>(folder, engine, &mut left)?;
    check_table::<Digests>(folder, engine, &mut left)?;
    let mut left = left.min(CHECK_KNOWN_MAX);
    check_table::<Known>(folder, engine, &mut left)
}

fn check_table<T: Table>(folder: &Path, engine: &Engine, left: &mut usize) -> Result<(), CatalogError> {
    let mut after: Option<Vec<u8>> = None;
    while *left > 0 {
        let page = engine
            .page(T::TREE, &[], after.as_deref(), CHECK_PAGE_ROWS)
            .map_err(|fault| CatalogError::of(folder, fault))?;
        for (key, value) in &page {
            decode::<T>(key, value)?;
        }
        *left = left.saturating_sub(page.len());
        if page.len() < CHECK_PAGE_ROWS {
            return Ok(());
        }
        after = page.into_iter().next_back().map(|(key, _)| key);
    }
    Ok(())
}

/// Takes the database away: aside where it is damaged, for good where it is only old.
pub(super) fn clear(folder: &Path, damaged: bool) -> Result<(), CatalogError> {
    let database = database(folder);
    let outcome = if damaged {
        move_aside(folder, &database)
    } else {
        remove_folder(&database)
    };
    outcome
        .and_then(|()| durable::sync_folder(folder))
        .map_err(|source| CatalogError::io(folder, source))
}

/// Begins a database with nothing in it but its own name, and marks it. Returns it and the number of its transactions.
pub(super) fn begin(folder: &Path, file: &mut MarkFile) -> Result<(Live, u64), CatalogError> {
    let incarnation: u64 = rand::random();
    let commits = 1;
    let fail = |fault| CatalogError::of(folder, fault);
    let engine = Engine::open(&database(folder)).map_err(fail)?;
    let notes = [meta(META_INCARNATION, incarnation), meta(META_COMMITS, commits)];
    engine.apply(&notes).map_err(fail)?;
    engine.sync().map_err(fail)?;
    let mark = Mark {
        incarnation,
        commits,
        suspect: false,
    };
    durable::sync_folder(folder)
        .and_then(|()| file.write(mark))
        .map_err(|source| CatalogError::io(folder, source))?;
    Ok((Live { engine, incarnation }, commits))
}

/// Moves the database to `FOLDER.damaged-N`, N one more than the highest there, and removes the oldest past [`DAMAGED_KEPT_MAX`].
fn move_aside(folder: &Path, database: &Path) -> io::Result<()> {
    let above = folder.parent().unwrap_or(Path::new("/"));
    let mut prefix = folder.file_name().unwrap_or_default().to_owned();
    prefix.push(".damaged-");
    let mut kept = numbers(above, &prefix)?;
    let named = |number: u64| {
        let mut name = prefix.clone();
        name.push(number.to_string());
        above.join(name)
    };
    let next = kept.last().map_or(1, |last| last.saturating_add(1));
    match fs::rename(database, named(next)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        outcome => {
            outcome?;
            kept.push(next);
        }
    }
    let surplus = kept.len().saturating_sub(DAMAGED_KEPT_MAX);
    for number in kept.drain(..surplus) {
        remove_folder(&named(number))?;
    }
    durable::sync_folder(above)
}

/// The numbers behind `prefix` among the names in a folder, in order.
fn numbers(folder: &Path, prefix: &OsString) -> io::Result<Vec<u64>> {
    let prefix = prefix.to_string_lossy();
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let number = name.strip_prefix(prefix.as_ref());
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
