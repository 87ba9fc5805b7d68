//! Who waits for what of a job: each fetch names files, and is told when their blobs are safe.

use super::{
    FetchError, Patterns,
    caution::{Caution, LeftOut},
    jobs::Brought,
    run::Verdict,
};
use crate::{
    check::{
        code::CodeKind,
        facts::{Format, Problem},
    },
    progress::{Phase, Progress, Snapshot},
    store::Held,
};
use libp2p::PeerId;
use protocol::{FileEntry, Hash, Manifest, ShardMap};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// One fetch of some files of a manifest.
pub(crate) struct Want {
    /// Which files.
    pub(super) patterns: Arc<Patterns>,
    /// What of them it would rather not have.
    pub(super) caution: Arc<Caution>,
    /// How long to wait while nobody has what is missing; `None`: until somebody has.
    pub(super) wait: Option<Duration>,
    /// Where it is shown how far it is.
    pub(super) progress: Progress,
    /// Peers to begin with.
    pub(super) known: Vec<PeerId>,
    /// Whether to ask nobody until the user says so.
    pub(super) paused: bool,
    /// Who waits.
    pub(super) done: oneshot::Sender<Result<Brought, FetchError>>,
}

/// A want whose files are known.
struct Waiting {
    want: Want,
    since: Instant,
    files: Vec<FileEntry>,
    left_out: Vec<LeftOut>,
    problems: Vec<Problem>,
    /// Those of its missing blobs that are looked at, and were not judged yet.
    unjudged: HashSet<usize>,
    /// The blobs that were not safe when it came, by their places in the map.
    missing: HashSet<usize>,
    /// Those of them that are not whole yet.
    unlanded: HashSet<usize>,
    /// Those of them that are not safe yet.
    perilous: HashSet<usize>,
    shares: BTreeMap<PeerId, u64>,
}

/// What was found at the head of a blob.
pub(super) struct Judged<'a> {
    /// Its place in the map.
    pub(super) at: usize,
    /// The blob.
    pub(super) blob: Hash,
    /// Bytes of it that are not here.
    pub(super) absent: u64,
    /// The manifest.
    pub(super) manifest: Hash,
    /// What was found.
    pub(super) verdict: &'a Verdict,
}

impl Waiting {
    /// Takes in what was found at the head of a blob: what it would not have is left out. Returns why it ends, if it does.
    fn judged(&mut self, judged: &Judged) -> Option<FetchError> {
        let Judged { at, blob, .. } = *judged;
        self.unjudged.remove(&at);
        let mut files = self.files.iter().filter(|file| file.blake3 == blob);
        if !self.missing.contains(&at) {
            return None;
        }
        let caution = &self.want.caution;
        caution.note(
            blob,
            match judged.verdict {
                Verdict::Code(code) => Some(*code),
                Verdict::Sound | Verdict::Unread(_) | Verdict::Broken(_) => None,
            },
        );
        match judged.verdict {
            Verdict::Sound => {}
            Verdict::Unread(error) => {
                let files = files.filter(|file| Format::of(file.path.as_str()).is_some());
                self.problems.extend(files.map(|file| Problem {
                    path: file.path.as_str().to_owned(),
                    what: error.to_string(),
                    broken: false,
                }));
            }
            Verdict::Broken(source) => {
                let first = files.clone().next()?;
                return files
                    .all(|file| caution.ends_at(file))
                    .then(|| FetchError::Broken {
                        manifest: judged.manifest,
                        path: first.path.as_str().to_owned(),
                        source: source.clone(),
                    });
            }
            Verdict::Code(code) => {
                // If one of its files is to be here, so is the blob.
                if files.all(|file| caution.leaves_out(file, *code)) {
                    self.leave_out(blob, *code);
                    let landed = !self.unlanded.remove(&at);
                    self.want.progress.less(judged.absent, u64::from(!landed));
                    self.missing.remove(&at);
                    self.perilous.remove(&at);
                }
            }
        }
        None
    }

    /// Leaves the files out that are a blob which can run code.
    fn leave_out(&mut self, blob: Hash, code: CodeKind) {
        let (caution, left_out) = (&self.want.caution, &mut self.left_out);
        self.files.retain(|file| {
            let out = file.blake3 == blob && caution.leaves_out(file, code);
            if out {
                left_out.push(LeftOut::new(file, code));
            }
            !out
        });
    }
}

/// Everybody who waits for a job.
#[derive(Default)]
pub(super) struct Wants(Vec<Waiting>);

impl Wants {
    /// Adds one that comes `now`: `whole` of its `missing` blobs wait only to be made durable.
    pub(super) fn add(
        &mut self,
        now: Instant,
        want: Want,
        files: Vec<FileEntry>,
        left_out: Vec<LeftOut>,
        missing: HashSet<usize>,
        whole: impl Fn(usize) -> bool,
    ) {
        self.0.push(Waiting {
            want,
            since: now,
            files,
            left_out,
            problems: Vec::new(),
            unjudged: HashSet::new(),
            unlanded: missing.iter().copied().filter(|at| !whole(*at)).collect(),
            perilous: missing.clone(),
            missing,
            shares: BTreeMap::new(),
        });
    }

    /// A blob of the last one that was added is looked at: it is not done before that is over.
    pub(super) fn unjudged(&mut self, blob: usize) {
        if let Some(waiting) = self.0.last_mut() {
            waiting.unjudged.insert(blob);
        }
    }

    /// Tells everybody what was found at the head of a blob.
    pub(super) fn judged(&mut self, judged: &Judged) {
        for mut waiting in std::mem::take(&mut self.0) {
            match waiting.judged(judged) {
                None => self.0.push(waiting),
                // Who has gone away does not need it.
                Some(error) => drop(waiting.want.done.send(Err(error))),
            }
        }
    }

