//! Pickles: those that are traps for who loads them, those that Python writes, and those that only a loader would take. All are told
//! for what they are by a bounded look at them, and none is loaded.

pub(super) mod writer;

use std::{cell::Cell, ops::Range};

use proptest::{
    collection::vec,
    prelude::{ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest},
    sample::{Index, select},
};

use self::writer::{Thing, things, whole};
use super::code::{of, samples};
use crate::check::{
    code::{CodeKind, HEAD_LEN, TAIL_LEN, detect},
    facts,
};

/// A file of `len` bytes that goes on with zeros: what is said of it, and how many bytes were asked for.
fn looked(path: &str, file: &[u8], len: u64) -> (Option<CodeKind>, u64) {
    let asked = Cell::new(0);
    let read = |_: &str, range: Range<u64>| {
        asked.set(asked.get() + (range.end - range.start));
        let byte = |at: u64| usize::try_from(at).ok().and_then(|at| file.get(at)).copied();
        Ok(range.map(|at| byte(at).unwrap_or(0)).collect())
    };
    let facts = facts::of([(path, len)], read);
    assert!(facts.weights.is_empty(), "{path} became weights");
    (facts.code.first().and_then(|labelled| labelled.kind), asked.get())
}

/// Most that is asked of a file that is none of weights.
const ASKED_MAX: u64 = HEAD_LEN + TAIL_LEN;

/// Calls `torch._utils._rebuild_tensor_v2` with what is on the stack behind the mark.
fn rebuilt(arguments: &[u8]) -> Vec<u8> {
    [
        b"\x80\x02}q\x00X\x01\0\0\0aq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02(",
        arguments,
        b"tq\x03Rq\x04s.",
    ]
    .concat()
}

#[test]
fn tensors_rebuilt_of_too_few_arguments_are_pickles_and_no_panic() {
    for arguments in [
        &b""[..],
        b"N",
        b"NK\0",
        b"NK\0)",
        b"NK\0))",
        b"K\x01K\x02K\x03K\x04K\x05K\x06",
    ] {
        let file = rebuilt(arguments);
        for path in ["pytorch_model.bin", "weights"] {
            let found = looked(path, &file, file.len() as u64);
            assert_eq!(
                found,
                (Some(CodeKind::Pickle), file.len() as u64),
                "{arguments:?}"
            );
        }
    }
}

/// A list that is put into a list twice, and that again, so many times: 2^times elements for who builds it.
fn doubled(times: u8) -> Vec<u8> {
    let mut file = b"\x80\x02]q\x00".to_vec();
    for at in 0..times {
        file.extend([b'h', at, b'h', at, 0x86, b'q', at + 1]);
    }
    file.push(b'.');
    file
}

#[test]
fn what_doubles_itself_in_a_memo_takes_no_more_than_its_bytes() {
    for times in [22, 30, 64, 254] {
        let file = doubled(times);
        let (kind, asked) = looked("pytorch_model.bin", &file, file.len() as u64);
        assert_eq!(kind, Some(CodeKind::Pickle), "{times}");
        assert_eq!(asked, file.len() as u64, "{times}");
    }
}

#[test]
fn lengths_that_are_claimed_are_not_made_room_for() {
    // Before the length: a list, so that what comes is not the first thing.
    for claim in [
        &b"X\xff\xff\xff\xff"[..],
        b"X\xff\xff\xff\x7f",
        b"T\xff\xff\xff\xff",
        b"B\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\xff",
        b"\x8d\0\0\0\0\x01\0\0\0",
        b"\x8e\0\0\0\0\x01\0\0\0",
        b"\x96\0\0\0\0\x01\0\0\0",
    ] {
        let file = [b"\x80\x02]q\x00", claim, b"abc"].concat();
        let (kind, asked) = looked("model.pt", &file, file.len() as u64);
        assert_eq!(kind, Some(CodeKind::Pickle), "{claim:?}");
        assert_eq!(asked, file.len() as u64, "{claim:?}");
        // As long as it says, and it is not read for that.
        let (kind, asked) = looked("model.pt", &file, (4 << 30) + 100);
        assert_eq!(kind, Some(CodeKind::Pickle), "{claim:?}");
        assert!(asked <= ASKED_MAX, "{claim:?}: {asked}");
    }
}

