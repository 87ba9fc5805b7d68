//! Sound files that were changed in a way that somebody could: a length, an offset, a type, a name, a count. What is still accepted of
//! them the libraries accept too, with the same tensors; and enough is, and enough is not, for that to mean something.

use std::{cell::Cell, fmt::Debug};

use proptest::{
    collection::vec,
    prelude::{Just, ProptestConfig, Strategy, any, prop_oneof},
    sample::{Index, select},
    test_runner::TestRunner,
};

use super::{
    agree::{PLAIN, agree_on_gguf, agree_on_safetensors, ggufs, parts},
    samples::{Gguf, array, safetensors, string},
};

/// Files that are changed in a test.
const CASES: u32 = 6_000;

/// Holds a check against many changed files: at least a twentieth of those that are other files than before is accepted, and as much not.
fn hold<T: Debug>(
    files: impl Strategy<Value = T>,
    file: impl Fn(&T) -> (Vec<u8>, Vec<u8>),
    agree: fn(&[u8]) -> bool,
) {
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(CASES)
    };
    let run = TestRunner::new(config).run(&files, |change| {
        let (before, after) = file(&change);
        let count = match (agree(&after), before == after) {
            (_, true) => return Ok(()),
            (true, false) => &accepted,
            (false, false) => &refused,
        };
        count.set(count.get() + 1);
        Ok(())
    });
    run.unwrap();
    let (accepted, refused) = (accepted.get(), refused.get());
    println!("{accepted} accepted, {refused} refused");
    assert!(
        accepted * 20 >= CASES && refused * 20 >= CASES,
        "{accepted} accepted, {refused} refused"
    );
}

/// Lengths and places, more often those where something begins or ends.
fn numbers() -> impl Strategy<Value = u64> {
    let edges = [
        0,
        1,
        2,
        3,
        4,
        8,
        16,
        31,
        32,
        64,
        255,
        256,
        1 << 20,
        1 << 31,
        1 << 32,
        1 << 62,
        i64::MAX as u64,
        1 << 63,
        u64::MAX,
    ];
    prop_oneof![4 => 0..40_u64, 2 => select(edges.to_vec()), 1 => any::<u64>()]
}

/// What is said of a tensor in a safetensors file: name, type, shape and offsets, as they are written.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    offsets: [u64; 2],
    /// What is between its parts.
    blank: &'static str,
}

/// A safetensors file as what it says, and the bytes behind that.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    tensors: Vec<Said>,
    more: Vec<(String, String)>,
    data: usize,
    /// How much longer the header is said to be than it is.
    longer: u64,
}

