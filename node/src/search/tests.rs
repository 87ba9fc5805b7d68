//! What is put in is found by its words and facts, in order, page by page; what a stranger asks breaks nothing; what is lost is said to be.

use std::collections::BTreeSet;
use std::path::Path;

use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use protocol::card::Summary;
use protocol::{Hash, Kind, Publisher, Release, RepoName, SignedRelease};

use super::*;

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 24 * 60 * 60;

fn publisher(seed: u8) -> Publisher {
    SigningKey::from_bytes(&[seed; 32]).verifying_key().into()
}

/// A release, issued `age` days ago.
fn row(seed: u8, name: &str, age: u64, card: Summary) -> KnownRow {
    let card = card.fit();
    let release = Release {
        publisher: publisher(seed),
        name: RepoName::new(name).unwrap(),
        kind: Kind::Model,
        manifest: Hash::EMPTY,
        seq: 1,
        prev: None,
        issued: NOW - age * DAY,
        expires: NOW + 300 * DAY,
        upstream: None,
        card: card.hash().ok(),
    };
    let signed = SignedRelease::sign(
        Release {
            expires: release.issued + DAY,
            ..release
        },
        &SigningKey::from_bytes(&[seed; 32]),
    );
    KnownRow::of(&signed.unwrap(), Some(card), 1)
}

fn card(tags: &[&str], license: &str, bytes: u64) -> Summary {
    Summary {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        license: Some(license.to_owned()),
        bytes: Some(bytes),
        ..Summary::default()
    }
}

fn open(folder: &Path) -> (Index, State) {
    let Opened { index, state } = Index::open(folder).unwrap();
    (index, state)
}

/// An index of these, each in a commit of its own, so that there are several parts.
fn filled(folder: &Path, rows: &[KnownRow]) -> Index {
    let (index, _) = open(folder);
    for (at, rows) in rows.chunks(rows.len().div_ceil(4).max(1)).enumerate() {
        index.put(rows).unwrap();
        index.commit(at as u64 + 1).unwrap();
    }
    index
}

fn ask(text: &str) -> Query {
    Query {
        text: text.to_owned(),
        limit: 100,
        now: NOW,
        ..Query::default()
    }
}

fn names_of(rows: &[KnownRow], page: &Page) -> Vec<String> {
    let name = |key: &NameKey| {
        let row = rows.iter().find(|row| row.key() == *key);
        row.map_or("?".to_owned(), |row| row.release.name.to_string())
    };
    page.hits.iter().map(name).collect()
}

fn find(index: &Index, rows: &[KnownRow], query: &Query) -> Vec<String> {
    let page = index.search(query, &Arc::default()).unwrap();
    assert_eq!(page.total as usize, page.hits.len());
    names_of(rows, &page)
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names
}

fn shelf() -> Vec<KnownRow> {
    let tuned = Summary {
        base_model: vec!["meta-llama/Llama-3.1-8B".to_owned()],
        task: Some("text-generation".to_owned()),
        library: Some("transformers".to_owned()),
        languages: vec!["en".to_owned(), "de".to_owned()],
        formats: vec!["safetensors".to_owned()],
        dtype: Some("bf16".to_owned()),
        parameters: Some(8_000_000_000),
        description: Some("Fine-tuned to talk about the weather".to_owned()),
        ..card(&["Chat", "weather"], "mit", 16_000)
    };
    vec![
        row(1, "Llama-3.1-8B", 400, card(&["base"], "llama3.1", 16_000)),
        row(2, "weather_talker-v2", 10, tuned),
        row(3, "TinyLlama-chat", 200, card(&["chat"], "apache-2.0", 2_000)),
        row(3, "qwen2.5-7b-GGUF", 30, card(&["chat"], "apache-2.0", 5_000)),
        row(
            3,
            "qwen2-audio",
            50,
            Summary {
                formats: vec!["onnx".to_owned()],
                ..card(&[], "mit", 9_000)
            },
        ),
        row(4, "nameless", 1, Summary::default()),
    ]
}

