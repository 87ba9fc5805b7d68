//! What of a manifest's blobs is here when its job begins, by the files that an earlier fetch left; and what comes first.

use crate::{
    limits::{SMALL_LEN, WHOLE_LEN},
    runs,
    store::{Fresh, Part, Store, StoreError},
};
use protocol::{Manifest, NumberedBlob, ShardMap};
use std::{collections::HashSet, ops::Range, sync::Arc};

/// What was found of a missing blob.
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// It is whole and in its place after all.
    Safe,
    /// An interrupted fetch left it whole; it has to be settled.
    Left(Fresh),
    /// It has more than one shard, and these are here.
    Some(Arc<Part>, Vec<Range<u32>>),
}

impl Found {
    /// The shards of `blob` that are here by it, by their numbers in the map.
    pub(super) fn shards(&self, blob: &NumberedBlob) -> Vec<Range<u32>> {
        match self {
            Found::Nothing => Vec::new(),
            Found::Safe | Found::Left(_) => vec![blob.shards()],
            Found::Some(_, runs) => {
                let global = |run: &Range<u32>| blob.first + run.start..blob.first + run.end;
                runs.iter().map(global).collect()
            }
        }
    }
}

/// Looks at what there is of missing blobs, by their places in the map; makes no file. Blocking.
pub(super) fn look(store: &Store, map: &ShardMap, missing: &[usize]) -> Result<Vec<Found>, StoreError> {
    let find = |at: &usize| {
        let blob = map.blobs()[*at];
        if store.demote(blob.hash, blob.len)? {
            return Ok(Found::Safe);
        }
        if blob.len > WHOLE_LEN && store.is_begun(blob.hash) {
            let part = store.part(blob.hash, blob.len)?;
            let shards = runs::of(&part.shards()).collect();
            return Ok(Found::Some(part, shards));
        }
        if (SMALL_LEN + 1..=WHOLE_LEN).contains(&blob.len)
            && let Some(fresh) = store.left_whole(blob.hash, blob.len)?
        {
            return Ok(Found::Left(fresh));
        }
        Ok(Found::Nothing)
    };
    missing.iter().map(find).collect()
}

/// Returns the blobs whose first shards are worth having before the rest, by their places in the map: small files, which say
/// what a model is and how it is used, and weights, which begin with a header.
pub(super) fn first(manifest: &Manifest, map: &ShardMap) -> HashSet<usize> {
    let headed = |path: &str| path.ends_with(".safetensors") || path.ends_with(".gguf");
    let files = manifest.files().iter();
    let first = files.filter(|file| file.size <= WHOLE_LEN || headed(file.path.as_str()));
    first.filter_map(|file| map.find(file.blake3)).collect()
}
