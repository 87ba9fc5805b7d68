//! The ticket: a string that a person pastes, and that is enough to fetch. It is a hint about where, and the truth about what.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::limits::{ADDRESS_LEN_MAX, TICKET_ADDRESSES_MAX, TICKET_LEN_MAX};
use crate::repo::RepoId;

/// How every ticket starts.
const PREFIX: &str = "shoal:";

/// The first byte of the decoded ticket.
const TICKET_VERSION: u8 = 1;

/// Bytes of BLAKE3 at the end of the decoded ticket: they find a slip of the hand, and protect against nothing else.
const CHECKSUM_LEN: usize = 4;

static BASE_32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding()
        .expect("32 distinct ASCII symbols are an encoding")
});

/// A revision and where to get it. Text: `shoal:` and base32 in lower case, without padding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ticket {
    body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Body {
    manifest: Hash,
    addresses: Vec<String>,
    repo: Option<RepoId>,
}

/// Why a text is not a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The text does not start with `shoal:`.
    #[error("ticket does not start with shoal:")]
    Prefix,
    /// The text is longer than [`TICKET_LEN_MAX`].
    #[error("ticket has {len} characters, more than {max}")]
    TooLong {
        /// Bytes of the text.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The text is not base32 in lower case without padding.
    #[error("ticket has a wrong character at {at}")]
    Encoding {
        /// Position in bytes behind `shoal:`, from 0.
        at: usize,
    },
    /// The ticket ends within its version or checksum.
    #[error("ticket is cut short")]
    TooShort,
    /// The checksum does not fit: a character was lost or changed on the way.
    #[error("ticket is damaged: its checksum does not fit")]
    Checksum,
    /// The ticket is written in another version of the format.
    #[error("ticket is written in version {found} of the format, and this program knows version 1")]
    Version {
        /// The version that the ticket names.
        found: u8,
    },
    /// The body is not that of a ticket, or not in its one canonical form.
    #[error("ticket has a wrong body")]
    Body,
    /// There are more than [`TICKET_ADDRESSES_MAX`] addresses.
    #[error("ticket has {count} addresses, more than {max}")]
    TooManyAddresses {
        /// Addresses in the ticket.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// An address is too long, or does not have the form of a multiaddr that ends with `/p2p/PEER`.
    #[error("ticket has a wrong address {address:?}")]
    Address {
        /// The address, cut after 256 characters.
        address: String,
    },
}

impl Ticket {
    /// Checks the parts of a ticket.
    ///
    /// - `addresses`: multiaddrs as text, each ending with `/p2p/PEER`, the best one first. None is allowed: then the network has to be asked.
    ///
    /// # Errors
    /// [`TicketError::TooManyAddresses`] and [`TicketError::Address`].
    pub fn new(manifest: Hash, addresses: Vec<String>, repo: Option<RepoId>) -> Result<Ticket, TicketError> {
        let (count, max) = (addresses.len(), TICKET_ADDRESSES_MAX);
        if count > max {
            return Err(TicketError::TooManyAddresses { count, max });
        }
        if let Some(address) = addresses.iter().find(|address| !is_address(address)) {
            let address = address.chars().take(ADDRESS_LEN_MAX).collect();
            return Err(TicketError::Address { address });
        }
        let body = Body {
            manifest,
            addresses,
            repo,
        };
        Ok(Ticket { body })
    }

    /// The revision to fetch.
    pub fn manifest(&self) -> Hash {
        self.body.manifest
    }

    /// Addresses of providers, as multiaddr text that ends with `/p2p/PEER`. Checked in form only: parse them before use.
    pub fn addresses(&self) -> &[String] {
        &self.body.addresses
    }

    /// The repo that the revision is said to be of. A release has to confirm it.
    pub fn repo(&self) -> Option<&RepoId> {
        self.body.repo.as_ref()
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = postcard::to_stdvec(&self.body).expect("hashes, texts and options are postcard");
        let mut bytes = vec![TICKET_VERSION];
        bytes.extend_from_slice(&body);
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        write!(f, "{PREFIX}{}", BASE_32.encode(&bytes))
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Ticket, TicketError> {
        let (len, max) = (text.len(), TICKET_LEN_MAX);
        if len > max {
            return Err(TicketError::TooLong { len, max });
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(TicketError::Prefix)?;
        let bytes = BASE_32
            .decode(encoded.as_bytes())
            .map_err(|error| TicketError::Encoding { at: error.position })?;
        let (bytes, sum) = bytes
            .split_last_chunk::<CHECKSUM_LEN>()
            .ok_or(TicketError::TooShort)?;
        let (version, body) = bytes.split_first().ok_or(TicketError::TooShort)?;
        if *sum != checksum(bytes) {
            return Err(TicketError::Checksum);
        }
        if *version != TICKET_VERSION {
            return Err(TicketError::Version { found: *version });
        }
        let read: Body = postcard::from_bytes(body).map_err(|_| TicketError::Body)?;
        if postcard::to_stdvec(&read).map_err(|_| TicketError::Body)? != body {
            return Err(TicketError::Body);
        }
        Ticket::new(read.manifest, read.addresses, read.repo)
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let hash = *blake3::hash(bytes).as_bytes();
    let [a, b, c, d, ..] = hash;
    [a, b, c, d]
}

/// Whether a text has the form of a multiaddr that ends with a peer id. Whether it means an address is for its parser to say.
fn is_address(address: &str) -> bool {
    let printable = |byte: u8| byte.is_ascii_graphic();
    let base58 = |byte: u8| byte.is_ascii_alphanumeric() && !b"0OIl".contains(&byte);
    if address.len() > ADDRESS_LEN_MAX || !address.starts_with('/') {
        return false;
    }
    let Some((way, peer)) = address.rsplit_once("/p2p/") else {
        return false;
    };
    way.bytes().all(printable) && (40..=64).contains(&peer.len()) && peer.bytes().all(base58)
}