#[test]
fn releases_are_found_by_parts_of_their_names_and_cards() {
    let folder = tempfile::tempdir().unwrap();
    let rows = shelf();
    let index = filled(&folder.path().join("search"), &rows);
    let cases: [(&str, &[&str]); 14] = [
        ("llama", &["Llama-3.1-8B", "TinyLlama-chat", "weather_talker-v2"]),
        ("LLAMA 8b", &["Llama-3.1-8B", "weather_talker-v2"]),
        ("tiny", &["TinyLlama-chat"]),
        ("tinyllama", &["TinyLlama-chat"]),
        ("qwen2", &["qwen2-audio", "qwen2.5-7b-GGUF"]),
        ("qwen2.5", &["qwen2.5-7b-GGUF"]),
        ("qw", &["qwen2-audio", "qwen2.5-7b-GGUF"]),
        ("qw ", &[]),
        ("gguf qwe", &["qwen2.5-7b-GGUF"]),
        ("weather", &["weather_talker-v2"]),
        ("talk v2", &["weather_talker-v2"]),
        ("text-generation", &["weather_talker-v2"]),
        ("onnx", &["qwen2-audio"]),
        ("llama qwen", &[]),
    ];
    for (text, names) in cases {
        assert_eq!(sorted(find(&index, &rows, &ask(text))), names, "{text}");
    }
}

#[test]
fn of_facts_that_say_the_same_one_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let rows = shelf();
    let index = filled(&folder.path().join("search"), &rows);
    let either = |word: &str| vec![Fact::Tag(word.to_owned()), Fact::Format(word.to_owned())];
    let find = |words: &str, facts: Vec<Fact>, any: Vec<Vec<Fact>>| {
        let query = Query {
            facts,
            any,
            ..ask(words)
        };
        sorted(find(&index, &rows, &query))
    };
    let chats = ["TinyLlama-chat", "qwen2.5-7b-GGUF", "weather_talker-v2"];
    assert_eq!(find("", vec![], vec![either("Chat")]), chats);
    assert_eq!(find("", vec![], vec![either("onnx")]), ["qwen2-audio"]);
    let both = vec![either("chat"), either("safetensors")];
    assert_eq!(find("", vec![], both.clone()), ["weather_talker-v2"]);
    assert!(find("qwen", vec![], both).is_empty());
    let mit = vec![Fact::License("apache-2.0".to_owned())];
    assert_eq!(find("qwen2", mit, vec![either("chat")]), ["qwen2.5-7b-GGUF"]);
    assert!(find("", vec![], vec![vec![]]).is_empty(), "none of nothing is so");
    let many = Query {
        facts: vec![Fact::Kind(Kind::Model); FACTS_MAX],
        any: vec![either("chat")],
        ..ask("")
    };
    let refused = index.search(&many, &Arc::default()).unwrap_err();
    assert!(matches!(refused, SearchError::Facts { found } if found == FACTS_MAX + 1));
}

#[test]
fn first_release_of_a_name_says_when_it_was_created() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = shelf();
    // It was there before all others.
    rows[5].created = 1;
    let index = filled(&folder.path().join("search"), &rows);
    let created = |ascending| Query {
        sort: Sort::Created,
        ascending,
        ..ask("")
    };
    let oldest = find(&index, &rows, &created(true));
    assert_eq!(oldest[..2], ["nameless", "Llama-3.1-8B"]);
    let mut newest = find(&index, &rows, &created(false));
    newest.reverse();
    assert_eq!(newest, oldest);
}

#[test]
fn word_in_the_name_weighs_more_than_one_in_the_card_and_new_a_little_more_than_old() {
    let folder = tempfile::tempdir().unwrap();
    let rows = vec![
        row(
            1,
            "other",
            1,
            Summary {
                description: Some("whisper".to_owned()),
                ..Summary::default()
            },
        ),
        row(1, "whisper-old", 900, Summary::default()),
        row(1, "whisper-new", 1, Summary::default()),
    ];
    let index = filled(&folder.path().join("search"), &rows);
    assert_eq!(
        find(&index, &rows, &ask("whisper")),
        ["whisper-new", "whisper-old", "other"]
    );
}

