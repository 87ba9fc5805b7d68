//! What is said over the control API: the same types on both sides. Everything is JSON; answers of short verbs are one
//! value, those of long ones a stream of [`Line`]s, one a line.

mod changes;
mod identity;
mod mirroring;
mod moderating;
mod running;
mod validating;

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

pub use changes::{EveryJob, JobAsk, JobPick, JobPickError, JobsAnswer, LimitsAsk};
pub use identity::{RecoverAsk, RevokeAsk, RotateAsk};
pub use libp2p::Multiaddr;
pub use mirroring::{MirrorAnswer, MirrorAsk, QuotaAsk, TermsAsk};
pub use moderating::{AllowAsk, DeniedAsk, DenyAsk, DenylistAsk, UnsubscribedAnswer};
use protocol::{
    Alias, Hash, HashError, Kind, Publisher, RepoName, RepoRef, RepoRefError, Ticket, TicketError,
};
pub use running::{RunAsk, RunLine};
use serde::{Deserialize, Serialize};
pub use validating::{AttestationsAsk, ProbeAsk, SomeRepoAsk, ValidateAsk};

use crate::fetch::FetchWhat;
use crate::progress::Snapshot;
use crate::publish::Published;
use crate::swarm::PeerView;

/// Where every route of the control API begins.
pub const ROOT: &str = "/api/shoal/v1";

/// Exit code of a program whose work could not be done.
pub const FAILED: u8 = 1;

/// Exit code of a program that found bytes, or a signature, that are not what they should be.
pub const NOT_VERIFIED: u8 = 3;

/// One line of the answer of a long verb. The last is `Done` or `Failed`; a stream that ends without it was cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line<T> {
    /// How far it is; at most five a second.
    Progress(Snapshot),
    /// It is done.
    Done {
        /// What came out.
        result: T,
    },
    /// It was not to be done.
    Failed(ErrorAnswer),
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// What went wrong, and what that came from.
    pub error: Vec<String>,
    /// The next step, if we know one.
    pub hint: Option<String>,
    /// The exit code of a command that did this: [`FAILED`] or [`NOT_VERIFIED`].
    pub code: u8,
}

impl ErrorAnswer {
    /// What to say of an error. A message that its cause only repeats is said once.
    pub fn of(error: &(dyn Error + 'static)) -> ErrorAnswer {
        let mut chain: Vec<String> = Vec::new();
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string().trim_end().to_owned();
            if chain.last().is_none_or(|last| !last.ends_with(&text)) {
                chain.push(text);
            }
            next = error.source();
        }
        ErrorAnswer {
            error: chain,
            hint: super::hint(error),
            code: FAILED,
        }
    }

    /// What to say where there is no error to ask.
    pub fn new(error: impl Into<String>, hint: &str) -> ErrorAnswer {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        ErrorAnswer {
            error: vec![error.into()],
            hint,
            code: FAILED,
        }
    }
}

/// Which repo: the query of `show` and `ticket`, the body of `verify`, `proof`, `pin` and `forget`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepoAsk {
    /// `PUBLISHER/NAME`, `ALIAS/NAME` or `blake3/HASH`.
    #[serde(with = "as_text")]
    pub repo: RepoRef,
}

/// The body of a verb that needs no more: `collect`, `catalog/rebuild`, `shutdown`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The body of `publish`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishAsk {
    /// The folder or file; absolute, since the daemon stands elsewhere.
    pub path: PathBuf,
    /// The repo's name; made from the folder's if there is none.
    #[serde(default)]
    pub name: Option<RepoName>,
    /// What it is.
    pub kind: Kind,
    /// Copy the bytes instead of serving them from where they lie.
    #[serde(default)]
    pub copy: bool,
    /// Refuse what has no card that says enough.
    #[serde(default)]
    pub require_card: bool,
}

/// The answer of `publish`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublishAnswer {
    /// What was published.
    pub published: Published,
    /// What to give to others.
    #[serde(with = "as_text")]
    pub ticket: Ticket,
}

/// The body of `fetch`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchAsk {
    /// What to fetch.
    #[serde(with = "as_text")]
    pub what: Wanted,
    /// Where to hand the files out; absolute. `None`: they are only kept.
    #[serde(default)]
    pub to: Option<PathBuf>,
    /// Only files that match one of these globs; all if there are none.
    #[serde(default)]
    pub include: Vec<String>,
    /// No file that matches one of these globs.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Whether files come too that can run code when they are loaded.
    #[serde(default)]
    pub allow_code: bool,
    /// Nodes to connect to first.
    #[serde(default)]
    pub peers: Vec<Multiaddr>,
    /// Give up when nobody has what is missing for so many seconds. `None`: never, once the fetch has begun.
    #[serde(default)]
    pub wait_s: Option<u64>,
    /// A cache of the Hub's clients to hand the files out to; absolute.
    #[serde(default)]
    pub hf_cache: Option<PathBuf>,
}

/// The body of `follow`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowAsk {
    /// Whom.
    pub publisher: Publisher,
    /// What to call it.
    pub alias: Alias,
}

/// The body of `unfollow`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnfollowAsk {
    /// Whom.
    pub publisher: Publisher,
}

/// The answer of `unfollow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfollowAnswer {
    /// Whether it was followed.
    pub followed: bool,
}

/// The answer of `ticket`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TicketAnswer {
    /// The ticket.
    #[serde(with = "as_text")]
    pub ticket: Ticket,
}

/// One connected peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerAnswer {
    /// Its identity.
    pub peer: String,
    /// The far ends of our connections to it.
    pub addresses: Vec<Multiaddr>,
    /// Whether one of them needs no relay.
    pub direct: bool,
    /// Whether it takes part in the DHT.
    pub dht: bool,
    /// What it calls itself.
    pub agent: Option<String>,
    /// The last round trip, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// How long we are connected, in seconds.
    pub connected_s: u64,
}

/// What can be fetched. Text: `PUBLISHER/NAME`, `ALIAS/NAME`, `blake3/HASH`, a manifest's hash, or a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A repo or a revision.
    Repo(RepoRef),
    /// What a ticket names.
    Ticket(Ticket),
}

/// Why a text names nothing to fetch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    /// It starts as a ticket.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// It is as long as a hash.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// It is none of those.
    #[error(transparent)]
    Repo(#[from] RepoRefError),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Repo(repo) => repo.fmt(f),
            Wanted::Ticket(ticket) => ticket.fmt(f),
        }
    }
}

impl FromStr for Wanted {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Wanted, WantedError> {
        if text.starts_with("shoal:") {
            return Ok(Wanted::Ticket(text.parse()?));
        }
        if text.len() == 64 && !text.contains('/') {
            return Ok(Wanted::Repo(RepoRef::Content(text.parse::<Hash>()?)));
        }
        Ok(Wanted::Repo(text.parse()?))
    }
}

impl From<Wanted> for FetchWhat {
    fn from(wanted: Wanted) -> FetchWhat {
        match wanted {
            Wanted::Repo(repo) => FetchWhat::Repo(repo),
            Wanted::Ticket(ticket) => FetchWhat::Ticket(ticket),
        }
    }
}

impl From<&PeerView> for PeerAnswer {
    fn from(view: &PeerView) -> PeerAnswer {
        PeerAnswer {
            peer: view.peer.to_string(),
            addresses: view.addresses.clone(),
            direct: view.direct,
            dht: view.dht,
            agent: view.agent.clone(),
            rtt_ms: view.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
            connected_s: Instant::now().saturating_duration_since(view.since).as_secs(),
        }
    }
}

/// Serde for what has a text form and is checked when it is parsed.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
