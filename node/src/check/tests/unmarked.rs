//! Pickles without a mark whose first things are longer than what is looked at of every file, and ordinary files that begin like
//! them. Operations of the first protocols are letters, so much text begins with some.

use std::{cell::Cell, convert::Infallible, ops::Range};

use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};
use rand::{RngCore, SeedableRng, rngs::StdRng};

use super::{
    code::of,
    pickles::writer::{Thing, whole},
};
use crate::check::code::{CodeKind, HEAD_LEN, TAIL_LEN, look};

/// Runs something.
const CALL: &[u8] = b"cos\nsystem\n(S'true'\ntR.";
/// Most that is asked for of a file.
const ASKED_MAX: u64 = HEAD_LEN + TAIL_LEN + (16 << 20);

/// What is said of a file of `len` bytes, of which some are at these places and the others are made, and how many were asked for.
fn looked(len: u64, pieces: &[(u64, &[u8])], others: impl Fn(u64) -> u8) -> (Option<CodeKind>, u64) {
    let asked = Cell::new(0);
    let read = |range: Range<u64>| {
        assert!(range.start <= range.end && range.end <= len, "{range:?}");
        asked.set(asked.get() + (range.end - range.start));
        let mut bytes: Vec<u8> = range.clone().map(&others).collect();
        for (at, piece) in pieces {
            for (at, byte) in (*at..).zip(*piece).filter(|(at, _)| range.contains(at)) {
                bytes[(at - range.start) as usize] = *byte;
            }
        }
        Ok::<_, Infallible>(bytes)
    };
    (look("x", len, read).unwrap(), asked.get())
}

/// Beginnings of pickles that go on for `len` bytes before anything is called.
fn long_beginnings(len: usize) -> Vec<Vec<u8>> {
    let filled = |begin: &[u8], byte: u8, end: &[u8]| [begin, &vec![byte; len], end].concat();
    let counted = |op: &[u8], width: usize| {
        let len = (len as u64).to_le_bytes();
        filled(&[op, &len[..width]].concat(), b'x', b"0")
    };
    vec![
        filled(b"S'", b'x', b"'\n0"),
        filled(b"S\"", b'\'', b"\"\n0"),
        filled(b"V", b'x', b"\n0"),
        filled(b"V", 0xff, b"\n0"),
        filled(b"P", b'x', b"\n0"),
        filled(b"I", b'0', b"\n0"),
        filled(b"I0x", b'1', b"\n0"),
        filled(b"I", b' ', b"1\n0"),
        filled(b"I1\0", b'x', b"\n0"),
        filled(b"L", b'1', b"L\n0"),
        filled(b"F1.", b'0', b"\n0"),
        filled(b"F", b' ', b"-infinity\n0"),
        filled(b"ctorch.ops\n", b'x', b"\n0"),
        filled(b"(N0", b'N', b"1"),
        filled(b"N0S'", b'x', b"'\np0\n0"),
        filled(b"(K\x01", b'(', b"lll").repeat(2),
        counted(b"B", 4),
        counted(b"T", 4),
        counted(b"X", 4),
        counted(b"\x8b", 4),
        counted(b"\x8d", 8),
        counted(b"\x8e", 8),
        counted(b"\x96", 8),
        counted(b"\x95\x10\0\0\0\0\0\0\0T", 4),
    ]
}

#[test]
fn what_is_called_behind_something_long_is_found() {
    for len in [66_000, 3 << 20] {
        for begin in long_beginnings(len) {
            // What follows has nothing to do with it.
            let file = [&begin[..], CALL, &[b'x'; 300_000]].concat();
            let shown = begin[..12].escape_ascii();
            assert_eq!(of("model.bin", &file), Some(CodeKind::Pickle), "{shown}, {len}");
            assert_eq!(of("model.safetensors", &file), Some(CodeKind::Pickle), "{shown}");
        }
    }
}

#[test]
fn things_end_and_operations_begin_anywhere_about_where_reads_end() {
    for end in [HEAD_LEN as usize, 1 << 20, 2 << 20] {
        for short in 0..50 {
            let line = [b"S'", &vec![b'x'; end - short][..], b"'\n0", CALL].concat();
            assert_eq!(of("x", &line), Some(CodeKind::Pickle), "{end} - {short}");
            let len = (end - short) as u32;
            let begin = [b"(X", &len.to_le_bytes()[..]].concat();
            let counted = [&begin, &vec![b'x'; end - short][..], b"1", CALL].concat();
            assert_eq!(of("x", &counted), Some(CodeKind::Pickle), "{end} - {short}");
        }
    }
}