    /// Tells whether somebody waits for a blob.
    pub(super) fn wait_for(&self, blob: usize) -> bool {
        self.0.iter().any(|waiting| waiting.missing.contains(&blob))
    }

    /// Verified bytes of a blob came from a peer.
    pub(super) fn came(&mut self, blob: usize, peer: PeerId, bytes: u64) {
        for waiting in self
            .0
            .iter_mut()
            .filter(|waiting| waiting.missing.contains(&blob))
        {
            waiting.want.progress.add(bytes, 0);
            *waiting.shares.entry(peer).or_default() += bytes;
        }
    }

    /// A blob is whole.
    pub(super) fn landed(&mut self, blob: usize) {
        for waiting in &mut self.0 {
            if waiting.unlanded.remove(&blob) {
                waiting.want.progress.add(0, 1);
            }
        }
    }

    /// A blob is whole and durable, or will be with the pin of its manifest.
    pub(super) fn safe(&mut self, blob: usize) {
        self.landed(blob);
        for waiting in &mut self.0 {
            waiting.perilous.remove(&blob);
        }
    }

    /// Tells whether somebody waits for nothing but that what is here be made durable.
    pub(super) fn wait_for_storing(&self) -> bool {
        let mut waiting = self.0.iter();
        waiting.any(|waiting| waiting.unlanded.is_empty() && !waiting.perilous.is_empty())
    }

    /// Tells those whose blobs are all safe.
    pub(super) fn tell_done(&mut self, manifest: &Arc<Manifest>, map: &ShardMap, held: &Held) {
        let done = |waiting: &mut Waiting| waiting.perilous.is_empty() && waiting.unjudged.is_empty();
        for waiting in self.0.extract_if(.., done) {
            let brought = Brought {
                manifest: manifest.clone(),
                files: waiting.files,
                left_out: waiting.left_out,
                problems: waiting.problems,
                blobs: waiting.missing.iter().map(|at| map.blobs()[*at].hash).collect(),
                shares: waiting.shares,
                _held: held.clone(),
            };
            // Who has gone away does not need it.
            let _ = waiting.want.done.send(Ok(brought));
        }
    }

    /// Forgets those who went away.
    pub(super) fn forget_gone(&mut self) {
        self.0.retain(|waiting| !waiting.want.done.is_closed());
    }

    /// Sends away those who do not want to wait any longer: nothing has come since `fruitful`, or since they came.
    pub(super) fn send_away(
        &mut self,
        fruitful: Instant,
        now: Instant,
        error: impl Fn(Duration) -> FetchError,
    ) {
        let waited = |waiting: &Waiting| now.saturating_duration_since(fruitful.max(waiting.since));
        let impatient = |waiting: &mut Waiting| waiting.want.wait.is_some_and(|wait| waited(waiting) >= wait);
        for waiting in self.0.extract_if(.., impatient) {
            let error = error(waited(&waiting));
            let _ = waiting.want.done.send(Err(error));
        }
    }

    /// Ends one of them with an error, and the others without one: they ask again, and learn it themselves.
    pub(super) fn fail(&mut self, error: FetchError) {
        let mut all = std::mem::take(&mut self.0).into_iter();
        if let Some(first) = all.next() {
            let _ = first.want.done.send(Err(error));
        }
    }

    /// Ends all of them.
    pub(super) fn end(&mut self, error: impl Fn() -> FetchError) {
        for waiting in std::mem::take(&mut self.0) {
            let _ = waiting.want.done.send(Err(error()));
        }
    }

    /// Shows all of them something.
    pub(super) fn show(&self, show: impl Fn(&Progress)) {
        self.0.iter().for_each(|waiting| show(&waiting.want.progress));
    }

    /// Shows all of them that what came is being made durable.
    pub(super) fn show_storing(&self) {
        let storing = |waiting: &&Waiting| waiting.unlanded.is_empty();
        for waiting in self.0.iter().filter(storing) {
            waiting.want.progress.phase(Phase::Storing, 0, 0);
        }
    }

    /// Returns how far the first of them is.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.0
            .first()
            .map(|waiting| waiting.want.progress.snapshot())
            .unwrap_or_default()
    }

    /// Tells whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::{FetchRequest, FetchWhat};
    use protocol::{Hash, RepoRef};
    use tokio::sync::oneshot::error::TryRecvError;

    #[test]
    fn who_joins_late_waits_from_when_it_came() {
        let manifest = Hash::of(b"manifest");
        let request = FetchRequest::new(FetchWhat::Repo(RepoRef::Content(manifest)));
        let (done, mut told) = oneshot::channel();
        let want = Want {
            patterns: Arc::new(Patterns::new(&request).unwrap()),
            caution: Arc::new(Caution::new(None, &request)),
            wait: Some(Duration::from_secs(2)),
            progress: Progress::default(),
            known: Vec::new(),
            paused: false,
            done,
        };
        let at = |fruitful: Instant, seconds| fruitful + Duration::from_secs(seconds);
        let mut wants = Wants::default();
        let fruitful = Instant::now();
        wants.add(at(fruitful, 60), want, Vec::new(), Vec::new(), [0].into(), |_| {
            false
        });
        let gone = |waited| FetchError::NoProvider {
            manifest,
            waited,
            missing: 1,
        };
        wants.send_away(fruitful, at(fruitful, 61), gone);
        assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
        wants.send_away(fruitful, at(fruitful, 62), gone);
        let Ok(Err(FetchError::NoProvider { waited, .. })) = told.try_recv() else {
            panic!("it still waits");
        };
        assert_eq!(waited, Duration::from_secs(2));
        assert!(wants.is_empty());
    }
}
