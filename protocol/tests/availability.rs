//! What a peer says about shards and peers is measured before it is believed, and read as it was meant.

use std::collections::BTreeSet;

use crate::fixture::swarm_tells;
use proptest::collection::vec;
use proptest::prelude::*;
use protocol::limits::{
    ADDRESS_LEN_MAX, BITS_LEN_MAX, BLOB_LEN_MAX, FRAME_LEN_MAX, HINT_ADDRESSES_MAX, HINTS_MAX,
    PEER_ID_LEN_MAX, RUNS_MAX, SHARDS_MAX,
};
use protocol::shard::shard_count;
use protocol::wire::{decode_frame, encode_frame};
use protocol::{PeerHint, ShardRun, SwarmTell, WireError};

fn bits(first: u32, bits: &[u8]) -> SwarmTell {
    SwarmTell::Bits {
        first,
        bits: bits.to_vec(),
    }
}

fn got(runs: &[(u32, u32)]) -> SwarmTell {
    let run = |&(first, count): &(u32, u32)| ShardRun { first, count };
    SwarmTell::Got(runs.iter().map(run).collect())
}

/// As much as one peer may be told of.
fn longest_hint() -> PeerHint {
    PeerHint {
        peer: vec![0xff; PEER_ID_LEN_MAX],
        addresses: vec!["/".repeat(ADDRESS_LEN_MAX); HINT_ADDRESSES_MAX],
    }
}

fn misses(shard: u64, count: u32) -> Result<(), WireError> {
    Err(WireError::Shard { shard, count })
}

fn breaks(what: &'static str) -> Result<(), WireError> {
    Err(WireError::Bounds { what })
}

#[test]
fn bits_within_the_shards_are_believed() {
    for (count, tell) in [
        (0, bits(0, &[])),
        (1, bits(0, &[])),
        (1, bits(0, &[0])),
        (1, bits(0, &[1])),
        (8, bits(0, &[0xff])),
        (8, bits(8, &[])),
        (11, bits(0, &[0xff, 0b111])),
        (11, bits(8, &[0b100])),
        (11, bits(16, &[])),
        (u32::MAX, bits(u32::MAX - 7, &[0x7f])),
    ] {
        assert_eq!(tell.check(count), Ok(()), "{tell:?} of {count}");
    }
}

#[test]
fn bits_past_the_last_shard_are_the_peers_fault() {
    for (count, tell, shard) in [
        (0, bits(0, &[0]), 0),
        (0, bits(8, &[]), 8),
        (1, bits(0, &[0b10]), 1),
        (1, bits(0, &[0b1000_0001]), 7),
        (8, bits(0, &[0, 0]), 8),
        (8, bits(8, &[1]), 8),
        (8, bits(16, &[]), 16),
        (11, bits(0, &[0xff, 0b1000]), 11),
        (11, bits(8, &[0xff]), 15),
        (11, bits(0, &[0, 0, 0]), 16),
        (u32::MAX, bits(u32::MAX - 7, &[0xff]), u64::from(u32::MAX)),
        (u32::MAX, bits(u32::MAX - 7, &[0, 1]), 1 << 32),
    ] {
        assert_eq!(tell.check(count), misses(shard, count), "{tell:?} of {count}");
    }
}

#[test]
fn bits_that_begin_within_a_byte_or_are_too_many_are_the_peers_fault() {
    for first in [1, 7, 9, u32::MAX] {
        assert_eq!(
            bits(first, &[]).check(u32::MAX),
            breaks("bits that begin within a byte")
        );
    }
    let most = vec![0xff; BITS_LEN_MAX];
    assert_eq!(bits(0, &most).check(SHARDS_MAX), Ok(()));
    assert_eq!(bits(SHARDS_MAX / 2, &most).check(SHARDS_MAX), Ok(()));
    let more = vec![0; BITS_LEN_MAX + 1];
    assert_eq!(bits(0, &more).check(SHARDS_MAX), breaks("too many bits"));
}

#[test]
fn runs_within_the_shards_are_believed() {
    assert_eq!(got(&[]).check(0), Ok(()));
    assert_eq!(got(&[(0, 1)]).check(1), Ok(()));
    assert_eq!(got(&[(9, 1), (0, 10), (9, 1)]).check(10), Ok(()));
    assert_eq!(got(&[(0, u32::MAX)]).check(u32::MAX), Ok(()));
    assert_eq!(got(&[(0, 1); RUNS_MAX]).check(1), Ok(()));
}

