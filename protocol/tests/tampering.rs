//! A record that lost its end, or one bit of which changed on the way, is refused.

use crate::fixture::{golden_proof, golden_signed, golden_ticket, key, plain_release};
use protocol::{Proof, ReleaseError, SignedRelease, Ticket, TicketError};

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

#[test]
fn every_prefix_of_a_release_is_refused() {
    for signed in [
        golden_signed(),
        SignedRelease::sign(plain_release(1, 1, 1), &key(1)).unwrap(),
    ] {
        let bytes = signed.encode();
        assert_eq!(SignedRelease::decode(&bytes).unwrap(), signed);
        for len in 0..bytes.len() {
            let error = SignedRelease::decode(&bytes[..len]).unwrap_err();
            let typed = match error {
                ReleaseError::TooShort { len: found } => found == len && len < 64,
                ReleaseError::Json(_) => len >= 64,
                _ => false,
            };
            assert!(typed, "{len} bytes");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_release_is_refused() {
    let bytes = golden_signed().encode();
    for bit in 0..bytes.len() * 8 {
        let error = SignedRelease::decode(&flip(&bytes, bit)).unwrap_err();
        // In the publisher's own field and in the braces around it the key is lost before the signature can be looked at.
        let typed = match error {
            ReleaseError::Signature => true,
            ReleaseError::Json(_) | ReleaseError::Publisher(_) | ReleaseError::Version { .. } => {
                bit / 8 >= 64
            }
            _ => false,
        };
        assert!(typed, "bit {bit}: {error}");
    }
}

#[test]
fn release_with_bytes_behind_it_is_refused() {
    let mut bytes = golden_signed().encode();
    bytes.push(b' ');
    assert!(matches!(
        SignedRelease::decode(&bytes),
        Err(ReleaseError::Signature)
    ));
}

#[test]
fn release_signed_by_another_key_is_refused() {
    let mut bytes = golden_signed().encode();
    let other = SignedRelease::sign(plain_release(1, 1, 1), &key(1))
        .unwrap()
        .encode();
    bytes[..64].copy_from_slice(&other[..64]);
    assert!(matches!(
        SignedRelease::decode(&bytes),
        Err(ReleaseError::Signature)
    ));
}

#[test]
fn every_prefix_of_a_ticket_is_refused() {
    let text = golden_ticket().to_string();
    for len in 0..text.len() {
        let error = text[..len].parse::<Ticket>().unwrap_err();
        let typed = match error {
            TicketError::Prefix => len < 6,
            TicketError::TooShort => (6..=14).contains(&len),
            TicketError::Encoding { .. } | TicketError::Checksum => len > 6,
            _ => false,
        };
        assert!(typed, "{len} characters: {error}");
    }
}

#[test]
fn every_flipped_bit_of_a_ticket_is_refused() {
    let text = golden_ticket().to_string();
    for bit in 0..text.len() * 8 {
        let Ok(flipped) = String::from_utf8(flip(text.as_bytes(), bit)) else {
            continue;
        };
        let error = flipped.parse::<Ticket>().unwrap_err();
        let typed = matches!(
            error,
            TicketError::Prefix | TicketError::Encoding { .. } | TicketError::Checksum
        );
        assert!(typed, "bit {bit}: {error}");
    }
}

#[test]
fn every_prefix_of_a_proof_is_refused() {
    let bytes = golden_proof().encode();
    for len in 0..bytes.len() {
        assert!(Proof::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn every_flipped_bit_of_a_proof_is_refused() {
    let bytes = golden_proof().encode();
    for bit in 0..bytes.len() * 8 {
        assert!(Proof::decode(&flip(&bytes, bit)).is_err(), "bit {bit}");
    }
}