#[test]
fn what_a_loader_takes_and_nobody_writes_is_labelled() {
    let call = b"cos\nsystem\n(S'true'\ntR.";
    let before: &[(&str, &[u8])] = &[
        ("a text with a control character", b"V\x01\n0"),
        ("a text with a carriage return", b"Va\rb\n0"),
        ("a text with half a pair", b"X\x03\0\0\0\xed\xa0\x800"),
        ("a text with another half", b"X\x05\0\0\0a\xed\xbf\xbfb0"),
        ("a number of base 16", b"I0x1f\n0"),
        ("a number of base 2", b"L0b101\n0"),
        ("a long number of base 8", b"L0o17L\n0"),
        ("a number with an underscore", b"I1_000\n0"),
        ("a number with blanks", b"I \t12 \n0"),
        ("a number that ends with a zero byte", b"I1\0xyz\n0"),
        ("a float that ends with a zero byte", b"F1.0\0xyz\n0"),
        ("a float with an underscore", b"F1_0.5\n0"),
        ("no number", b"Fnan\n0"),
        ("infinity", b"F-inf\n0"),
        ("a place with an underscore", b"Np1_0\n0"),
        ("a place with a zero byte", b"Np1\0x\n0g1\n0"),
        ("a mark that is dropped", b"(NN1"),
        ("a thing that is doubled", b"N200"),
    ];
    for (what, before) in before {
        let file = [before, &call[..]].concat();
        assert_eq!(of("x", &file), Some(CodeKind::Pickle), "{what}");
        let marked = [b"\x80\x03", *before, call].concat();
        assert_eq!(of("x", &marked), Some(CodeKind::Pickle), "{what}, marked");
    }
    let long = format!("\u{80}\u{4}cos\n{}system\n(S'true'\ntR.", "path.os.".repeat(100));
    let long: Vec<u8> = long.chars().map(|letter| letter as u8).collect();
    assert_eq!(of("x", &long), Some(CodeKind::Pickle), "a long way to a name");
    let odd = b"\x80\x02cmy-module\n<lambda>\n)R.";
    assert_eq!(of("x", odd), Some(CodeKind::Pickle), "an odd name");
}

#[test]
fn records_that_lie_over_each_other_do_not_multiply_the_work() {
    // Each of 5,600 records has the same 40,000 operations behind it, and then something that is none.
    let mut head = b"PK\x03\x04".repeat(5_600);
    head.extend(vec![b'('; HEAD_LEN as usize - head.len() - 1]);
    head.push(0xff);
    let end = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tail = [&head[..], end].concat();
    assert_eq!(detect("x.zip", &head, &tail), Some(CodeKind::Archive));
    // And each of 40,000 a name of 4,096 bytes, of which the last ones count.
    let mut tail = b"PK\x01\x02\x00\x10".repeat(40_000);
    assert_eq!(detect("x.zip", b"PK\x03\x04", &tail), Some(CodeKind::Archive));
    tail.extend(b"a/data.pkl");
    let last = tail.len() - 4_096 - 46;
    tail[last..last + 4].copy_from_slice(b"PK\x01\x02");
    tail[last + 28..last + 30].copy_from_slice(&4_096_u16.to_le_bytes());
    assert_eq!(
        detect("x.zip", b"PK\x03\x04", &tail),
        Some(CodeKind::ArchivedPickle)
    );
}

#[test]
fn an_array_of_objects_cannot_hide_behind_the_beginning_of_another() {
    let file = b"\x93NUMPY\x01\0v\0{'descr': [('a\x93NUMPY', '<i4'), ('b', 'O')], 'fortran_order': False, 'shape': (2,), }";
    assert_eq!(of("x.npy", file), Some(CodeKind::NumpyObjects));
}

/// Names of files: of every kind that a label could hang on.
fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "model.safetensors",
            "model.gguf",
            "config.json",
            "tokenizer.json",
            "README.md",
            "a.png",
            "pytorch_model.bin",
            "x.pkl",
            "x.npy",
            "x.zip",
            "x.gz",
            "x.h5",
            "",
            ".",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ]
}

