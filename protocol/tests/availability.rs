//! What a peer says it has is measured against the manifest before it is believed.

use crate::fixture::entry;
use protocol::shard::SHARD_LEN;
use protocol::{FileBits, Manifest, SwarmTell, WireError};

/// Files of 0, 1, 8 and 11 shards.
fn manifest() -> Manifest {
    let sizes = [
        ("a", 0),
        ("b", 5),
        ("c", 8 * SHARD_LEN),
        ("d", 10 * SHARD_LEN + 1),
    ];
    Manifest::new(sizes.map(|(at, size)| entry(at, size)).to_vec()).unwrap()
}

fn check(files: &[(u32, &[u8])]) -> Result<(), WireError> {
    let bits = |(file, bits): &(u32, &[u8])| FileBits {
        file: *file,
        bits: bits.to_vec(),
    };
    SwarmTell::Partial(files.iter().map(bits).collect()).check(&manifest())
}

#[test]
fn bits_that_fit_are_believed() {
    assert_eq!(SwarmTell::Nothing.check(&manifest()), Ok(()));
    assert_eq!(SwarmTell::Everything.check(&manifest()), Ok(()));
    assert_eq!(check(&[]), Ok(()));
    assert_eq!(
        check(&[(0, &[]), (1, &[1]), (2, &[0xff]), (3, &[0xff, 0b111])]),
        Ok(())
    );
    assert_eq!(check(&[(1, &[0]), (3, &[0, 0])]), Ok(()));
}

#[test]
fn files_that_are_not_there_or_out_of_order_are_the_peers_fault() {
    assert_eq!(check(&[(4, &[1])]), Err(WireError::File { file: 4 }));
    assert_eq!(check(&[(u32::MAX, &[])]), Err(WireError::File { file: u32::MAX }));
    assert_eq!(check(&[(1, &[1]), (1, &[1])]), Err(WireError::File { file: 1 }));
    assert_eq!(check(&[(2, &[1]), (1, &[1])]), Err(WireError::File { file: 1 }));
}

#[test]
fn bits_that_do_not_fit_are_the_peers_fault() {
    let wrong: [(u32, &[u8]); 9] = [
        (0, &[0]),
        (1, &[]),
        (1, &[1, 0]),
        (1, &[0b10]),
        (2, &[]),
        (2, &[0xff, 0]),
        (3, &[0xff]),
        (3, &[0xff, 0b1000]),
        (3, &[0, 0, 0]),
    ];
    for (file, bits) in wrong {
        assert_eq!(check(&[(file, bits)]), Err(WireError::Bits { file }), "{bits:?}");
    }
}

#[test]
fn largest_blob_fits_into_a_frame() {
    use protocol::limits::BLOB_LEN_MAX;
    use protocol::shard::shard_count;
    let bits = FileBits::new(0, shard_count(BLOB_LEN_MAX), [0, u32::MAX]);
    assert_eq!(bits.count(), 1);
    let frame = protocol::wire::encode_frame(&SwarmTell::Partial(vec![bits]));
    assert!(frame.is_ok_and(|frame| frame.len() > 500_000));
}
