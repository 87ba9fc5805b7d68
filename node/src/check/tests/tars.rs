//! Tars: what of them can run code is told as far as they are seen, and where there is more of them that is said.

use super::code::of;
use crate::check::code::{CodeKind, HEAD_LEN};

const CALL: &[u8] = b"\x80\x02cbuiltins\nprint\n(X\x06\0\0\0calledtR.";

/// A header of the oldest form, which has no mark.
fn header(name: &str, kind: u8, len: usize) -> Vec<u8> {
    let mut block = vec![0; 512];
    let name = &name.as_bytes()[..name.len().min(100)];
    block[..name.len()].copy_from_slice(name);
    block[124..136].copy_from_slice(format!("{len:011o} ").as_bytes());
    block[148..156].fill(b' ');
    block[156] = kind;
    block
}

/// Writes the sum into a header.
fn summed(mut block: Vec<u8>) -> Vec<u8> {
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn marked(mut block: Vec<u8>) -> Vec<u8> {
    block[257..265].copy_from_slice(b"ustar\x0000");
    summed(block)
}

/// A file and its header, filled up to a whole block.
fn member(header: Vec<u8>, data: &[u8]) -> Vec<u8> {
    let filled = data.len().next_multiple_of(512) - data.len();
    [&header[..], data, &vec![0; filled]].concat()
}

fn file(name: &str, data: &[u8]) -> Vec<u8> {
    member(marked(header(name, b'0', data.len())), data)
}

fn tar(members: &[Vec<u8>]) -> Vec<u8> {
    [&members.concat()[..], &[0; 1_024]].concat()
}

/// So many samples of a data set, as WebDataset packs them.
fn samples(count: usize) -> Vec<Vec<u8>> {
    let jpeg = [b"\xff\xd8\xff\xe0\0\x10JFIF\0", vec![7; 900].as_slice()].concat();
    let of = |at: usize| {
        [
            file(&format!("{at:06}.jpg"), &jpeg),
            file(&format!("{at:06}.cls"), b"3"),
            file(&format!("{at:06}.txt"), b"Various people on a street, N. Y.\n"),
            file(&format!("{at:06}.json"), br#"{"width": 3}"#),
        ]
    };
    (0..count).flat_map(of).collect()
}

#[test]
fn tar_that_is_seen_whole_is_told_by_what_is_in_it() {
    assert_eq!(of("data.tar", &tar(&samples(8))), None);
    for (what, hidden) in [
        ("a name", file("model_weights.ckpt", b"x")),
        ("a pickle with another name", file("weights.txt", CALL)),
        (
            "objects",
            file(
                "a.npy",
                b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
            ),
        ),
    ] {
        let kind = of("data.tar", &tar(&[samples(4), vec![hidden]].concat()));
        let wanted = match what {
            "objects" => CodeKind::NumpyObjects,
            _ => CodeKind::ArchivedPickle,
        };
        assert_eq!(kind, Some(wanted), "{what}");
    }
}

#[test]
fn names_that_are_too_long_for_a_header_are_read() {
    let long = format!("{}/model.pkl", "folder".repeat(30));
    let line = format!("{} path={long}\n", long.len() + 10);
    for (kind, name) in [(b'L', long.clone() + "\0"), (b'x', line)] {
        let named = member(marked(header("././@LongLink", kind, name.len())), name.as_bytes());
        let file = member(marked(header(&long, b'0', 5)), b"12345");
        let kind = of("x", &tar(&[samples(1), vec![named, file]].concat()));
        assert_eq!(kind, Some(CodeKind::ArchivedPickle), "{name}");
    }
}

#[test]
fn tar_of_the_oldest_form_is_told_by_its_sum() {
    let plain = |name: &str| member(summed(header(name, b'0', 1)), b"x");
    let old = [plain("sys_info"), plain("pickle"), plain("storages")];
    assert_eq!(of("model.pt", &tar(&old)), Some(CodeKind::ArchivedPickle));
    assert_eq!(of("model.pt", &tar(&old[..1])), None);
    for sum in [
        &b"\x80\0\0\0\0\0\x12\x34"[..],
        b"0o11064\0",
        b" 1_1064\0",
        b"0011064 ",
    ] {
        // 0x1234 and 0o11064 are the same. The last byte makes the sum.
        let mut block = header("pickle", b'0', 1);
        let mut missing = 0x1234 - block.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        for byte in &mut block[300..] {
            *byte = missing.min(127) as u8;
            missing -= u32::from(*byte);
        }
        block[148..156].copy_from_slice(sum);
        let kind = of("x", &tar(&[member(block, b"x")]));
        assert_eq!(kind, Some(CodeKind::ArchivedPickle), "{sum:?}");
    }
}

#[test]
fn tar_that_goes_on_behind_what_is_seen_is_an_archive_that_cannot_be_looked_into() {
    let many = samples(60);
    assert!(many.concat().len() > 2 * HEAD_LEN as usize);
    assert_eq!(of("train-0001.tar", &tar(&many)), Some(CodeKind::Archive));
    let behind = [many.clone(), vec![file("a/data.pkl", CALL)], many.clone()].concat();
    assert_eq!(of("model.tar", &tar(&behind)), Some(CodeKind::Archive));
    // In a file that is larger than all that is looked at.
    let large = file("video.mp4", &vec![9; 1 << 20]);
    let large = [large.clone(), file("data.pkl", CALL), large];
    assert_eq!(of("model.weights", &tar(&large)), Some(CodeKind::Archive));
    let first = [vec![file("data.pkl", CALL)], many].concat();
    assert_eq!(of("model.tar", &tar(&first)), Some(CodeKind::ArchivedPickle));
}

#[test]
fn tar_that_is_a_zip_too_is_told_by_both() {
    let (_, _, zip) = super::code::samples()
        .into_iter()
        .find(|(name, ..)| name == "pytorch_model.bin")
        .unwrap();
    for count in [1, 60] {
        let both = [&tar(&samples(count))[..], &zip].concat();
        assert_eq!(of("x", &both), Some(CodeKind::ArchivedPickle), "{count}");
    }
}
