//! The heads of files come before the rest, and tell whether there is to be a rest: what can run code is left out of fetches that
//! did not ask for it, and a broken model ends them.

use super::{Blob, Run};
use crate::{
    check::{
        CheckError,
        code::{self, CodeKind, HEAD_LEN},
        facts::Format,
        gguf, safetensors,
    },
    fetch::{caution::Watch, wants::Judged},
    runs::{self, span},
    store::{Blob as Stored, Part, Store, StoreError, blocking},
};
use bytes::Bytes;
use protocol::{FileEntry, shard::shards_covering};
use std::{
    collections::HashMap,
    io::{self, Read},
    ops::Range,
    sync::Arc,
};
use tokio::task::JoinSet;

/// Bytes of a header that are looked at while a file is fetched, at most: the longest known have 20 MB.
const LOOK_LEN_MAX: u64 = 64 << 20;

/// What is known of the files that are looked at.
#[derive(Default)]
pub(super) struct Heads {
    /// Those of more than one shard, by their places in the map. The others come whole.
    long: HashMap<usize, Head>,
    /// Looks under way.
    looking: JoinSet<Result<(usize, Look), StoreError>>,
}

/// The head of one blob.
struct Head {
    path: Arc<str>,
    watch: Watch,
    /// The growing file, once it is known.
    part: Option<Arc<Part>>,
    /// The bytes that are needed for a look.
    need: Need,
    state: State,
}

/// Bytes of a file's beginning, of its end, and of some place between them.
#[derive(Clone)]
struct Need {
    head: u64,
    tail: u64,
    more: Range<u64>,
}

impl Need {
    /// The ranges of a file of `len` bytes.
    fn ranges(&self, len: u64) -> impl Iterator<Item = Range<u64>> {
        let ends = [0..self.head.min(len), len.saturating_sub(self.tail)..len];
        ends.into_iter()
            .chain([self.more.clone()])
            .filter(|range| !range.is_empty())
    }
}

enum State {
    /// The bytes have not all come.
    Coming,
    /// They are looked at.
    Looking,
    /// What was found.
    Judged(Verdict),
}

/// What was found in the head of a file.
#[derive(Clone)]
pub(in crate::fetch) enum Verdict {
    /// Nothing is wrong with it.
    Sound,
    /// This build does not read it.
    Unread(Arc<CheckError>),
    /// It breaks the rules of its format.
    Broken(Arc<CheckError>),
    /// It can run code.
    Code(CodeKind),
}

/// How a look ended.
enum Look {
    Done(Verdict),
    /// These bytes are needed too.
    More(Need),
}

impl Heads {
    /// What of a blob can run code, if that was found out.
    pub(super) fn code(&self, at: usize) -> Option<CodeKind> {
        match self.long.get(&at)?.state {
            State::Judged(Verdict::Code(code)) => Some(code),
            State::Judged(_) | State::Coming | State::Looking => None,
        }
    }

    /// Waits for the end of a look; `None` when there is none.
    pub(super) async fn next(&mut self) -> Option<Result<(usize, LookEnd), StoreError>> {
        let ended = self.looking.join_next().await?;
        let ended = ended.map_err(|_| StoreError::Closed).and_then(|ended| ended);
        Some(ended.map(|(at, look)| (at, LookEnd(look))))
    }

    /// Whether looks are under way.
    pub(super) fn looks(&self) -> bool {
        !self.looking.is_empty()
    }
}

/// How a look ended, for who began it.
pub(super) struct LookEnd(Look);