#[test]
fn runs_that_are_empty_too_many_or_past_the_last_shard_are_the_peers_fault() {
    assert_eq!(got(&[(0, 1)]).check(0), misses(0, 0));
    assert_eq!(got(&[(0, 10), (9, 2)]).check(10), misses(10, 10));
    assert_eq!(got(&[(10, 1)]).check(10), misses(10, 10));
    assert_eq!(
        got(&[(u32::MAX, u32::MAX)]).check(u32::MAX),
        misses(2 * u64::from(u32::MAX) - 1, u32::MAX)
    );
    assert_eq!(got(&[(3, 0)]).check(10), breaks("an empty run"));
    assert_eq!(got(&[(0, 1); RUNS_MAX + 1]).check(1), breaks("too many runs"));
}

#[test]
fn hints_within_their_bounds_are_read() {
    assert_eq!(SwarmTell::Peers(Vec::new()).check(0), Ok(()));
    let most = SwarmTell::Peers(vec![longest_hint(); HINTS_MAX]);
    assert_eq!(most.check(0), Ok(()));
}

#[test]
fn hints_out_of_their_bounds_are_the_peers_fault() {
    let changed = |change: fn(&mut PeerHint)| {
        let mut hint = longest_hint();
        change(&mut hint);
        SwarmTell::Peers(vec![longest_hint(), hint]).check(9)
    };
    assert_eq!(changed(|hint| hint.peer.clear()), breaks("an empty peer id"));
    assert_eq!(
        changed(|hint| hint.peer.push(0)),
        breaks("a peer id that is too long")
    );
    assert_eq!(
        changed(|hint| hint.addresses.push(String::new())),
        breaks("too many addresses of a peer")
    );
    assert_eq!(
        changed(|hint| hint.addresses[7].push('/')),
        breaks("an address that is too long")
    );
    let many = SwarmTell::Peers(vec![longest_hint(); HINTS_MAX + 1]);
    assert_eq!(many.check(9), breaks("too many peers"));
}

#[test]
fn messages_about_no_single_shard_fit_every_manifest() {
    let manifest = protocol::Hash::EMPTY;
    for tell in [
        SwarmTell::Join { manifest },
        SwarmTell::Nothing,
        SwarmTell::Everything,
    ] {
        assert_eq!(tell.check(0), Ok(()));
        assert_eq!(tell.runs().count(), 0);
    }
    assert_eq!(SwarmTell::Peers(vec![longest_hint()]).runs().count(), 0);
}

#[test]
fn longest_messages_fit_into_a_frame() {
    let longest = [
        bits(u32::MAX - 7, &[0xff; BITS_LEN_MAX]),
        got(&[(u32::MAX, u32::MAX); RUNS_MAX]),
        SwarmTell::Peers(vec![longest_hint(); HINTS_MAX]),
    ];
    for tell in longest {
        let frame = encode_frame(&tell).unwrap();
        assert!(frame.len() <= FRAME_LEN_MAX);
        assert_eq!(decode_frame(&frame), Ok(Some((tell, frame.len()))));
    }
    let largest_blob = usize::try_from(shard_count(BLOB_LEN_MAX)).unwrap();
    assert!(largest_blob <= 8 * BITS_LEN_MAX);
}

#[test]
fn message_with_too_many_entries_is_refused_before_it_is_kept() {
    let mut addresses = longest_hint();
    addresses.addresses.push(String::new());
    let tiny = PeerHint {
        peer: Vec::new(),
        addresses: Vec::new(),
    };
    for tell in [
        got(&[(0, 1); RUNS_MAX + 1]),
        SwarmTell::Peers(vec![addresses]),
        SwarmTell::Peers(vec![tiny; HINTS_MAX + 1]),
    ] {
        let frame = encode_frame(&tell).unwrap();
        assert_eq!(decode_frame::<SwarmTell>(&frame), Err(WireError::Message));
    }
}