#[test]
fn facts_and_ranges_narrow_what_words_find_and_work_alone() {
    let folder = tempfile::tempdir().unwrap();
    let rows = shelf();
    let index = filled(&folder.path().join("search"), &rows);
    let text = |text: &str| text.to_owned();
    let tuned = ["weather_talker-v2"];
    let cases: Vec<(Vec<Fact>, &str, &[&str])> = vec![
        (
            vec![Fact::License(text("MIT"))],
            "",
            &["qwen2-audio", "weather_talker-v2"],
        ),
        (vec![Fact::License(text("mit"))], "llama", &tuned),
        (
            vec![Fact::Tag(text("chat"))],
            "",
            &["TinyLlama-chat", "qwen2.5-7b-GGUF", "weather_talker-v2"],
        ),
        (
            vec![Fact::Tag(text("chat")), Fact::License(text("apache-2.0"))],
            "qwen",
            &["qwen2.5-7b-GGUF"],
        ),
        (vec![Fact::Base(text("meta-llama/llama-3.1-8b"))], "", &tuned),
        (
            vec![
                Fact::Task(text("text-generation")),
                Fact::Library(text("transformers")),
            ],
            "",
            &tuned,
        ),
        (
            vec![
                Fact::Language(text("de")),
                Fact::Format(text("safetensors")),
                Fact::Dtype(text("bf16")),
            ],
            "",
            &tuned,
        ),
        (
            vec![Fact::Publisher(publisher(3))],
            "",
            &["TinyLlama-chat", "qwen2-audio", "qwen2.5-7b-GGUF"],
        ),
        (vec![Fact::Kind(Kind::Dataset)], "", &[]),
        // A value of one kind of fact is none of another.
        (vec![Fact::Tag(text("mit"))], "", &[]),
    ];
    for (facts, words, names) in cases {
        let query = Query {
            facts: facts.clone(),
            ..ask(words)
        };
        assert_eq!(sorted(find(&index, &rows, &query)), names, "{facts:?} {words}");
    }
    let small = Query {
        bytes: (None, Some(5_000)),
        ..ask("")
    };
    assert_eq!(
        sorted(find(&index, &rows, &small)),
        ["TinyLlama-chat", "qwen2.5-7b-GGUF"]
    );
    let between = Query {
        bytes: (Some(5_001), Some(15_999)),
        ..ask("qwen")
    };
    assert_eq!(find(&index, &rows, &between), ["qwen2-audio"]);
    let large = Query {
        parameters: (Some(1), None),
        ..ask("")
    };
    assert_eq!(find(&index, &rows, &large), tuned);
    let many = Query {
        facts: vec![Fact::Kind(Kind::Model); FACTS_MAX + 1],
        ..ask("")
    };
    let refused = index.search(&many, &Arc::default());
    assert!(matches!(refused, Err(SearchError::Facts { found: 33 })));
}

#[test]
fn hits_are_sorted_either_way_and_what_is_unknown_comes_last() {
    let folder = tempfile::tempdir().unwrap();
    let rows = shelf();
    let index = filled(&folder.path().join("search"), &rows);
    let sort = |sort, ascending| {
        find(
            &index,
            &rows,
            &Query {
                sort,
                ascending,
                ..ask("")
            },
        )
    };
    let newest = [
        "nameless",
        "weather_talker-v2",
        "qwen2.5-7b-GGUF",
        "qwen2-audio",
        "TinyLlama-chat",
        "Llama-3.1-8B",
    ];
    assert_eq!(sort(Sort::Modified, false), newest);
    assert_eq!(sort(Sort::Relevance, false), newest);
    let mut oldest = newest;
    oldest.reverse();
    assert_eq!(sort(Sort::Modified, true), oldest);
    assert_eq!(sort(Sort::Created, true), oldest, "of each the first is known");
    let names = [
        "Llama-3.1-8B",
        "nameless",
        "qwen2-audio",
        "qwen2.5-7b-GGUF",
        "TinyLlama-chat",
        "weather_talker-v2",
    ];
    assert_eq!(sort(Sort::Name, true), names);
    let by_size = sort(Sort::Bytes, true);
    assert_eq!(by_size[..3], ["TinyLlama-chat", "qwen2.5-7b-GGUF", "qwen2-audio"]);
    assert_eq!(by_size[5], "nameless");
    assert_eq!(sort(Sort::Bytes, false)[5], "nameless");
    assert_eq!(sort(Sort::Parameters, false)[0], "weather_talker-v2");
}

