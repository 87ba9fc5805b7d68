//! One more fetch of the manifest: what of its files is missing is wanted from now on.

use super::{Blob, FetchError, Run};
use crate::{
    fetch::{
        begin::{self, Found},
        wants::Want,
    },
    progress::Phase,
    runs::span,
    store::blocking,
};
use protocol::FileEntry;
use std::collections::HashSet;

impl Run<'_> {
    /// Takes in one more fetch: what of its files is missing is wanted from now on.
    pub(super) async fn admit(&mut self, want: Want) -> Result<(), FetchError> {
        let wanted = |file: &&FileEntry| want.patterns.wants(file);
        let files: Vec<FileEntry> = self.manifest.files().iter().filter(wanted).cloned().collect();
        if files.is_empty() {
            let manifest = self.hash;
            // It is no failure of the job.
            let _ = want.done.send(Err(FetchError::NothingMatches { manifest }));
            return Ok(());
        }
        let places: HashSet<usize> = files
            .iter()
            .filter_map(|file| self.map.find(file.blake3))
            .collect();
        if let Err(error) = self.look_again(&places).await {
            let _ = want.done.send(Err(error));
            return Ok(());
        }
        let missing: HashSet<usize> = places
            .into_iter()
            .filter(|at| self.blobs[*at] != Blob::Safe)
            .collect();
        let (mut total, mut here) = (0, 0);
        for at in &missing {
            let shards = self.map.blobs()[*at].shards();
            total += self.map.blobs()[*at].len;
            let ones = shards.clone().filter(|shard| self.here.contains(*shard as usize));
            here += ones.map(|shard| self.map.len_of(shard..shard + 1)).sum::<u64>();
        }
        // Room is looked for before anything is made: a manifest may claim any size.
        if let Err(error) = self.node.library().store().check_room(total - here).await {
            let _ = want.done.send(Err(error.into()));
            return Ok(());
        }
        if want.paused {
            self.pause(true);
        }
        for peer in &want.known {
            self.crowd.meet(*peer, Vec::new());
        }
        want.progress.phase(Phase::Fetching, total, missing.len() as u64);
        want.progress.add(here, 0);
        for at in &missing {
            for shard in self.map.blobs()[*at].shards() {
                self.plan
                    .want(shard..shard + 1, self.first.contains(shard as usize));
            }
        }
        let blobs = &self.blobs;
        self.wants
            .add(want, files, missing, |at| blobs[at] == Blob::Loose);
        Ok(())
    }

    /// Looks again at wanted blobs that were safe and turned out to be damaged.
    pub(super) async fn look_again(&mut self, places: &HashSet<usize>) -> Result<(), FetchError> {
        let store = self.node.library().store().clone();
        let safe = places.iter().copied().filter(|at| self.blobs[*at] == Blob::Safe);
        let damaged: Vec<usize> = safe
            .filter(|at| store.is_damaged(self.map.blobs()[*at].hash))
            .collect();
        if damaged.is_empty() {
            return Ok(());
        }
        let (map, again) = (self.map.clone(), damaged.clone());
        let found = blocking(move || begin::look(&store, &map, &again)).await?;
        for (at, found) in damaged.into_iter().zip(found) {
            let blob = self.map.blobs()[at];
            self.blobs[at] = Blob::Missing;
            self.here.set_range(span(&blob.shards()), false);
            self.plan.lost(blob.shards());
            let runs = match &found {
                Found::Nothing => Vec::new(),
                Found::Safe | Found::Left(_) => vec![blob.shards()],
                Found::Some(_, runs) => {
                    let global = runs
                        .iter()
                        .map(|run| blob.first + run.start..blob.first + run.end);
                    global.collect()
                }
            };
            self.found(at, found);
            runs.into_iter().for_each(|run| self.landed(run));
        }
        Ok(())
    }
}