#[test]
fn counts_and_numbers_that_are_too_large_for_their_type_are_refused() {
    let refused = |body: &[u8]| {
        let len = u32::try_from(body.len()).unwrap().to_le_bytes();
        let frame = [&len, body].concat();
        assert_eq!(
            decode_frame::<SwarmTell>(&frame),
            Err(WireError::Message),
            "{body:?}"
        );
    };
    let huge = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1]; // 2^63
    refused(&[&[3, 0], huge.as_slice()].concat());
    refused(&[&[4], huge.as_slice()].concat());
    refused(&[&[5], huge.as_slice()].concat());
    refused(&[&[5, 1], huge.as_slice()].concat());
    refused(&[&[5, 1, 1, 0], huge.as_slice()].concat());
    refused(&[3, 0xff, 0xff, 0xff, 0xff, 0x10, 0]); // 2^32 and more
    refused(&[4, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    refused(&[6]);
    refused(&[]);
}

/// The shards that a message tells of, one by one and in numbers that nothing overflows.
fn told(tell: &SwarmTell) -> BTreeSet<u64> {
    match tell {
        SwarmTell::Bits { first, bits } => (0..8 * bits.len())
            .filter(|at| bits[at / 8] >> (at % 8) & 1 == 1)
            .map(|at| u64::from(*first) + u64::try_from(at).unwrap())
            .collect(),
        SwarmTell::Got(runs) => runs
            .iter()
            .flat_map(|run| u64::from(run.first)..u64::from(run.first) + u64::from(run.count))
            .collect(),
        _ => BTreeSet::new(),
    }
}

/// Whether an honest node could say this of a manifest with so many shards.
fn honest(tell: &SwarmTell, count: u32) -> bool {
    let inside = |tell| told(tell).last().is_none_or(|last| *last < u64::from(count));
    match tell {
        SwarmTell::Bits { first, bits } => {
            let bytes = u64::from(count).div_ceil(8);
            let end = u64::from(*first / 8) + u64::try_from(bits.len()).unwrap();
            first % 8 == 0 && end <= bytes && inside(tell)
        }
        SwarmTell::Got(runs) => runs.iter().all(|run| run.count > 0) && inside(tell),
        _ => true,
    }
}

/// Messages about a few hundred shards, and a number of shards near which they end.
fn small_tells() -> impl Strategy<Value = (SwarmTell, u32)> {
    let bytes = prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(1)];
    let bits = (0..64_u32, 0..20_u32, vec(bytes, 0..20)).prop_map(|(wrong, byte, bits)| {
        let first = 8 * byte + if wrong < 56 { 0 } else { wrong % 8 };
        SwarmTell::Bits { first, bits }
    });
    let run = (0..300_u32, 0..40_u32).prop_map(|(first, count)| ShardRun { first, count });
    let tell = prop_oneof![bits, vec(run, 0..6).prop_map(SwarmTell::Got)];
    (tell, any::<bool>(), 0..320_u32, 0..20_u32).prop_map(|(tell, near, count, off)| {
        let end = told(&tell)
            .last()
            .map_or(0, |last| u32::try_from(last + 1).unwrap());
        let count = if near {
            (end + off).saturating_sub(10)
        } else {
            count
        };
        (tell, count)
    })
}

proptest! {
    #[test]
    fn what_honest_nodes_say_is_believed_and_nothing_else((tell, count) in small_tells()) {
        prop_assert_eq!(tell.check(count).is_ok(), honest(&tell, count), "{:?} of {}", tell, count);
    }

    #[test]
    fn what_is_had_is_told_in_pieces_of_any_length(
        have in vec(any::<bool>(), 0..300),
        len in 1..50_usize,
    ) {
        let count = u32::try_from(have.len()).unwrap();
        let bytes: Vec<u8> = have
            .chunks(8)
            .map(|byte| byte.iter().rev().fold(0, |bits, set| bits << 1 | u8::from(*set)))
            .collect();
        let mut heard = vec![false; have.len()];
        for (piece, at) in bytes.chunks(len).zip((0..).step_by(8 * len)) {
            let tell = bits(at, piece);
            prop_assert_eq!(tell.check(count), Ok(()));
            for shard in tell.runs().flatten() {
                heard[usize::try_from(shard).unwrap()] = true;
            }
        }
        prop_assert_eq!(heard, have);
    }

    #[test]
    fn runs_are_the_shards_that_were_told((tell, _) in small_tells()) {
        let runs: Vec<_> = tell.runs().collect();
        let shards: BTreeSet<u64> = runs.iter().cloned().flatten().map(u64::from).collect();
        prop_assert_eq!(shards, told(&tell));
        if let SwarmTell::Bits { .. } = tell {
            prop_assert!(runs.iter().all(|run| run.start < run.end));
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", runs);
        }
    }

    #[test]
    fn messages_that_were_not_checked_have_runs_too(tell in swarm_tells(), count in any::<u32>()) {
        let _either = tell.check(count);
        prop_assert!(tell.runs().all(|run| run.start <= run.end));
        prop_assert!(tell.runs().count() <= 8 * 40);
    }
}

#[test]
fn runs_that_no_number_ends_are_cut_off() {
    let runs = |tell: SwarmTell| tell.runs().collect::<Vec<_>>();
    let max = u32::MAX;
    assert_eq!(runs(bits(max - 7, &[0xff, 0xff])), vec![max - 7..max]);
    assert_eq!(runs(bits(max, &[0xff])), Vec::new());
    assert_eq!(runs(got(&[(max - 1, 1), (7, max)])), vec![max - 1..max, 7..max]);
}

#[test]
fn runs_of_the_most_bits_need_no_room() {
    let every_other = bits(0, &[0b0101_0101; BITS_LEN_MAX]);
    assert_eq!(every_other.runs().count(), 4 * BITS_LEN_MAX);
    let all = bits(0, &[0xff; BITS_LEN_MAX]).runs().collect::<Vec<_>>();
    assert_eq!(all, vec![0..SHARDS_MAX / 2]);
}
