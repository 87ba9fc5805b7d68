//! What is said to change work under way: which fetches to pause, resume or cancel, and which limits to set.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::node::Limits;

/// The body of `jobs/pause`, `jobs/resume` and `jobs/cancel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobAsk {
    /// Which.
    pub id: JobPick,
}

/// The answer of `jobs/pause`, `jobs/resume` and `jobs/cancel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobsAnswer {
    /// The numbers of the fetches that do as they were told.
    pub jobs: Vec<u64>,
}

/// Which fetches are meant. Text and JSON: a number, or `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum JobPick {
    /// The one with this number.
    One(u64),
    /// All there are.
    Every(EveryJob),
}

/// The word that stands for every fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EveryJob {
    /// `all`.
    All,
}

/// A text that picks no fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither the number of a job nor `all`")]
pub struct JobPickError;

impl fmt::Display for JobPick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobPick::One(id) => id.fmt(f),
            JobPick::Every(EveryJob::All) => f.write_str("all"),
        }
    }
}

impl FromStr for JobPick {
    type Err = JobPickError;

    fn from_str(text: &str) -> Result<JobPick, JobPickError> {
        match text {
            "all" => Ok(JobPick::Every(EveryJob::All)),
            number => number.parse().map(JobPick::One).map_err(|_| JobPickError),
        }
    }
}

/// The body of a POST to `limits`: in bytes a second, and never 0, at which nothing would ever end.
///
/// What is left out stays as it is; null takes the limit away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsAsk {
    /// What we send, to all together.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub up: Option<Option<NonZeroU64>>,
    /// What we receive, from all together.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub down: Option<Option<NonZeroU64>>,
    /// What we send to any one peer.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub peer_up: Option<Option<NonZeroU64>>,
    /// What we receive from any one peer.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub peer_down: Option<Option<NonZeroU64>>,
}

impl LimitsAsk {
    /// Returns `limits` with what was said changed.
    pub fn over(self, limits: Limits) -> Limits {
        let over =
            |said: Option<Option<NonZeroU64>>, was| said.map_or(was, |limit| limit.map(NonZeroU64::get));
        Limits {
            up: over(self.up, limits.up),
            down: over(self.down, limits.down),
            peer_up: over(self.peer_up, limits.peer_up),
            peer_down: over(self.peer_down, limits.peer_down),
        }
    }
}

/// Tells a null from what was left out, for which this is not called.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<NonZeroU64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_that_are_left_out_stay_and_null_takes_away() {
        let was = Limits {
            up: Some(1),
            down: Some(2),
            peer_up: Some(3),
            peer_down: None,
        };
        let ask: LimitsAsk = serde_json::from_str(r#"{"up":null,"down":9,"peer_down":4}"#).unwrap();
        let now = Limits {
            up: None,
            down: Some(9),
            peer_up: Some(3),
            peer_down: Some(4),
        };
        assert_eq!(ask.over(was), now);
        assert_eq!(
            serde_json::to_value(ask).unwrap(),
            json!({"up": null, "down": 9, "peer_down": 4})
        );
        let nothing: LimitsAsk = serde_json::from_str("{}").unwrap();
        assert_eq!((nothing.over(was), nothing), (was, LimitsAsk::default()));
        for wrong in [r#"{"up":0}"#, r#"{"up":-1}"#, r#"{"up":"2M"}"#, r#"{"upp":1}"#] {
            assert!(serde_json::from_str::<LimitsAsk>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn jobs_are_picked_by_number_or_all_together_but_never_by_silence() {
        for (text, said, pick) in [
            ("7", json!({"id": 7}), JobPick::One(7)),
            ("all", json!({"id": "all"}), JobPick::Every(EveryJob::All)),
        ] {
            assert_eq!(text.parse(), Ok(pick));
            assert_eq!(pick.to_string(), text);
            assert_eq!(serde_json::to_value(JobAsk { id: pick }).unwrap(), said);
            assert_eq!(serde_json::from_value::<JobAsk>(said).unwrap().id, pick);
        }
        for text in ["", "-1", "All", "1 2", "none"] {
            assert_eq!(text.parse::<JobPick>(), Err(JobPickError), "{text}");
        }
        for text in ["{}", r#"{"id":null}"#, r#"{"id":"7"}"#, r#"{"id":-1}"#] {
            assert!(serde_json::from_str::<JobAsk>(text).is_err(), "{text}");
        }
    }
}