#[test]
fn what_is_called_gigabytes_behind_is_found_and_what_lies_between_is_not_read() {
    let len: u64 = 6 << 30;
    for (begin, at) in [
        (&b"B\xff\xff\xff\xff"[..], 5 + u64::from(u32::MAX)),
        (b"T    ", 5 + 0x2020_2020),
        (b"\x8d\0\0\0\x40\x01\0\0\0", 9 + (5 << 30)),
    ] {
        let pieces = [(0, begin), (at, b"0"), (at + 1, CALL)];
        let (kind, asked) = looked(len, &pieces, |_| b'x');
        assert_eq!(kind, Some(CodeKind::Pickle), "{begin:?}");
        assert!(asked <= ASKED_MAX, "{begin:?}: {asked}");
        // No loader reads a thing that is not all there.
        let (kind, _) = looked(at - 1, &pieces, |_| b'x');
        assert_eq!(kind, None, "{begin:?}");
    }
}

#[test]
fn things_without_end_are_labelled_after_a_bounded_look() {
    let thing = b"B\xfb\xff\x1f\0";
    let places: Vec<u64> = (0..1_000).map(|at| at << 21).collect();
    let pieces: Vec<(u64, &[u8])> = places.iter().map(|at| (*at, &thing[..])).collect();
    for (pieces, other) in [
        (&pieces[..], b'x'),
        (&[(0, &b"V"[..])], b'x'),
        (&[(0, b"S'")], b'x'),
        (&[], b'('),
    ] {
        let (kind, asked) = looked(2_001 << 20, pieces, |_| other);
        assert_eq!(kind, Some(CodeKind::Pickle));
        assert!(asked <= ASKED_MAX, "{asked}");
    }
}

/// Texts of about a hundred thousand bytes that begin with this.
fn texts(first: char) -> [Vec<u8>; 9] {
    let prose = "ague rumours of the quick brown fox, and of N. Y., reach the lazy dog's home ";
    let table = "alue,name,0,1.5,-2,NaN,";
    [
        format!("{first}{}", prose.repeat(1_200)),
        format!("{first}{}\nand so on.\n", prose.repeat(1_200)),
        format!("{first}{prose}\n").repeat(1_200),
        format!("{first}{}\n", prose.repeat(1_000)).repeat(4),
        ["ocable", "ague", "enture", "isit"]
            .map(|word| format!("{first}{word}\n"))
            .concat()
            .repeat(3_000),
        format!("{first}{}\n1,2,3\n", table.repeat(4_000)),
        format!("{first}GhlIHF1aWNrIGJyb3duIGZveA{}", "TGhlIHF1".repeat(10_000)),
        format!("{first}{}", "acgtgacctgat".repeat(6_000)),
        format!("{first}\n\n{}", prose.repeat(1_200)),
    ]
    .map(String::into_bytes)
}

#[test]
fn text_that_begins_with_any_letter_and_is_longer_than_what_is_looked_at_is_not_labelled() {
    let others = ['\u{e9}', '\u{4e2d}', '\u{feff}', '\t', '\n'];
    for first in (' '..='~').chain(others) {
        for (number, text) in texts(first).iter().enumerate() {
            assert_eq!(of("corpus.txt", text), None, "{first:?}, {number}");
            // It may begin with several, too.
            if first.is_ascii_uppercase() {
                let two = [b"N", &text[..]].concat();
                assert_eq!(of("corpus.txt", &two), None, "N{first:?}, {number}");
            }
        }
    }
}