#[test]
fn followed_publishers_come_first_then_what_was_reproduced() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<KnownRow> = (1..=6)
        .map(|seed| row(seed, "llama", u64::from(seed), Summary::default()))
        .collect();
    let index = filled(&folder.path().join("search"), &rows);
    let favoured = Arc::new(Favoured::new(
        [publisher(5), publisher(6), publisher(9)],
        [rows[3].key(), rows[4].key(), [7; 16]],
    ));
    for _ in 0..2 {
        for text in ["llama", ""] {
            let page = index.search(&ask(text), &favoured).unwrap();
            let order: Vec<_> = [4, 5, 3, 0, 1, 2].map(|at: usize| rows[at].key()).into();
            assert_eq!(page.hits, order, "{text:?}");
        }
        // The parts change under it.
        index.put(&rows[3..5]).unwrap();
        index.commit(9).unwrap();
    }
    let sorted = Query {
        sort: Sort::Modified,
        ..ask("llama")
    };
    assert_eq!(index.search(&sorted, &favoured).unwrap().hits[0], rows[0].key());
}

#[test]
fn many_reproduced_names_are_looked_up_as_few_are() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<KnownRow> = (0..240)
        .map(|n| row(1, &format!("m{n}"), n, Summary::default()))
        .collect();
    let index = filled(&folder.path().join("search"), &rows);
    for count in [1, 200] {
        let wanted: BTreeSet<NameKey> = rows.iter().rev().take(count).map(KnownRow::key).collect();
        let favoured = Arc::new(Favoured::new([], wanted.clone()));
        let page = index
            .search(
                &Query {
                    limit: count,
                    ..ask("")
                },
                &favoured,
            )
            .unwrap();
        assert_eq!(page.hits.into_iter().collect::<BTreeSet<_>>(), wanted);
    }
}

#[test]
fn cursor_pages_visit_every_hit_once_and_in_the_order_of_one_large_page() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<KnownRow> = (0..150_u64)
        .map(|n| {
            let name = format!("llama-{}", ["a", "b", "c"][n as usize % 3]);
            let seed = u8::try_from(n / 3 + 1).unwrap();
            let card = Summary {
                bytes: (n % 5 > 0).then_some(n % 4),
                ..Summary::default()
            };
            row(seed, &name, n % 7, card)
        })
        .collect();
    let index = filled(&folder.path().join("search"), &rows);
    let favoured = Arc::new(Favoured::new([publisher(3), publisher(9)], [rows[100].key()]));
    let sorts = [
        Sort::Relevance,
        Sort::Modified,
        Sort::Created,
        Sort::Bytes,
        Sort::Parameters,
        Sort::Name,
    ];
    for (sort, ascending) in sorts.into_iter().flat_map(|sort| [(sort, false), (sort, true)]) {
        for text in ["", "llama", "lla", "llaama"] {
            let mut query = Query {
                sort,
                ascending,
                limit: 1_000,
                ..ask(text)
            };
            let whole = index.search(&query, &favoured).unwrap();
            assert_eq!((whole.total, whole.next), (150, None));
            query.limit = 11;
            let mut seen = Vec::new();
            loop {
                let page = index.search(&query, &favoured).unwrap();
                assert_eq!((page.total, page.fuzzy), (150, text == "llaama"));
                seen.extend(page.hits);
                let Some(next) = page.next else { break };
                // As it travels.
                query.after = Some(next.to_string().parse().unwrap());
                query.now += DAY;
            }
            assert_eq!(seen, whole.hits, "{sort:?} {ascending} {text:?}");
        }
    }
}

