//! Files that can run code are labelled, whoever wrote or hid them, and others are not.

use std::{convert::Infallible, ops::Range};

use data_encoding::BASE64;
use proptest::{
    collection::vec,
    prelude::{ProptestConfig, any, proptest},
};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use serde::Deserialize;

use super::samples::{Gguf, entry, safetensors};
use crate::check::code::{CodeKind, detect, look};

/// A file that can run code.
#[derive(Deserialize)]
struct Sample {
    name: String,
    kind: CodeKind,
    bytes: String,
}

/// Made by `node/testdata/code/make.py`.
pub(super) fn samples() -> Vec<(String, CodeKind, Vec<u8>)> {
    let samples: Vec<Sample> =
        serde_json::from_str(include_str!("../../../testdata/code/samples.json")).unwrap();
    let decoded = samples.into_iter().map(|sample| {
        let bytes = BASE64.decode(sample.bytes.as_bytes()).unwrap();
        (sample.name, sample.kind, bytes)
    });
    decoded.collect()
}

/// What a whole file is.
pub(super) fn of(path: &str, bytes: &[u8]) -> Option<CodeKind> {
    let read = |range: Range<u64>| Ok::<_, Infallible>(&bytes[range.start as usize..range.end as usize]);
    look(path, bytes.len() as u64, read).unwrap()
}

#[test]
fn every_sample_is_labelled() {
    let samples = samples();
    assert!(samples.len() >= 60, "{}", samples.len());
    for (name, kind, bytes) in samples {
        assert_eq!(of(&name, &bytes), Some(kind), "{name}");
    }
}

#[test]
fn labels_do_not_hang_on_names() {
    for (name, kind, bytes) in samples() {
        if matches!(kind, CodeKind::CompressedPickle) || name.ends_with(".py") || name.ends_with(".pyc") {
            continue;
        }
        for other in ["x", "model.safetensors", "data/notes.txt", "archive.zip"] {
            assert_eq!(of(other, &bytes), Some(kind), "{name} as {other}");
        }
    }
}

#[test]
fn large_files_are_labelled_by_their_ends() {
    for (name, kind, bytes) in samples() {
        let archive = matches!(kind, CodeKind::ArchivedPickle) && bytes.starts_with(b"PK");
        if !archive || name.contains("other-names") {
            continue;
        }
        // Tensors lie between what is at the beginning and the list of files.
        let middle = bytes.windows(4).position(|window| window == b"PK\x01\x02");
        let (head, tail) = bytes.split_at(middle.unwrap_or(bytes.len()));
        let large = [head, &vec![0; 1 << 20], tail].concat();
        assert_eq!(of(&name, &large), Some(kind), "{name}");
    }
}

#[test]
fn pickles_cut_anywhere_behind_their_imports_are_labelled() {
    let call = b"\x80\x04\x95\x25\0\0\0\0\0\0\0\x8c\x08builtins\x94\x8c\x05print\x94\x93\x94\x8c\x06called\x94\x85\x94R\x94.";
    for cut in 12..=call.len() {
        assert_eq!(of("x", &call[..cut]), Some(CodeKind::Pickle), "{cut}");
    }
}

#[test]
fn pickle_that_begins_with_more_than_is_looked_at_is_labelled() {
    for op in [
        &b"B\0\0\0\x01"[..],
        b"X\0\0\0\x01",
        b"\x8e\0\0\0\x01\0\0\0\0",
        b"V",
    ] {
        let pickle = [b"\x80\x04", op, &vec![b'x'; 1 << 20], b"\n0cos\nsystem\n"].concat();
        assert_eq!(of("model.bin", &pickle), Some(CodeKind::Pickle), "{op:?}");
    }
}

