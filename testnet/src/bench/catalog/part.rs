//! The two measured parts: filling a catalogue, and using it.

use super::{super::meter::cpu_of, NEW_SEED, SEED};
use anyhow::{Context, Result, ensure};
use node::{
    catalog::{Catalog, KnownRow, OpenState, name_key},
    library::Library,
    search::{Fact, Favoured, Index, Query, Sort, State},
};
use protocol::Kind;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use testnet::fixture::releases::Releases;

/// Releases put in at once.
const BATCH: u32 = 10_000;

/// New releases made durable at once: what comes in one answer of a peer.
const NEW_BATCH: usize = 1_000;

/// What filling took. Pairs are of the catalog and of the search index.
#[derive(Serialize, Deserialize)]
pub(crate) struct Imported {
    /// Seconds of making the releases, which is no part of it.
    pub(super) making: f64,
    /// Seconds.
    pub(super) seconds: (f64, f64),
    /// Bytes on disk.
    pub(super) len: (u64, u64),
}

/// What using it took. Pairs are of the catalog and of the search index.
#[derive(Serialize, Deserialize)]
pub(crate) struct Searched {
    /// Seconds until each was open.
    pub(super) opened: (f64, f64),
    /// Memory once opened, after the questions, after the new ones.
    pub(super) resident: [Resident; 3],
    /// The questions.
    pub(super) asked: Vec<Asked>,
    /// Seconds that the new ones took.
    pub(super) added: (f64, f64),
    /// Bytes by which they grew.
    pub(super) added_len: (u64, u64),
}

/// Memory of this process, in bytes.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Resident {
    /// All that is resident, pages of files among it.
    pub(super) all: u64,
    /// What is of no file.
    pub(super) own: u64,
}

/// One kind of question, times in milliseconds.
#[derive(Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(super) what: String,
    pub(super) median: f64,
    /// The 99th percentile.
    pub(super) late: f64,
    pub(super) longest: f64,
    /// CPU of a question, on the average.
    pub(super) cpu: f64,
    /// Most hits that one of them has.
    pub(super) hits: u64,
}

/// Fills a catalog and a search index with `count` releases that come in no order.
pub(crate) fn import(folder: &Path, count: u32) -> Result<Imported> {
    let releases = Releases::new(SEED, count);
    // A whole data folder, for a node to start in.
    tokio::runtime::Runtime::new()?.block_on(async {
        let library = Library::open(folder).await?;
        library.close().await;
        anyhow::Ok(())
    })?;
    let places = (folder.join("catalog"), folder.join("search"));
    let catalog = Catalog::open(&places.0)?.catalog;
    let index = Index::open(&places.1)?.index;
    let (mut making, mut storing, mut indexing) = (0.0, 0.0, 0.0);
    for first in (0..count).step_by(BATCH as usize) {
        let begun = Instant::now();
        let rows = rows(&releases, first, count.min(first + BATCH));
        making += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        catalog.write_soon(|batch| rows.iter().try_for_each(|row| batch.put_known(row)))?;
        storing += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        index.add(&rows)?;
        indexing += begun.elapsed().as_secs_f64();
    }
    let begun = Instant::now();
    catalog.rebuilt()?;
    catalog.seal()?;
    storing += begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    index.commit(u64::from(count))?;
    index.settle()?;
    indexing += begun.elapsed().as_secs_f64();
    Ok(Imported {
        making,
        seconds: (storing, indexing),
        len: (len_of(&places.0)?, len_of(&places.1)?),
    })
}

/// Opens both, asks, and adds `new` releases. Without rounds it opens only.
pub(crate) fn search(folder: &Path, count: u32, new: u32, rounds: usize) -> Result<Searched> {
    let places = (folder.join("catalog"), folder.join("search"));
    let begun = Instant::now();
    let catalog = Catalog::open(&places.0)?;
    ensure!(catalog.state == OpenState::Good, "catalog is {:?}", catalog.state);
    let catalog = catalog.catalog;
    let opened = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let index = Index::open(&places.1)?;
    ensure!(
        matches!(index.state, State::Good { .. }),
        "search index is {:?}",
        index.state
    );
    let index = index.index;
    let opened = (opened, begun.elapsed().as_secs_f64());
    let at_first = resident()?;
    let releases = Releases::new(SEED, count);
    let favoured = Arc::new(favoured(&releases));
    let mut asked = Vec::new();
    if rounds > 0 {
        for (what, queries) in questions(&index, &favoured)? {
            asked.push(ask(&index, &favoured, what, &queries, rounds)?);
        }
    }
    let after_questions = resident()?;
    let anew = rows(&Releases::new(NEW_SEED, new), 0, new);
    let before = (len_of(&places.0)?, len_of(&places.1)?);
    let begun = Instant::now();
    for rows in anew.chunks(NEW_BATCH) {
        catalog.write(|batch| rows.iter().try_for_each(|row| batch.put_known(row)))?;
    }
    let stored = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    if !anew.is_empty() {
        index.put(&anew)?;
        index.commit(u64::from(count) + u64::from(new))?;
    }
    let added = (stored, begun.elapsed().as_secs_f64());
    let searched = Searched {
        opened,
        resident: [at_first, after_questions, resident()?],
        asked,
        added,
        added_len: (
            len_of(&places.0)?.saturating_sub(before.0),
            len_of(&places.1)?.saturating_sub(before.1),
        ),
    };
    catalog.seal()?;
    Ok(searched)
}

