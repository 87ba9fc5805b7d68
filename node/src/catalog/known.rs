//! A known release as a row: everything it takes to make its signed bytes and its card's bytes again, and nothing twice.
//!
//! A row begins with what a walk over all of them needs (its id, when it was issued, when it came), so that the rest is left alone. JSON, hex and the
//! card's hash are not kept: a release and a card have one encoding each, made again by `protocol`. Frequent words are [`packed`](super::packed).

use protocol::card::Summary;
use protocol::release::{self, ReleaseId, SIGNATURE_LEN};
use protocol::{Hash, Kind, Publisher, Release, ReleaseError, RepoId, RepoName, SignedRelease, Upstream};
use serde::{Deserialize, Serialize};

use super::engine::{Change, Engine, Fault, Tree};
use super::packed;
use super::record::{Unreadable, VERSION};

/// Largest row of a known release, in bytes: a card of 2 KiB, the longest names, four hashes and a signature. sled joins up to 20 rows on a page, which stays
/// far below the 128 KiB from which it would be a file that nobody fsyncs.
pub const KNOWN_ROW_LEN_MAX: usize = 3 * 1024;

/// The first 16 bytes of [`release::key_of`]: the key of a known release, the first half of its id, and its name in the search index.
pub type NameKey = [u8; 16];

/// The key of what is known of a repo.
pub fn name_key(repo: &RepoId) -> NameKey {
    ReleaseId::half_of(repo)
}

/// The newest release of a name that this node knows and keeps, with its card. It was verified when it was put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRow {
    /// The release.
    pub release: Release,
    /// Its publisher's signature.
    pub signature: [u8; SIGNATURE_LEN],
    /// Its card. `None`: it has none, or we do not have it.
    pub card: Option<Summary>,
    /// When the first release of this name that was seen here was signed, in Unix seconds; never later than this one.
    pub created: u64,
    /// A number that only grows, the caller's: what came later has a larger one. By it the search index knows what it has yet to take in.
    pub arrived: u64,
}

/// What is known in all: kept with the rows, so that nobody walks over millions to count them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many names there are rows of.
    pub names: u64,
    /// The largest [`KnownRow::arrived`] there was; 0 where nothing is known.
    pub arrived: u64,
}

/// What a walk over all known releases needs of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownItem {
    /// Its id.
    pub id: ReleaseId,
    /// When it was signed, in Unix seconds by its publisher's clock.
    pub issued: u64,
    /// When it came: see [`KnownRow::arrived`].
    pub arrived: u64,
    /// Whose it is.
    pub publisher: Publisher,
}

impl KnownRow {
    /// The row of the first release of its name. A card that is not the release's is left out.
    pub fn of(signed: &SignedRelease, card: Option<Summary>, arrived: u64) -> KnownRow {
        let release = signed.release().clone();
        let belongs = |card: &Summary| card.hash().is_ok_and(|hash| release.card == Some(hash));
        KnownRow {
            card: card.filter(belongs),
            signature: signed.signature(),
            created: release.issued,
            release,
            arrived,
        }
    }

    /// The key of the row.
    pub fn key(&self) -> NameKey {
        name_key(&self.release.repo())
    }

    /// The id of the release. Costs its encoding and a hash, some microseconds.
    pub fn id(&self) -> ReleaseId {
        ReleaseId::new(self.release.key(), Hash::of(&self.encoding()))
    }

    /// The signed bytes, as they came.
    pub fn encoding(&self) -> Vec<u8> {
        self.release.encode_with(&self.signature)
    }

    /// The release with its signature. Costs a verification, about 50 microseconds.
    ///
    /// # Errors
    /// Those of [`SignedRelease::decode`]: the row was not made of a signed release.
    pub fn signed(&self) -> Result<SignedRelease, ReleaseError> {
        SignedRelease::decode(&self.encoding())
    }
}