#[test]
fn slip_of_one_letter_is_forgiven_where_nothing_fits() {
    let folder = tempfile::tempdir().unwrap();
    let rows = shelf();
    let index = filled(&folder.path().join("search"), &rows);
    for (text, name) in [
        ("wether", "weather_talker-v2"),
        ("audoi qwen", "qwen2-audio"),
        ("tinylama", "TinyLlama-chat"),
    ] {
        let page = index.search(&ask(text), &Arc::default()).unwrap();
        assert!(page.fuzzy, "{text}");
        assert_eq!(names_of(&rows, &page), [name], "{text}");
    }
    assert!(!index.search(&ask("weather"), &Arc::default()).unwrap().fuzzy);
    assert_eq!(
        index.search(&ask("zzzzzz"), &Arc::default()).unwrap(),
        Page::default()
    );
}

#[test]
fn newer_release_takes_the_place_of_an_older_one_and_a_removed_one_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let old = row(1, "a", 9, card(&["old"], "mit", 1));
    let new = row(1, "a", 1, card(&["new"], "mit", 2));
    let (index, state) = open(&folder.path().join("search"));
    assert_eq!(state, State::Missing);
    index.put(std::slice::from_ref(&old)).unwrap();
    // Twice in one commit, and once after.
    index.put(std::slice::from_ref(&new)).unwrap();
    index.commit(1).unwrap();
    index.put(std::slice::from_ref(&new)).unwrap();
    index.commit(2).unwrap();
    assert_eq!(index.count(), 1);
    assert_eq!(index.search(&ask("old "), &Arc::default()).unwrap().total, 0);
    assert_eq!(
        index.search(&ask("new "), &Arc::default()).unwrap().hits,
        [new.key()]
    );
    index.remove(&[new.key(), [0; 16]]).unwrap();
    assert_eq!(index.count(), 1);
    index.commit(3).unwrap();
    assert_eq!(index.count(), 0);
    index.put(std::slice::from_ref(&old)).unwrap();
    index.commit(4).unwrap();
    index.settle().unwrap();
    assert_eq!(index.search(&ask("old"), &Arc::default()).unwrap().total, 1);
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match std::fs::copy(entry.path(), to.join(entry.file_name())) {
            // A file of the moment, that is gone again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => drop(copied.unwrap()),
        }
    }
}

#[test]
fn killed_index_is_what_was_committed_and_tells_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("search");
    let rows = shelf();
    let (index, _) = open(&path);
    index.put(&rows[..3]).unwrap();
    index.commit(17).unwrap();
    index.put(&rows[3..]).unwrap();
    // The copy is what a kill at this moment leaves.
    let copy = folder.path().join("copy");
    copy_folder(&path, &copy);
    assert!(matches!(Index::open(&path), Err(SearchError::InUse { .. })));
    let (copied, state) = open(&copy);
    assert_eq!(state, State::Good { upto: 17 });
    assert_eq!(copied.count(), 3);
    copied.put(&rows[2..]).unwrap();
    copied.commit(18).unwrap();
    assert_eq!(copied.count(), 6);
    drop(copied);
    assert_eq!(open(&copy).1, State::Good { upto: 18 });
}

#[test]
fn index_of_another_version_or_not_filled_to_its_end_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("search");
    let rows = shelf();
    for (from, to) in [
        ("\"2 5\"", "\"1 5\""),
        ("\"2 5\"", "\"2 0\""),
        ("\"parameters\"", "\"parametres\""),
    ] {
        drop(filled_upto(&path, &rows, 5));
        let meta = std::fs::read_to_string(path.join("meta.json")).unwrap();
        assert!(meta.contains(from), "{meta}");
        std::fs::write(path.join("meta.json"), meta.replace(from, to)).unwrap();
        let (index, state) = open(&path);
        assert_eq!((index.count(), state), (0, State::Other), "{to}");
    }
    let (index, _) = open(&path);
    index.put(&rows).unwrap();
    index.commit(0).unwrap();
    drop(index);
    assert_eq!(open(&path).1, State::Other);
}

fn filled_upto(path: &Path, rows: &[KnownRow], upto: u64) -> Index {
    let (index, _) = open(path);
    index.put(rows).unwrap();
    index.commit(upto).unwrap();
    index
}