/// Bytes of the new releases and their cards, as they are sent.
pub(super) fn payload(new: u32) -> Result<u64> {
    let mut len = 0;
    for row in rows(&Releases::new(NEW_SEED, new), 0, new) {
        len += row.encoding().len() as u64;
        if let Some(card) = &row.card {
            len += card.encode()?.len() as u64;
        }
    }
    Ok(len)
}

/// The rows of the releases that come from turn `first` to before `end`.
fn rows(releases: &Releases, first: u32, end: u32) -> Vec<KnownRow> {
    let row = |turn: u32| {
        let number = releases.shuffled(turn);
        let key = releases.key(releases.rank(number));
        let (signed, card) = releases.make(number, key.verifying_key().into()).sign(&key);
        KnownRow::of(&signed, Some(card), u64::from(turn) + 1)
    };
    (first..end).into_par_iter().map(row).collect()
}

/// 200 publishers and 5,000 names, from all over.
fn favoured(releases: &Releases) -> Favoured {
    let some = |count: u32| {
        let step = (releases.count() / count).max(1);
        rows_at(releases, (0..releases.count()).step_by(step as usize))
    };
    let publishers = some(200).into_iter().map(|row| row.release.publisher);
    let names = some(5_000).into_iter().map(|row| name_key(&row.release.repo()));
    Favoured::new(publishers, names)
}

fn rows_at(releases: &Releases, turns: impl Iterator<Item = u32>) -> Vec<KnownRow> {
    turns.flat_map(|turn| rows(releases, turn, turn + 1)).collect()
}