/// What stands first in a row.
#[derive(Serialize, Deserialize)]
struct Head {
    issued: u64,
    content: [u8; 16],
    arrived: u64,
    publisher: Publisher,
}

/// The rest of it.
#[derive(Serialize, Deserialize)]
struct Body {
    signature: ([u8; 32], [u8; 32]),
    name: RepoName,
    kind: Kind,
    manifest: Hash,
    seq: u64,
    prev: Option<Hash>,
    /// From when it was issued until it expires, in seconds.
    life: u64,
    upstream: Option<Origin>,
    card: Card,
    // Behind it, where it is not 0: how many seconds before this release the first one of its name was signed.
}

/// The card of a release: its hash, or that of which the hash is made.
#[derive(Serialize, Deserialize)]
enum Card {
    None,
    Hash(Hash),
    Summary(Box<Summary>),
}

/// Where a copy is from: the hub's host packed, the commit as bytes.
#[derive(Serialize, Deserialize)]
struct Origin {
    commit: Vec<u8>,
    hub: String,
    /// `None`: an owner's, of the same name as here.
    repo: Option<String>,
    owner: String,
}

/// Where the tally lies, in the tree of the catalog's own notes.
const TALLY: &[u8] = b"known";
/// Rows that are counted at a time where there is no tally.
const COUNTED: usize = 1_024;

/// Reads the tally. An earlier build kept none: then all rows are counted.
pub(super) fn tally(engine: &Engine) -> Result<Tally, Fault> {
    let unreadable = |what| Fault::Damaged(format!("{what} does not decode"));
    if let Some(value) = engine.get(Tree::Meta, TALLY)? {
        return postcard::from_bytes(&value).map_err(|_| unreadable("the tally of known releases"));
    }
    let (mut tally, mut after) = (Tally::default(), None::<Vec<u8>>);
    loop {
        let page = engine.page(Tree::Known, &[], after.as_deref(), COUNTED)?;
        let Some((last, _)) = page.last() else {
            return Ok(tally);
        };
        after = Some(last.clone());
        for (key, value) in &page {
            let item = decode_item(key, value).map_err(|_| unreadable("a known release"))?;
            tally.names += 1;
            tally.arrived = tally.arrived.max(item.arrived);
        }
    }
}

/// The change that writes the tally.
pub(super) fn tallied(tally: &Tally) -> Change {
    Change {
        tree: Tree::Meta,
        key: TALLY.to_vec(),
        value: Some(postcard::to_stdvec(tally).expect("integers are written")),
    }
}

pub(super) fn encode(row: &KnownRow) -> Vec<u8> {
    let release = &row.release;
    let head = Head {
        issued: release.issued,
        content: row.id().content_half(),
        arrived: row.arrived,
        publisher: release.publisher,
    };
    let (first, second) = row.signature.split_at(32);
    let half = |half: &[u8]| <[u8; 32]>::try_from(half).expect("a signature has 64 bytes");
    let body = Body {
        signature: (half(first), half(second)),
        name: release.name.clone(),
        kind: release.kind,
        manifest: release.manifest,
        seq: release.seq,
        prev: release.prev,
        life: release.expires.saturating_sub(release.issued),
        upstream: release
            .upstream
            .as_ref()
            .map(|upstream| origin(upstream, &release.name)),
        card: match (&row.card, release.card) {
            (Some(card), _) => Card::Summary(Box::new(packed::pack_card(card.clone()))),
            (None, Some(hash)) => Card::Hash(hash),
            (None, None) => Card::None,
        },
    };
    let bytes = postcard::to_extend(&head, vec![VERSION]).expect("integers and bytes are written");
    let bytes = postcard::to_extend(&body, bytes).expect("rows have no map, float or unsized sequence");
    // Of most names one release is known. What earlier builds wrote ends here as well.
    match release.issued.saturating_sub(row.created) {
        0 => bytes,
        older => postcard::to_extend(&older, bytes).expect("integers are written"),
    }
}

