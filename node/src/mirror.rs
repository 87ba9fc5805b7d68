//! The mirror: the newest releases of publishers whom the user chose are fetched whole, kept and served, all by themselves.
//!
//! - *Wanted* is the newest release of every repo whose name matches, unless the user let it go. What can run code comes too: others may want
//!   it, and nothing here runs it.
//! - The *rarest* comes first, over all publishers: what the fewest nodes say they have ([`queue`]).
//! - The *quota* of a publisher holds for the union of the blobs of all that is kept of it, manifests included: what two revisions share counts
//!   once. Room is made before the first byte is asked for ([`fit`]), and it is made by dropping revisions that a newer one took the place of,
//!   and that the mirror itself fetched: never the newest of a name, never what the user published, fetched or pinned.
//! - What the mirror answers for is *written down* before it is fetched ([`inventory`]): a crash leaves nothing behind that nobody knows of.
//!   What the user fetches, pins or publishes is taken off that list first, and is the user's from then on. What is on the list and not whole
//!   is kept from collection.
//!
//! It knows nothing of bytes: it asks for fetches, and waits politely while nobody has something, going on with the rest.

mod fit;
mod inventory;
mod keeping;
mod queue;
mod views;

pub(crate) use fit::Blobs;
pub use inventory::InventoryError;
pub(crate) use inventory::{Inventory, Kept};
pub(crate) use keeping::keep_mirroring;
pub(crate) use views::Board;
pub use views::{Lack, Lacking, MirrorView};

use std::sync::Arc;

use protocol::Manifest;

/// What a revision takes: its distinct blobs with their lengths in bytes, and its manifest.
pub(crate) fn blobs_of(manifest: &Manifest) -> Arc<Blobs> {
    let files = manifest.files().iter().filter(|file| file.size > 0);
    let mut blobs: Vec<_> = files.map(|file| (file.blake3, file.size)).collect();
    blobs.push((manifest.hash(), manifest.encode().len() as u64));
    blobs.sort_unstable();
    blobs.dedup_by_key(|(hash, _)| *hash);
    blobs.into()
}

#[cfg(test)]
mod tests;
