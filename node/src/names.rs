//! Names on disk: the releases we hold ([`Names`]), the publishers the user follows ([`Following`]) and what was said about publishers' keys
//! ([`Statements`]).
//!
//! All are files, and the truth; the catalog only repeats them. Every call blocks, writing ones for several fsyncs: use a blocking pool. What is
//! acknowledged is durable. None knows the network.

mod following;
mod releases;
mod statements;

pub use following::{
    FOLLOWING_LEN_MAX, FOLLOWS_MAX, Follow, Followed, Following, FollowingError, Mirror, NameMatcher,
    NamePattern, PATTERN_LEN_MAX, PatternError,
};
pub use releases::{Accepted, DamagedRelease, FORKS_KEPT_MAX, HISTORY_KEPT_MAX, Names, NamesError, Releases};
pub use statements::Statements;
