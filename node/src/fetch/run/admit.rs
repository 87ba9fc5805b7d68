//! One more fetch of the manifest: what of its files is missing is wanted from now on.

use super::{Blob, FetchError, Run};
use crate::{
    fetch::{
        begin,
        caution::{LeftOut, Watch},
        wants::Want,
    },
    limits::WHOLE_LEN,
    progress::Phase,
    runs::{self, span},
    store::blocking,
};
use protocol::FileEntry;
use std::{collections::HashSet, time::Instant};

impl Run<'_> {
    /// Takes in one more fetch: what of its files is missing is wanted from now on.
    pub(super) async fn admit(&mut self, want: Want) -> Result<(), FetchError> {
        let wanted = |file: &&FileEntry| want.patterns.wants(file);
        let mut files: Vec<FileEntry> = self.manifest.files().iter().filter(wanted).cloned().collect();
        if files.is_empty() {
            let manifest = self.hash;
            // It is no failure of the job.
            let _ = want.done.send(Err(FetchError::NothingMatches { manifest }));
            return Ok(());
        }
        let denials = self.node.library().denials();
        let denied = files
            .iter()
            .find_map(|file| Some((file, denials.file(file.blake3)?)));
        if let Some((file, why)) = denied {
            let denied = FetchError::DeniedFile {
                path: file.path.as_str().to_owned(),
                manifest: self.hash,
                why: Box::new(why),
            };
            let _ = want.done.send(Err(denied));
            return Ok(());
        }
        let left_out = self.leave_out(&want, &mut files);
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
        let (mut total, mut left, mut new) = (0, 0, 0);
        for at in &missing {
            let blob = self.map.blobs()[*at];
            total += blob.len;
            let absent = runs::outside(&self.here, blob.shards()).into_iter();
            let absent = absent.map(|run| self.map.len_of(run)).sum::<u64>();
            left += absent;
            if !self.spoken_for.contains(at) {
                new += absent;
            }
        }
        // Room is set aside before anything is made: a manifest may claim any size.
        match self.node.library().store().room(new).await {
            Ok(room) => match &mut self.room {
                Some(rooms) => rooms.add(room),
                None => self.room = Some(room),
            },
            Err(error) => {
                let _ = want.done.send(Err(error.into()));
                return Ok(());
            }
        }
        self.spoken_for.extend(&missing);
        if want.paused {
            self.pause(true);
        }
        for peer in &want.known {
            self.crowd.meet(*peer);
        }
        want.progress.phase(Phase::Fetching, total, missing.len() as u64);
        want.progress.add(total - left, 0);
        for at in &missing {
            self.undrop(*at);
            let shards = self.map.blobs()[*at].shards();
            if self.first.contains(at) {
                self.plan.want(shards.start..shards.start + 1, true);
            }
            self.plan.want(shards, false);
        }
        let watched: Vec<(usize, FileEntry, Watch)> = files
            .iter()
            .filter_map(|file| {
                let at = self.map.find(file.blake3).filter(|at| missing.contains(at))?;
                let watch = want.caution.watches(file).filter(|_| file.size > WHOLE_LEN)?;
                Some((at, file.clone(), watch))
            })
            .collect();
        let blobs = &self.blobs;
        let whole = |at| blobs[at] == Blob::Loose;
        self.wants
            .add(Instant::now(), want, files, left_out, missing, whole);
        for (at, file, watch) in watched {
            self.watch(at, &file, watch);
        }
        Ok(())
    }

    /// Takes off a list what is known by now to be left out.
    fn leave_out(&self, want: &Want, files: &mut Vec<FileEntry>) -> Vec<LeftOut> {
        let mut left_out = Vec::new();
        files.retain(|file| {
            let code = self.map.find(file.blake3).and_then(|at| self.heads.code(at));
            let code = code.filter(|code| want.caution.leaves_out(file, *code));
            left_out.extend(code.map(|code| LeftOut::new(file, code)));
            code.is_none()
        });
        left_out
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
            let shards = found.shards(&blob);
            self.found(at, found);
            shards.into_iter().for_each(|run| self.landed(run));
        }
        Ok(())
    }
}