/// Reads the first part of a row.
pub(super) fn decode_item(key: &[u8], value: &[u8]) -> Result<KnownItem, Unreadable> {
    let (head, _) = head(value)?;
    let key = NameKey::try_from(key).map_err(|_| Unreadable)?;
    let mut id = [0; 32];
    let (name, content) = id.split_at_mut(16);
    name.copy_from_slice(&key);
    content.copy_from_slice(&head.content);
    Ok(KnownItem {
        id: ReleaseId::from_bytes(id),
        issued: head.issued,
        arrived: head.arrived,
        publisher: head.publisher,
    })
}

/// Reads a row whole. That it has the key of its name is checked, and that it still is what its id was made of; the signature is not.
pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<KnownRow, Unreadable> {
    let (head, rest) = head(value)?;
    let (body, rest) = postcard::take_from_bytes::<Body>(rest).map_err(|_| Unreadable)?;
    let older = match (rest, postcard::take_from_bytes::<u64>(rest)) {
        ([], _) => 0,
        (_, Ok((older, []))) if older > 0 => older,
        (_, Ok(_) | Err(_)) => return Err(Unreadable),
    };
    let (card, hash) = match body.card {
        Card::None => (None, None),
        Card::Hash(hash) => (None, Some(hash)),
        Card::Summary(card) => {
            let card = packed::unpack_card(*card).ok_or(Unreadable)?;
            let hash = card.hash().map_err(|_| Unreadable)?;
            (Some(card), Some(hash))
        }
    };
    let upstream = body.upstream.map(|origin| upstream(origin, &body.name));
    let release = Release {
        publisher: head.publisher,
        kind: body.kind,
        manifest: body.manifest,
        seq: body.seq,
        prev: body.prev,
        issued: head.issued,
        expires: head.issued.checked_add(body.life).ok_or(Unreadable)?,
        upstream: upstream.transpose()?,
        card: hash,
        name: body.name,
    };
    if !release::key_of(release.publisher, &release.name).starts_with(key)
        || key.len() != size_of::<NameKey>()
    {
        return Err(Unreadable);
    }
    let mut signature = [0; SIGNATURE_LEN];
    let (first, second) = signature.split_at_mut(32);
    first.copy_from_slice(&body.signature.0);
    second.copy_from_slice(&body.signature.1);
    let row = KnownRow {
        created: head.issued.checked_sub(older).ok_or(Unreadable)?,
        release,
        signature,
        card,
        arrived: head.arrived,
    };
    // The hash is over all that was signed and, by way of the card's hash, over the card.
    if row.id().content_half() != head.content {
        return Err(Unreadable);
    }
    Ok(row)
}

fn head(value: &[u8]) -> Result<(Head, &[u8]), Unreadable> {
    match value.split_first() {
        Some((&VERSION, rest)) => postcard::take_from_bytes(rest).map_err(|_| Unreadable),
        _ => Err(Unreadable),
    }
}

fn origin(upstream: &Upstream, name: &RepoName) -> Origin {
    let digits = upstream.commit.as_bytes();
    let commit = data_encoding::HEXLOWER.decode(digits);
    let (repo, owner) = match upstream.repo.split_once('/') {
        Some((owner, same)) if same == name.as_str() => (None, owner.to_owned()),
        _ => (Some(upstream.repo.clone()), String::new()),
    };
    Origin {
        commit: commit.expect("a release was checked to name a commit in lower-case hex"),
        hub: packed::pack(upstream.hub.clone()),
        repo,
        owner,
    }
}

fn upstream(origin: Origin, name: &RepoName) -> Result<Upstream, Unreadable> {
    Ok(Upstream {
        commit: data_encoding::HEXLOWER.encode(&origin.commit),
        hub: packed::unpack(origin.hub).ok_or(Unreadable)?,
        repo: origin.repo.unwrap_or_else(|| format!("{}/{name}", origin.owner)),
    })
}
