//! What is said of mirrors.

use protocol::Publisher;
use serde::{Deserialize, Serialize};

use crate::names::{Mirror, NamePattern};

/// The body of `mirror`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorAsk {
    /// Whose repos.
    pub publisher: Publisher,
    /// What to keep of them. `None`: nothing more; what is here stays.
    pub terms: Option<TermsAsk>,
}

/// What to keep of a publisher's repos.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermsAsk {
    /// Those whose names match.
    pub names: NamePattern,
    /// How many bytes they may take.
    #[serde(default)]
    pub quota: QuotaAsk,
}

/// How many bytes something may take from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaAsk {
    /// As many as before; if nothing was said before, as many as there are.
    #[default]
    Same,
    /// As many as there are.
    None,
    /// So many.
    Bytes(u64),
}

/// The answer of `mirror`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorAnswer {
    /// What is mirrored from now on.
    pub mirror: Option<Mirror>,
}

impl TermsAsk {
    /// What is to be mirrored from now on, where `before` was until now.
    pub fn over(self, before: Option<&Mirror>) -> Mirror {
        Mirror {
            names: self.names,
            quota: match self.quota {
                QuotaAsk::Same => before.and_then(|before| before.quota),
                QuotaAsk::None => None,
                QuotaAsk::Bytes(bytes) => Some(bytes),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_that_is_not_named_stays_and_none_ends_it() {
        let asked = |quota| TermsAsk {
            names: "*".parse().unwrap(),
            quota,
        };
        let before = asked(QuotaAsk::Bytes(7)).over(None);
        assert_eq!(before.quota, Some(7));
        assert_eq!(asked(QuotaAsk::Same).over(Some(&before)), before);
        assert_eq!(asked(QuotaAsk::None).over(Some(&before)).quota, None);
        assert_eq!(asked(QuotaAsk::Same).over(None).quota, None);
        let said = serde_json::to_value(asked(QuotaAsk::Bytes(7))).unwrap();
        assert_eq!(said, serde_json::json!({"names": "*", "quota": {"bytes": 7}}));
        assert!(serde_json::from_str::<TermsAsk>(r#"{"names":"["}"#).is_err());
    }
}