type Questions = Vec<(&'static str, Vec<Query>)>;

/// Questions as people ask them, common words before all: they have the most hits.
fn questions(index: &Index, favoured: &Arc<Favoured>) -> Result<Questions> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let plain = |text: &str| Query {
        text: text.to_owned(),
        limit: 20,
        now,
        ..Query::default()
    };
    let each = |texts: &[&str]| texts.iter().map(|text| plain(text)).collect::<Vec<_>>();
    let with = |texts: &[&str], change: &dyn Fn(&mut Query)| {
        let mut queries = each(texts);
        queries.iter_mut().for_each(change);
        queries
    };
    let words = [
        "llama ",
        "qwen ",
        "bert ",
        "gguf ",
        "mistral ",
        "finetuned ",
        "lora ",
        "whisper ",
        "english ",
        "timesfm ",
        "7b ",
        "transformers ",
    ];
    let begun = [
        "qw", "ll", "mi", "fine", "tra", "ge", "lo", "co", "ba", "wh", "deepse", "instr",
    ];
    let two = [
        "llama gguf",
        "qwen2.5 instruct",
        "bert finetuned",
        "llama 8b",
        "whisper small",
        "flux lora",
        "gemma 2b",
    ];
    let three = [
        "llama 3.1 8b instruct",
        "qwen2.5 7b gguf",
        "bert finetuned squad",
        "mistral 7b dpo merged",
        "llama 8b lora medical",
    ];
    let after_word: Vec<String> = begun.iter().map(|begun| format!("llama {begun}")).collect();
    let after_word: Vec<&str> = after_word.iter().map(String::as_str).collect();
    let narrow = |query: &mut Query| {
        query.facts = vec![
            Fact::Kind(Kind::Model),
            Fact::License("apache-2.0".to_owned()),
            Fact::Task("text-generation".to_owned()),
        ];
    };
    let small = |query: &mut Query| query.bytes = (None, Some(8_000_000_000));
    let sorted = |sort: Sort, ascending: bool| {
        move |query: &mut Query| (query.sort, query.ascending) = (sort, ascending)
    };
    let models = |query: &mut Query| query.facts = vec![Fact::Kind(Kind::Model)];
    let gguf = |query: &mut Query| query.facts = vec![Fact::Format("gguf".to_owned())];
    let mut questions: Questions = vec![
        ("a common word", each(&words)),
        ("two words", each(&two)),
        ("three words and more", each(&three)),
        ("the beginning of a word", each(&begun)),
        ("a common word and a beginning", each(&after_word)),
        ("a rare word", each(&["zabu", "kidifo model", "lupena"])),
        ("a word and three filters", with(&words, &narrow)),
        ("a word, not too large", with(&words, &small)),
        (
            "a filter alone",
            [with(&[""], &models), with(&[""], &gguf)].concat(),
        ),
        ("everything", each(&[""])),
        (
            "everything, newest first",
            with(&[""], &sorted(Sort::Modified, false)),
        ),
        (
            "everything, by parameters",
            with(&[""], &sorted(Sort::Parameters, false)),
        ),
        ("everything, by name", with(&[""], &sorted(Sort::Name, true))),
        (
            "a word, newest first",
            with(&words, &sorted(Sort::Modified, false)),
        ),
        ("not too large, alone", with(&[""], &small)),
        (
            "a slip",
            each(&["llaama gguf", "mistrall", "whsiper", "finetunde bert"]),
        ),
    ];
    let mut deep = Vec::new();
    for text in ["llama ", "", "bert finetuned"] {
        for sort in [Sort::Relevance, Sort::Modified, Sort::Name] {
            let mut query = Query {
                sort,
                limit: 1_000,
                ..plain(text)
            };
            for _ in 0..5 {
                query.after = index.search(&query, favoured)?.next;
            }
            query.limit = 20;
            deep.push(query);
        }
    }
    questions.push(("the page after 5,000 hits", deep));
    let all = questions
        .iter()
        .flat_map(|(_, queries)| queries.clone())
        .collect();
    questions.push(("all of these", all));
    Ok(questions)
}

fn ask(
    index: &Index,
    favoured: &Arc<Favoured>,
    what: &str,
    queries: &[Query],
    rounds: usize,
) -> Result<Asked> {
    let (mut times, mut hits) = (Vec::new(), 0);
    let cpu = cpu_of("self")?;
    for _ in 0..rounds {
        for query in queries {
            let begun = Instant::now();
            let page = index.search(query, favoured)?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
            hits = hits.max(page.total);
        }
    }
    let cpu = (cpu_of("self")? - cpu) * 1000.0 / times.len() as f64;
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        times
            .get((times.len() - 1) * percent / 100)
            .copied()
            .unwrap_or(f64::NAN)
    };
    Ok(Asked {
        what: what.to_owned(),
        median: at(50),
        late: at(99),
        longest: at(100),
        cpu,
        hits,
    })
}

/// Memory of this process.
pub(super) fn resident() -> Result<Resident> {
    let status = fs::read_to_string("/proc/self/status")?;
    let of = |field: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib: u64 = line
            .context("no such field")?
            .trim()
            .trim_end_matches("kB")
            .trim()
            .parse()?;
        Ok(kib * 1024)
    };
    Ok(Resident {
        all: of("VmRSS:")?,
        own: of("RssAnon:")?,
    })
}

/// Bytes that the files below a folder take on disk.
fn len_of(folder: &Path) -> Result<u64> {
    let mut len = 0;
    for entry in walkdir::WalkDir::new(folder) {
        len += entry?.metadata()?.blocks() * 512;
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_catalogue_is_filled_opened_and_searched() {
        let folder = tempfile::tempdir().unwrap();
        let imported = import(folder.path(), 3_000).unwrap();
        assert!(imported.len.0 > 3_000 * 300 && imported.len.1 > 3_000 * 50);
        let searched = search(folder.path(), 3_000, 100, 1).unwrap();
        let common = &searched.asked[0];
        assert!(common.hits > 300 && common.hits < 3_000, "{} hits", common.hits);
        let everything = searched.asked.iter().find(|asked| asked.what == "everything");
        assert_eq!(everything.unwrap().hits, 3_000);
        let again = search(folder.path(), 3_000, 0, 1).unwrap();
        let everything = again.asked.iter().find(|asked| asked.what == "everything");
        assert_eq!(everything.unwrap().hits, 3_100);
    }
}
