//! What is said of denials.

use protocol::RepoRef;
use serde::{Deserialize, Serialize};

use super::as_text;
use crate::denials::What;

/// The body of `deny`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenyAsk {
    /// What.
    #[serde(with = "as_text")]
    pub what: What,
    /// Why, on one line.
    #[serde(default)]
    pub reason: Option<String>,
    /// For so many seconds; `None`: until it is allowed.
    #[serde(default)]
    pub for_s: Option<u64>,
}

/// The body of `allow`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowAsk {
    /// What.
    #[serde(with = "as_text")]
    pub what: What,
}

/// The query of `denied`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeniedAsk {
    /// Whether every entry of the lists is named too.
    #[serde(default)]
    pub all: bool,
}

/// The body of `denylists/subscribe` and `denylists/unsubscribe`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenylistAsk {
    /// The list's repo.
    #[serde(with = "as_text")]
    pub repo: RepoRef,
}

/// The answer of `denylists/unsubscribe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsubscribedAnswer {
    /// Whether it was followed.
    pub subscribed: bool,
}