impl Run<'_> {
    /// Has a file of more than one shard looked at before the rest of it is believed.
    pub(super) fn watch(&mut self, at: usize, file: &FileEntry, watch: Watch) {
        // The list of an archive's files is at its end.
        let tail = code::tail_len(file.path.as_str());
        let need = Need {
            head: HEAD_LEN,
            tail,
            more: 0..0,
        };
        self.wants.unjudged(at);
        let head = self.heads.long.entry(at).or_insert_with(|| Head {
            path: file.path.as_str().into(),
            watch,
            part: None,
            need,
            state: State::Coming,
        });
        match &head.state {
            State::Judged(verdict) => {
                let verdict = verdict.clone();
                self.judge(at, &verdict);
            }
            State::Coming | State::Looking => {
                self.need(at);
                self.look_into(at);
            }
        }
    }

    /// Asks for the bytes that a look needs before the rest.
    fn need(&mut self, at: usize) {
        let Some(head) = self.heads.long.get(&at) else {
            return;
        };
        let blob = self.map.blobs()[at];
        for range in head.need.ranges(blob.len) {
            let local = shards_covering(blob.len, range);
            self.plan
                .want(blob.first + local.start..blob.first + local.end, true);
        }
    }

    /// Looks at the head of a blob, once all of it is here.
    pub(super) fn look_into(&mut self, at: usize) {
        let Some(head) = self.heads.long.get_mut(&at) else {
            return;
        };
        // It is kept: the job forgets it as soon as it is safe.
        if head.part.is_none() {
            head.part = self.parts.get(&at).cloned();
        }
        let Some(part) = head.part.clone() else { return };
        let len = part.blob.len;
        // If it is left out, whoever fetches it from us has to see the same: only whole shards can be given on.
        let (shards, mut ranges) = (part.shards(), head.need.ranges(len));
        let here = ranges.all(|range| shards.contains_all_in_range(span(&shards_covering(len, range))));
        if !here || !matches!(head.state, State::Coming) {
            return;
        }
        head.state = State::Looking;
        let (watch, path, need) = (head.watch, head.path.clone(), head.need.clone());
        let store = self.node.library().store().clone();
        self.heads.looking.spawn(blocking(move || {
            Ok((at, look(&store, &part, watch, &path, need)?))
        }));
    }

    /// Takes in how a look ended.
    pub(super) fn looked(&mut self, at: usize, LookEnd(look): LookEnd) {
        let Some(head) = self.heads.long.get_mut(&at) else {
            return;
        };
        match look {
            Look::More(need) => {
                head.need = need;
                head.state = State::Coming;
                self.need(at);
                self.look_into(at);
            }
            Look::Done(verdict) => {
                head.state = State::Judged(verdict.clone());
                self.judge(at, &verdict);
            }
        }
    }

    /// Tells those who wait for a blob what was found in it. When nobody wants it any more, it is not asked for.
    fn judge(&mut self, at: usize, verdict: &Verdict) {
        let blob = self.map.blobs()[at];
        let absent = runs::outside(&self.here, blob.shards()).into_iter();
        let absent = absent.map(|run| self.map.len_of(run)).sum();
        self.wants.judged(&Judged {
            at,
            blob: blob.hash,
            absent,
            manifest: self.hash,
            verdict,
        });
        let dropped = self.blobs[at] == Blob::Missing && !self.wants.wait_for(at);
        if dropped && self.spoken_for.remove(&at) {
            // To the plan it is as if it were here: it is not asked for, and what is under way is stopped.
            self.plan.landed(blob.shards());
            self.dropped.insert(at);
        }
    }

    /// Wants a blob again that nobody wanted any more.
    pub(super) fn undrop(&mut self, at: usize) {
        if self.dropped.remove(&at) {
            let shards = self.map.blobs()[at].shards();
            let absent = runs::outside(&self.here, shards);
            absent.into_iter().for_each(|run| self.plan.lost(run));
        }
    }
}

/// Looks at ranges of a growing file, of which those that were needed are here. Blocking.
fn look(store: &Store, part: &Arc<Part>, watch: Watch, path: &str, need: Need) -> Result<Look, StoreError> {
    let (hash, len) = (part.blob.hash, part.blob.len);
    let stored = Stored::Growing(part.clone());
    let (shards, mut absent) = (part.shards(), None);
    let code = code::look(path, len, |range| {
        let here = shards.contains_all_in_range(span(&shards_covering(len, range.clone())));
        match here {
            true => store.read_range(hash, &stored, range),
            false => {
                absent = Some(range);
                Err(StoreError::Missing(hash))
            }
        }
    });
    match (code, absent) {
        (Ok(Some(code)), _) => return Ok(Look::Done(Verdict::Code(code))),
        (Ok(None), _) => {}
        (Err(_), Some(more)) => return Ok(Look::More(Need { more, ..need })),
        (Err(error), None) => return Err(error),
    }
    let head = store.read_range(hash, &stored, 0..need.head.min(len))?;
    Ok(match watch {
        Watch::Code => Look::Done(Verdict::Sound),
        Watch::Header(format) => match read_header(format, &head, len) {
            Ok(()) => Look::Done(Verdict::Sound),
            Err(CheckError::Read(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                match more(head.len() as u64, len) {
                    Ok(more) => Look::More(Need { head: more, ..need }),
                    Err(error) => Look::Done(Verdict::Unread(Arc::new(error))),
                }
            }
            Err(error) if error.is_broken() => Look::Done(Verdict::Broken(Arc::new(error))),
            Err(error) => Look::Done(Verdict::Unread(Arc::new(error))),
        },
    })
}

/// How many bytes of a header are looked at next, when so many were not all of it.
fn more(looked: u64, len: u64) -> Result<u64, CheckError> {
    match looked < LOOK_LEN_MAX {
        true => Ok(looked.saturating_mul(2).min(len)),
        false => Err(CheckError::Bound {
            what: "bytes of a header, while it is fetched",
            found: looked,
            most: LOOK_LEN_MAX,
        }),
    }
}

/// Reads a header of which the first bytes are here; where it goes on behind them, the error is [`io::ErrorKind::WouldBlock`].
fn read_header(format: Format, head: &Bytes, len: u64) -> Result<(), CheckError> {
    let source = head.as_ref().chain(NotHere(head.len() as u64 >= len));
    match format {
        Format::Safetensors => safetensors::read(source, len).map(drop),
        Format::Gguf => gguf::read(source, len).map(drop),
    }
}

/// What follows the bytes that are here: nothing where these are all, else more that has not come.
struct NotHere(bool);

impl Read for NotHere {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self.0 || room.is_empty() {
            true => Ok(0),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