#[test]
fn damaged_index_is_begun_anew_and_takes_documents() {
    let folder = tempfile::tempdir().unwrap();
    let rows = shelf();
    for kind in ["json", "term", "idx", "fast", "fieldnorm"] {
        for cut in [true, false] {
            let path = folder.path().join(format!("{kind}-{cut}"));
            drop(filled_upto(&path, &rows, 5));
            for entry in std::fs::read_dir(&path).unwrap() {
                let file = entry.unwrap().path();
                if file.extension().is_none_or(|extension| extension != kind) {
                    continue;
                }
                match cut {
                    true => std::fs::write(&file, b"short").unwrap(),
                    false => std::fs::remove_file(&file).unwrap(),
                }
            }
            let (index, state) = open(&path);
            if kind == "json" && !cut {
                assert_eq!(state, State::Missing);
            } else {
                assert!(matches!(state, State::Damaged { .. }), "{kind} {cut}: {state:?}");
            }
            index.add(&rows).unwrap();
            index.commit(6).unwrap();
            assert_eq!(index.search(&ask("llama"), &Arc::default()).unwrap().total, 3);
        }
    }
}

#[test]
fn cleared_index_is_empty_and_takes_documents() {
    let folder = tempfile::tempdir().unwrap();
    let rows = shelf();
    let index = filled(&folder.path().join("search"), &rows);
    index.clear().unwrap();
    assert_eq!(index.count(), 0);
    index.add(&rows[..2]).unwrap();
    index.commit(3).unwrap();
    assert_eq!(index.count(), 2);
}

#[test]
fn index_that_cannot_write_says_so_and_can_be_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("search");
    let rows = shelf();
    let index = filled_upto(&path, &rows, 1);
    std::fs::remove_dir_all(&path).unwrap();
    let failed = index.put(&rows).and_then(|()| index.commit(2));
    assert!(
        matches!(
            failed,
            Err(SearchError::Lost { .. } | SearchError::Damaged { .. })
        ),
        "{failed:?}"
    );
    index.clear().unwrap();
    index.put(&rows).unwrap();
    index.commit(3).unwrap();
    assert_eq!(index.count(), 6);
}

#[test]
fn text_that_is_no_cursor_is_refused() {
    for text in ["", "!", "AAAA", &"A".repeat(10_000), "ü"] {
        assert_eq!(text.parse::<Cursor>(), Err(CursorError), "{text:.9}");
    }
}

#[test]
fn signs_of_query_languages_mean_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let rows = shelf();
    let index = filled(&folder.path().join("search"), &rows);
    for text in [
        "+llama -chat",
        "name:llama*",
        "\"llama\"~9 OR (",
        "llama\u{0}[a TO z]",
        "llama^9999 AND NOT *:*",
    ] {
        let page = index.search(&ask(text), &Arc::default()).unwrap();
        assert!(page.total <= 3, "{text}");
    }
    let long = "llama ".repeat(100_000);
    assert_eq!(index.search(&ask(&long), &Arc::default()).unwrap().total, 3);
    let cut = format!("{}llama", "é".repeat(600));
    assert_eq!(index.search(&ask(&cut), &Arc::default()).unwrap().total, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_question_breaks_a_search(
        texts in proptest::collection::vec(any::<String>(), 1..20),
        (rank, key) in (any::<u64>(), any::<u128>()),
        (name, least, most) in (any::<Option<String>>(), any::<Option<u64>>(), any::<Option<u64>>()),
        (limit, now) in (any::<usize>(), any::<u64>()),
        (at, ascending) in (0_usize..6, any::<bool>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let index = filled_upto(&folder.path().join("search"), &shelf(), 1);
        let sort = [Sort::Relevance, Sort::Modified, Sort::Created, Sort::Bytes, Sort::Parameters, Sort::Name][at];
        for text in texts {
            let after = Some(Cursor { rank, key, name: name.clone(), now, fuzzy: ascending });
            for after in [None, after] {
                let facts = vec![Fact::Tag(text.clone())];
                for facts in [vec![], facts] {
                    let query = Query {
                        text: text.clone(),
                        any: vec![facts.clone(), vec![]],
                        facts,
                        bytes: (least, most),
                        parameters: (None, None),
                        sort,
                        ascending,
                        limit,
                        after: after.clone(),
                        now,
                    };
                    prop_assert!(index.search(&query, &Arc::default()).is_ok());
                }
            }
        }
    }
}