#[test]
fn files_of_plain_data_are_not_labelled() {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\0\0\0\x01\0\x08\x06\0\0\0".to_vec();
    png.extend((0..4_096_u32).flat_map(u32::to_le_bytes));
    let mut parquet = b"PAR1\x15\x04\x15\x80\x01\x15\x84\x01L\x15\x10\x15\0\x12\0\0".to_vec();
    parquet.extend((0..4_096_u32).flat_map(u32::to_be_bytes));
    parquet.extend(b"\x10\x01\0\0PAR1");
    let tensor = safetensors(&format!("{{{}}}", entry("a", "F32", "[64]", "[0,256]")), 256);
    let table: &[(&str, &[u8])] = &[
        ("model.safetensors", &tensor),
        ("model.gguf", &Gguf::new().bytes()),
        ("image.png", &png),
        ("data.parquet", &parquet),
        ("config.json", br#"{"architectures": ["BertModel"]}"#),
        ("list.json", b"[1, 2, 3]"),
        ("text.json", b"\"text\""),
        ("data.csv", b"a,b\n1,2\n"),
        ("vocab.txt", b"cat\ndog\nbird\n"),
        ("vocab", b"cat\ndog\nRabbit\n."),
        ("vocab2", b"class\nobject\nbuild\n"),
        ("lisp", b"(import foo)\n(print 1)\n"),
        ("merges.txt", b"#version: 0.2\n\xc4\xa0 t\n"),
        ("README", b"# A model\n\nIt is small.\n"),
        ("LICENSE", b"Apache License\nVersion 2.0\n"),
        ("Notice", b"Various things.\n."),
        ("numbers.npy", b"\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }   \n\0\0\0\0\0\0\0\0"),
        ("names.npy", b"\x93NUMPY\x01\0v\0{'descr': [('Output', '<f4')], 'fortran_order': False, 'shape': (2,), }   \n\0\0\0\0"),
        ("logs.gz", b"\x1f\x8b\x09\0\0\0\0\0"),
        ("weights.onnx", b"\x08\x07\x12\x07pytorch\x1a\x05"),
        ("sentencepiece.model", b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02"),
        ("saved_model.pb", b"\x08\x01\x12\xc0\x9f\x01\n"),
        ("audio.wav", b"RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0"),
        ("arrow", b"ARROW1\0\0\xff\xff\xff\xff\x10\x01\0\0"),
        ("webp", b"RIFF\x24\x08\0\0WEBPVP8 "),
        ("empty.bin", b""),
        ("zeros.bin", &[0; 100_000]),
        ("ones.bin", &[0xff; 100_000]),
        ("floats.bin", &(0..10_000).flat_map(|at| (at as f32).sin().to_le_bytes()).collect::<Vec<_>>()),
    ];
    for (name, bytes) in table {
        assert_eq!(of(name, bytes), None, "{name}");
        assert_eq!(of("x", bytes), None, "{name} as x");
    }
}

#[test]
fn archives_of_plain_data_are_not_labelled() {
    let record = |signature: &[u8], before: usize, at: usize, name: &[u8]| {
        let mut record = signature.to_vec();
        record.resize(at, 0);
        record[before..before + 2].copy_from_slice(&(name.len() as u16).to_le_bytes());
        record.extend(name);
        record
    };
    let local = [
        record(b"PK\x03\x04", 26, 30, b"images/1.png"),
        b"\x89PNG".to_vec(),
    ]
    .concat();
    let central = record(b"PK\x01\x02", 28, 46, b"images/1.png");
    let mut end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0".to_vec();
    end.extend((central.len() as u32).to_le_bytes());
    end.extend((local.len() as u32).to_le_bytes());
    end.extend([0, 0]);
    let whole = [local.clone(), central.clone(), end].concat();
    assert_eq!(of("images.zip", &whole), None);
    // One whose list is not seen to its end may have anything in it.
    assert_eq!(
        of("images.zip", &whole[..whole.len() - 22]),
        Some(CodeKind::Archive)
    );
    assert_eq!(detect("images.zip", &local, b"x"), Some(CodeKind::Archive));
}

#[test]
fn ten_thousand_heads_of_random_bytes_are_not_labelled() {
    let mut random = StdRng::seed_from_u64(5);
    let mut head = vec![0; 2_048];
    for number in 0..10_000 {
        random.fill_bytes(&mut head);
        assert_eq!(
            detect("weights.bin", &head, &head),
            None,
            "{number}: {:02x?}",
            &head[..64]
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn headers_of_safetensors_of_any_length_are_not_labelled(len in 0..100_000_u64, name in "[a-z.0-9]{1,40}") {
        let header = format!("{{{}", entry(&name, "F32", "[64]", "[0,256]"));
        let mut file = safetensors(&header, 256);
        file[..8].copy_from_slice(&len.to_le_bytes());
        assert_eq!(of("model.safetensors", &file), None);
    }

    #[test]
    fn text_is_not_labelled(lines in vec("[a-zA-Z .,']{0,40}", 0..30)) {
        assert_eq!(of("text", lines.join("\n").as_bytes()), None);
    }

    #[test]
    fn archives_of_any_bytes_never_panic(head: Vec<u8>, tail: Vec<u8>, len in any::<u16>()) {
        let head = [b"PK\x03\x04".as_slice(), &head].concat();
        let tail = [b"PK\x01\x02".as_slice(), &tail, b"PK\x05\x06", &len.to_le_bytes().repeat(9)].concat();
        detect("x", &head, &tail);
    }
}