/// What Python's own files are labelled with, whatever is in them.
fn expected(path: &str) -> Option<CodeKind> {
    Some(match crate::check::code::is_python(path) {
        true => CodeKind::Python,
        false => CodeKind::Pickle,
    })
}

/// What is done to a file to make it another.
#[derive(Clone, Debug)]
enum Edit {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Cut(Index),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    // Operations and lengths, more often than chance would have them.
    let byte = || {
        prop_oneof![
            any::<u8>(),
            select(b"().0cRoibe}]tuPKIVXTBL\n\x80\x81\x93\x94\x95\x8c\xff\0".to_vec())
        ]
    };
    let edit = prop_oneof![
        4 => (any::<Index>(), byte()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        2 => (any::<Index>(), vec(byte(), 1..20)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        1 => (any::<Index>(), 1..200_usize).prop_map(|(at, len)| Edit::Remove(at, len)),
        1 => (any::<Index>(), 1..60_usize, 2..40_usize).prop_map(|(at, len, times)| Edit::Repeat(at, len, times)),
        1 => any::<Index>().prop_map(Edit::Cut),
    ];
    vec(edit, 1..8)
}

fn edit(file: &mut Vec<u8>, edits: &[Edit]) {
    for edit in edits {
        if file.is_empty() {
            return;
        }
        let len = file.len();
        match edit {
            Edit::Set(at, byte) => file[at.index(len)] = *byte,
            Edit::Insert(at, bytes) => {
                let at = at.index(len);
                file.splice(at..at, bytes.iter().copied());
            }
            Edit::Remove(at, count) => {
                let at = at.index(len);
                file.drain(at..(at + count).min(len));
            }
            Edit::Repeat(at, count, times) => {
                let at = at.index(len);
                let piece = file[at..(at + count).min(len)].repeat(*times);
                file.splice(at..at, piece);
            }
            Edit::Cut(at) => file.truncate(at.index(len)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn pickles_of_every_protocol_are_labelled_under_any_name(thing in things(), protocol in 0..6_u8, path in names()) {
        // One thing alone may be a line of text, in the protocols without a mark.
        let file = whole(&Thing::List(vec![thing]), protocol);
        prop_assert_eq!(of(&path, &file), expected(&path), "{:02x?}", file);
    }

    #[test]
    fn pickles_that_are_longer_than_what_is_looked_at_are_labelled(thing in things(), protocol in 0..6_u8, count in 0..60_000) {
        let many = (0..count).map(Thing::Int).collect();
        let file = whole(&Thing::Tuple(vec![Thing::List(many), thing]), protocol);
        prop_assert_eq!(of("x", &file), Some(CodeKind::Pickle));
    }

    #[test]
    fn what_calls_is_labelled_whatever_follows_it(thing in things(), protocol in 0..6_u8, behind: Vec<u8>, path in names()) {
        let call = Thing::Call("os".to_owned(), "system".to_owned(), vec![thing]);
        let mut file = whole(&call, protocol);
        file.pop();
        file.extend(behind);
        prop_assert_eq!(of(&path, &file), expected(&path), "{:02x?}", file);
    }

    #[test]
    fn samples_that_were_changed_anywhere_never_panic(which in any::<Index>(), edits in edits(), other in any::<Index>(), path in names()) {
        let samples = samples();
        let (_, _, bytes) = &samples[which.index(samples.len())];
        let mut file = bytes.clone();
        edit(&mut file, &edits);
        let found = of(&path, &file);
        // What is told of it hangs on nothing else.
        prop_assert_eq!(found, of(&path, &file));
        // And of a head and a tail that have nothing to do with each other.
        let (_, _, tail) = &samples[other.index(samples.len())];
        let _ = detect(&path, &file[..file.len().min(HEAD_LEN as usize)], tail);
        let _ = detect(&path, tail, &file);
    }

    #[test]
    fn arbitrary_heads_and_tails_never_panic(head: Vec<u8>, tail: Vec<u8>, path in names()) {
        let _ = detect(&path, &head, &tail);
    }
}