#[test]
fn ordinary_files_that_are_longer_than_what_is_looked_at_are_not_labelled() {
    let lines = |line: &dyn Fn(usize) -> String| (0..30_000).map(line).collect::<String>().into_bytes();
    let image = |from: u32| {
        let mut file = b"BM".to_vec();
        file.extend(from.to_le_bytes());
        file.extend(b"\0\0\0\0\x36\0\0\0\x28\0\0\0");
        file.resize(from as usize, b'N');
        file
    };
    let array = [
        &b"\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (30000,), }\n"[..],
        &vec![0; 120_000],
    ]
    .concat();
    let table: [(&str, Vec<u8>); 14] = [
        (
            "README.md",
            lines(&|at| format!("# Part {at}\n\nIt is (very) long.\n")),
        ),
        ("data.csv", lines(&|at| format!("{at},{}.5,Name {at}\n", at * 7))),
        ("Vectors.tsv", lines(&|at| format!("V{at}\t0.1\t-2e-3\n"))),
        ("numbers.txt", lines(&|at| format!("{at}\n"))),
        ("floats.txt", lines(&|at| format!("-0.{at}e5 "))),
        (
            "data.jsonl",
            lines(&|at| format!("{{\"id\": {at}, \"text\": \"It's\"}}\n")),
        ),
        ("data.json", lines(&|at| format!("[{at}, \"{at}\"], "))),
        ("vocab.txt", lines(&|at| format!("##{at:x}\n"))),
        ("merges.txt", lines(&|at| format!("V{at:x} I{at:x}\n"))),
        ("glove.txt", lines(&|at| format!("I 0.{at} -0.1 0.25\n"))),
        ("small.bmp", image(70_000)),
        ("large.bmp", image(3 << 20)),
        ("x.npy", array),
        (
            "tokens.bin",
            (0..60_000_u16)
                .map(|at| at % 500 + 0x56)
                .flat_map(u16::to_le_bytes)
                .collect(),
        ),
    ];
    for (path, file) in &table {
        assert!(file.len() as u64 > HEAD_LEN, "{path}");
        assert_eq!(of(path, file), None, "{path}");
    }
}

#[test]
fn text_of_gigabytes_is_not_taken_for_the_length_of_something() {
    let prose = b"he quick brown fox jumps over the lazy dog, they say.\nBut why?\n";
    for first in [
        "T",
        "This is how t",
        "But ",
        "By ",
        "X and ",
        "(To ",
        "B\n\n\n\n",
        "NT\n",
    ] {
        let (kind, asked) = looked(6 << 30, &[(0, first.as_bytes())], |at| {
            prose[at as usize % prose.len()]
        });
        assert_eq!(kind, None, "{first}");
        assert!(asked <= HEAD_LEN + TAIL_LEN + (4 << 20), "{first}: {asked}");
    }
}

#[test]
fn hundreds_of_gigabytes_of_random_bytes_are_not_labelled() {
    for number in 0..200_u64 {
        let read = |range: Range<u64>| {
            let mut bytes = vec![0; (range.end - range.start).min(10_000) as usize];
            StdRng::seed_from_u64(number ^ range.start).fill_bytes(&mut bytes);
            bytes.resize((range.end - range.start) as usize, 0xff);
            Ok::<_, Infallible>(bytes)
        };
        assert_eq!(look("weights.bin", 3 << 30, read), Ok(None), "{number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn calls_behind_any_long_text_are_labelled(protocol in 0..2_u8, len in 0..3_000_000_usize, letter in any::<char>()) {
        let text = letter.to_string().repeat(len / letter.len_utf8());
        let call = Thing::Call("os".to_owned(), "system".to_owned(), vec![Thing::None]);
        let file = whole(&Thing::List(vec![Thing::Text(text), call]), protocol);
        prop_assert_eq!(of("x", &file), Some(CodeKind::Pickle));
    }

    #[test]
    fn text_of_long_lines_is_not_labelled(line in "[a-zA-Z .,']{20,60}", times in 1..4_000_usize, end in "[a-zA-Z .,'\n]{0,60}") {
        prop_assert_eq!(of("text", format!("{}\n{end}", line.repeat(times)).as_bytes()), None);
    }

    #[test]
    fn whatever_is_read_nothing_panics(pieces: Vec<(u32, Vec<u8>)>, len in any::<u32>(), other: u8) {
        let pieces: Vec<(u64, &[u8])> = pieces.iter().map(|(at, piece)| (u64::from(at % 200_000), &piece[..])).collect();
        looked(u64::from(len % 5_000_000), &pieces, |at| other.wrapping_mul(at as u8));
    }
}
