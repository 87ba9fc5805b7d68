//! What two nodes agree on when they compare which releases they know: how many are in a range is no secret, which ones they are is summed up by
//! a fingerprint under a key of the session.
//!
//! Nobody can prepare releases that make two different sets look alike: half of the key is drawn by each side when the session begins. How
//! messages are made of ranges is negentropy's protocol; this module has only what is our own in it.

use crate::release::ReleaseId;

/// Bytes of each side's half of a session's key.
pub const NONCE_LEN: usize = 16;

/// Bytes of a fingerprint.
pub const FINGERPRINT_LEN: usize = 16;

/// Ids that are hashed at once: 16 KiB, for which BLAKE3 uses all of a processor.
const TOGETHER: usize = 512;

/// The key of one session.
#[derive(Clone)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// Makes the key of the two halves: that of who opened the stream, and that of who accepted it.
    pub fn new(opener: &[u8; NONCE_LEN], accepter: &[u8; NONCE_LEN]) -> SessionKey {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"shoal reconcile 1");
        hasher.update(opener);
        hasher.update(accepter);
        SessionKey(*hasher.finalize().as_bytes())
    }

    /// The fingerprint of a range: of its ids in their order, each once. Time is linear in their number, about 10 ns each.
    pub fn fingerprint<'a>(&self, ids: impl IntoIterator<Item = &'a ReleaseId>) -> [u8; FINGERPRINT_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        let mut together = Vec::new();
        for id in ids {
            together.extend_from_slice(id.as_bytes());
            if together.len() >= TOGETHER.saturating_mul(32) {
                hasher.update(&together);
                together.clear();
            }
        }
        hasher.update(&together);
        let hash = hasher.finalize();
        let first = hash.as_bytes().first_chunk::<FINGERPRINT_LEN>();
        *first.expect("32 bytes begin with 16")
    }
}