impl Plain {
    fn of(parts: &[(usize, Vec<u64>)]) -> Plain {
        let mut at = 0;
        let said = |(number, (dtype, shape)): (usize, &(usize, Vec<u64>))| {
            let (name, dtype) = PLAIN[*dtype];
            let begin = at;
            at += dtype.len(shape.iter().product()).unwrap();
            Said {
                name: format!("tensor {number}"),
                dtype: name.to_owned(),
                shape: shape.clone(),
                offsets: [begin, at],
                blank: "",
            }
        };
        Plain {
            tensors: parts.iter().enumerate().map(said).collect(),
            more: Vec::new(),
            data: at as usize,
            longer: 0,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let tensors = self.tensors.iter().map(|said| {
            let Said { name, dtype, shape, offsets, blank } = said;
            format!(r#""{name}"{blank}:{{"dtype":"{dtype}",{blank}"shape":{shape:?},"data_offsets"{blank}:{offsets:?}}}"#)
        });
        let more: Vec<String> = self
            .more
            .iter()
            .map(|(key, text)| format!(r#""{key}":"{text}""#))
            .collect();
        let more = (!more.is_empty()).then(|| format!(r#""__metadata__":{{{}}}"#, more.join(",")));
        let entries: Vec<String> = tensors.chain(more).collect();
        let mut file = safetensors(&format!("{{{}}}", entries.join(",")), self.data);
        let len = (&file[..8]).try_into().map(u64::from_le_bytes).unwrap();
        file[..8].copy_from_slice(&len.wrapping_add(self.longer).to_le_bytes());
        file
    }
}

/// One change of a safetensors file.
#[derive(Clone, Debug)]
enum Change {
    Name(Index, &'static str),
    Dtype(Index, Index),
    Length(Index, Index, u64),
    Rank(Index, Vec<u64>),
    Offset(Index, usize, u64),
    /// Two tensors change places, or shapes.
    Swap(Index, Index, bool),
    /// A tensor moves by so much, and what is behind it too.
    Move(Index, i64),
    Twice(Index),
    Without(Index),
    Blank(Index, &'static str),
    More(&'static str, &'static str),
    Data(i64),
    Longer(u64),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    // Escaped, long in letters and in bytes, and what is no tensor.
    let names = [
        "",
        "a",
        "tensor 0",
        "\\u0074ensor 1",
        "\\ud83d\\ude00",
        "ä",
        "__metadata__",
        "__metadata__ ",
        "\\u0000",
        "a/b.c",
        "\\\"",
        "\\ud800",
    ];
    let index = any::<Index>;
    let change = prop_oneof![
        2 => (index(), select(names.to_vec())).prop_map(|(at, name)| Change::Name(at, name)),
        2 => (index(), index()).prop_map(|(at, dtype)| Change::Dtype(at, dtype)),
        2 => (index(), index(), numbers()).prop_map(|(at, dimension, len)| Change::Length(at, dimension, len)),
        2 => (index(), vec(0..3_u64, 0..10)).prop_map(|(at, shape)| Change::Rank(at, shape)),
        2 => (index(), 0..2_usize, numbers()).prop_map(|(at, which, to)| Change::Offset(at, which, to)),
        2 => (index(), index(), any::<bool>()).prop_map(|(a, b, shapes)| Change::Swap(a, b, shapes)),
        1 => (index(), -8..9_i64).prop_map(|(at, by)| Change::Move(at, by)),
        1 => index().prop_map(Change::Twice),
        1 => index().prop_map(Change::Without),
        2 => (index(), select(vec![" ", "\\n", "\n", "\t ", "\u{b}", ","])).prop_map(|(at, blank)| Change::Blank(at, blank)),
        2 => (select(vec!["format", "a", "\\u0061", ""]), select(vec!["pt", "", "\\ud800", "ä\\n"])).prop_map(|(key, text)| Change::More(key, text)),
        1 => (-9..9_i64).prop_map(Change::Data),
        1 => prop_oneof![numbers(), Just(u64::MAX), Just(u64::MAX - 1)].prop_map(Change::Longer),
    ];
    vec(change, 1..3)
}

fn change(file: &mut Plain, change: &Change) {
    let len = file.tensors.len();
    let tensor = |at: &Index| at.index(len.max(1));
    match change {
        Change::More(key, text) => return file.more.push((key.to_string(), text.to_string())),
        Change::Data(by) => return file.data = file.data.saturating_add_signed(*by as isize),
        Change::Longer(by) => return file.longer = *by,
        _ if len == 0 => return,
        _ => {}
    }
    match change {
        Change::Name(at, name) => file.tensors[tensor(at)].name = name.to_string(),
        Change::Dtype(at, dtype) => {
            file.tensors[tensor(at)].dtype = PLAIN[dtype.index(PLAIN.len())].0.to_owned()
        }
        Change::Length(at, dimension, to) => {
            let shape = &mut file.tensors[tensor(at)].shape;
            if !shape.is_empty() {
                let dimension = dimension.index(shape.len());
                shape[dimension] = *to;
            }
        }
        Change::Rank(at, shape) => file.tensors[tensor(at)].shape = shape.clone(),
        Change::Offset(at, which, to) => file.tensors[tensor(at)].offsets[*which] = *to,
        Change::Swap(a, b, shapes) => {
            let (a, b) = (tensor(a), tensor(b));
            file.tensors.swap(a, b);
            if *shapes {
                let shape = file.tensors[a].shape.clone();
                file.tensors[a].shape = std::mem::replace(&mut file.tensors[b].shape, shape);
            }
        }
        Change::Move(at, by) => {
            let from = file.tensors[tensor(at)].offsets[0];
            for said in file.tensors.iter_mut().filter(|said| said.offsets[0] >= from) {
                said.offsets = said.offsets.map(|offset| offset.saturating_add_signed(*by));
            }
        }
        Change::Twice(at) => {
            let said = file.tensors[tensor(at)].clone();
            file.tensors.push(said);
        }
        Change::Without(at) => drop(file.tensors.remove(tensor(at))),
        Change::Blank(at, blank) => file.tensors[tensor(at)].blank = blank,
        Change::More(..) | Change::Data(_) | Change::Longer(_) => {}
    }
}

#[test]
fn changed_safetensors_that_are_accepted_are_accepted_by_safetensors_and_candle() {
    let file = |(parts, changes): &(Vec<(usize, Vec<u64>)>, Vec<Change>)| {
        let before = Plain::of(parts);
        let mut after = before.clone();
        changes.iter().for_each(|one| change(&mut after, one));
        (before.bytes(), after.bytes())
    };
    hold((parts(), changes()), file, agree_on_safetensors);
}

/// One change of a GGUF file.
#[derive(Clone, Debug)]
enum Turn {
    Version(u32),
    Tensors(u64),
    Keys(u64),
    Key(Index, Vec<u8>),
    Value(Index, u32, Vec<u8>),
    Name(Index, Vec<u8>),
    Kind(Index, u32),
    Dimension(Index, Index, u64),
    Rank(Index, Vec<u64>),
    Offset(Index, u64),
    /// Two tensors change places in the list, or in the file.
    Swap(Index, Index, bool),
    Without(Index),
    Alignment(u64),
    Data(i64),
}

fn values() -> impl Strategy<Value = (u32, Vec<u8>)> {
    let number = vec(any::<u8>(), 8);
    let plain = (
        select(vec![
            (0_u32, 1_usize),
            (1, 1),
            (2, 2),
            (3, 2),
            (4, 4),
            (5, 4),
            (6, 4),
            (7, 1),
            (10, 8),
            (11, 8),
            (12, 8),
            (13, 8),
        ]),
        number,
    );
    let plain = plain.prop_map(|((kind, len), bytes)| (kind, bytes[..len].to_vec()));
    let text = vec(any::<u8>(), 0..12).prop_map(|text| (8, string(&text)));
    let texts = vec(vec(any::<u8>(), 0..5), 0..5).prop_map(|texts| {
        let bytes: Vec<u8> = texts.iter().flat_map(|text| string(text)).collect();
        (9, array(8, texts.len() as u64, &bytes))
    });
    let flags = vec(0..2_u8, 0..5).prop_map(|flags| (9, array(7, flags.len() as u64, &flags)));
    let longs =
        (select(vec![4_u32, 5, 6, 10, 11, 12]), vec(any::<[u8; 8]>(), 0..4)).prop_map(|(kind, all)| {
            let len = if kind < 10 { 4 } else { 8 };
            let bytes: Vec<u8> = all.iter().flat_map(|bytes| bytes[..len].to_vec()).collect();
            (9, array(kind, all.len() as u64, &bytes))
        });
    prop_oneof![4 => plain, 2 => text, 2 => texts, 1 => flags, 2 => longs]
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let index = any::<Index>;
    let names = [
        &b""[..],
        b"a",
        b"tensor 0",
        b"tensor 1",
        b"\xff",
        b"a\0",
        b"\xc3\xa4",
        b"general.architecture",
        b"general.alignment",
        b"tokenizer.ggml.scores",
    ];
    let turn = prop_oneof![
        1 => (0..5_u32).prop_map(Turn::Version),
        1 => numbers().prop_map(Turn::Tensors),
        1 => numbers().prop_map(Turn::Keys),
        2 => (index(), select(names.map(<[u8]>::to_vec).to_vec())).prop_map(|(at, key)| Turn::Key(at, key)),
        4 => (index(), values()).prop_map(|(at, (kind, value))| Turn::Value(at, kind, value)),
        2 => (index(), select(names.map(<[u8]>::to_vec).to_vec())).prop_map(|(at, name)| Turn::Name(at, name)),
        2 => (index(), 0..40_u32).prop_map(|(at, kind)| Turn::Kind(at, kind)),
        2 => (index(), index(), numbers()).prop_map(|(at, dimension, to)| Turn::Dimension(at, dimension, to)),
        2 => (index(), vec(prop_oneof![Just(32_u64), 0..3_u64], 0..6)).prop_map(|(at, shape)| Turn::Rank(at, shape)),
        2 => (index(), numbers()).prop_map(|(at, offset)| Turn::Offset(at, offset)),
        2 => (index(), index(), any::<bool>()).prop_map(|(a, b, places)| Turn::Swap(a, b, places)),
        1 => index().prop_map(Turn::Without),
        1 => prop_oneof![numbers(), (0..18_u32).prop_map(|power| 1 << power)].prop_map(Turn::Alignment),
        1 => (-70..70_i64).prop_map(Turn::Data),
    ];
    vec(turn, 1..3)
}

fn turn(file: &mut Gguf, turn: &Turn) {
    let (tensors, keys) = (file.tensors.len(), file.keys.len());
    match turn {
        Turn::Version(version) => file.version = *version,
        Turn::Tensors(count) => file.counts.0 = Some(*count),
        Turn::Keys(count) => file.counts.1 = Some(*count),
        Turn::Key(at, key) => file.keys[at.index(keys)].0 = key.clone(),
        Turn::Value(at, kind, value) => {
            let key = &mut file.keys[at.index(keys)];
            (key.1, key.2) = (*kind, value.clone());
        }
        Turn::Alignment(alignment) => {
            let value = (*alignment as u32).to_le_bytes().to_vec();
            *file = file.clone().with_key(b"general.alignment", 4, value);
        }
        Turn::Data(by) => file.data = file.data.saturating_add_signed(*by),
        _ if tensors == 0 => {}
        Turn::Name(at, name) => file.tensors[at.index(tensors)].0 = name.clone(),
        Turn::Kind(at, kind) => file.tensors[at.index(tensors)].2 = *kind,
        Turn::Dimension(at, dimension, to) => {
            let shape = &mut file.tensors[at.index(tensors)].1;
            let dimension = dimension.index(shape.len());
            shape[dimension] = *to;
        }
        Turn::Rank(at, shape) => file.tensors[at.index(tensors)].1 = shape.clone(),
        Turn::Offset(at, offset) => file.tensors[at.index(tensors)].3 = *offset,
        Turn::Swap(a, b, places) => {
            let (a, b) = (a.index(tensors), b.index(tensors));
            file.tensors.swap(a, b);
            if *places {
                let place = file.tensors[a].3;
                file.tensors[a].3 = std::mem::replace(&mut file.tensors[b].3, place);
            }
        }
        Turn::Without(at) => drop(file.tensors.remove(at.index(tensors))),
    }
}

#[test]
fn changed_ggufs_that_are_accepted_are_accepted_by_candle() {
    let file = |((file, _), turns): &((Gguf, Vec<_>), Vec<Turn>)| {
        let mut after = file.clone();
        for one in turns {
            // What an earlier change left without dimensions has none to change.
            let flat = after.tensors.iter().any(|tensor| tensor.1.is_empty());
            if !(flat && matches!(one, Turn::Dimension(..))) {
                turn(&mut after, one);
            }
        }
        (file.bytes(), after.bytes())
    };
    hold((ggufs(), turns()), file, agree_on_gguf);
}
