//! What a release says it is a copy of.

use serde::{Deserialize, Serialize};

use super::ReleaseError;
use crate::limits::{UPSTREAM_HUB_LEN_MAX, UPSTREAM_REPO_LEN_MAX};

/// Where a copy was taken from: the publisher's claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The commit that was copied: 40 or 64 lower-case hex digits.
    pub commit: String,
    /// The hub's host name, such as `huggingface.co`: `a-z 0-9 . - :`, at most 253 bytes.
    pub hub: String,
    /// The repo on it, `OWNER/NAME` or `NAME`: `A-Z a-z 0-9 . _ -` and at most one slash, at most 193 bytes.
    pub repo: String,
}

impl Upstream {
    /// Whether a hub can have a repo of that name.
    pub fn can_be_repo(repo: &str) -> bool {
        let name = |part: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !part.is_empty() && part != "." && part != ".." && part.bytes().all(allowed)
        };
        let named = match repo.split_once('/') {
            Some((owner, rest)) => name(owner) && name(rest),
            None => name(repo),
        };
        named && repo.len() <= UPSTREAM_REPO_LEN_MAX
    }

    pub(super) fn check(&self) -> Result<(), ReleaseError> {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if !matches!(self.commit.len(), 40 | 64) || !self.commit.bytes().all(hex) {
            return Err(ReleaseError::Upstream { field: "commit" });
        }
        let host = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b':');
        let hub_len = 1..=UPSTREAM_HUB_LEN_MAX;
        if !hub_len.contains(&self.hub.len()) || !self.hub.bytes().all(host) {
            return Err(ReleaseError::Upstream { field: "hub" });
        }
        if !Upstream::can_be_repo(&self.repo) {
            return Err(ReleaseError::Upstream { field: "repo" });
        }
        Ok(())
    }
}
