//! The statement as it is written: canonical JSON, fields in the order of their names. All kinds share one shape; `say` tells which fields belong.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{KeyError, Statement};
use crate::json;
use crate::limits::VERSION;
use crate::repo::Publisher;

/// The four kinds, as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    Introduce,
    Rotate,
    Recover,
    Revoke,
}

type Text<'a> = Option<Cow<'a, str>>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    by: Text<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    from: Text<'a>,
    issued: u64,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    key: Text<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    reason: Text<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    recovery: Text<'a>,
    #[serde(borrow)]
    say: Cow<'a, str>,
    shoal: u64,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    to: Text<'a>,
}

/// Finds the keys that must have signed `json`: all that is read before the signatures are checked.
pub(super) fn claimed(json: &[u8]) -> Result<(Publisher, Option<Publisher>), KeyError> {
    #[derive(Deserialize)]
    struct Version {
        shoal: u64,
    }

    #[derive(Deserialize)]
    struct Keys<'a> {
        #[serde(borrow)]
        by: Text<'a>,
        #[serde(borrow)]
        from: Text<'a>,
        #[serde(borrow)]
        key: Text<'a>,
        #[serde(borrow)]
        recovery: Text<'a>,
        #[serde(borrow)]
        say: Cow<'a, str>,
        #[serde(borrow)]
        to: Text<'a>,
    }

    let Version { shoal } = json::peek(json)?;
    if shoal != VERSION {
        return Err(KeyError::Version { found: shoal });
    }
    let keys: Keys<'_> = json::peek(json)?;
    Ok(match Say::read(&keys.say)? {
        Say::Introduce => (key("key", &keys.key)?, Some(key("recovery", &keys.recovery)?)),
        Say::Rotate => (key("from", &keys.from)?, Some(key("to", &keys.to)?)),
        Say::Recover => (key("recovery", &keys.recovery)?, Some(key("to", &keys.to)?)),
        Say::Revoke => (key("by", &keys.by)?, None),
    })
}

impl Written<'_> {
    pub(super) fn of(statement: &Statement) -> Written<'static> {
        let text = |key: &Publisher| Some(key.to_string().into());
        let mut written = Written {
            by: None,
            from: None,
            issued: statement.issued(),
            key: None,
            reason: None,
            recovery: None,
            say: statement.say().as_str().into(),
            shoal: VERSION,
            to: None,
        };
        match statement {
            Statement::Introduce { key, recovery, .. } => {
                (written.key, written.recovery) = (text(key), text(recovery));
            }
            Statement::Rotate { from, to, .. } => {
                (written.from, written.to) = (text(from), text(to));
            }
            Statement::Recover {
                from, to, recovery, ..
            } => {
                (written.from, written.to) = (text(from), text(to));
                written.recovery = text(recovery);
            }
            Statement::Revoke { key, by, reason, .. } => {
                (written.key, written.by) = (text(key), text(by));
                written.reason = Some(reason.as_str().into());
            }
        }
        written
    }

    pub(super) fn read(&self) -> Result<Statement, KeyError> {
        let say = Say::read(&self.say)?;
        let belongs = |field: &'static str, text: &Text<'_>, kinds: &[Say]| match text.is_some()
            == kinds.contains(&say)
        {
            true => Ok(()),
            false => Err(KeyError::Field { field }),
        };
        belongs("by", &self.by, &[Say::Revoke])?;
        belongs("from", &self.from, &[Say::Rotate, Say::Recover])?;
        belongs("key", &self.key, &[Say::Introduce, Say::Revoke])?;
        belongs("reason", &self.reason, &[Say::Revoke])?;
        belongs("recovery", &self.recovery, &[Say::Introduce, Say::Recover])?;
        belongs("to", &self.to, &[Say::Rotate, Say::Recover])?;
        let issued = self.issued;
        Ok(match say {
            Say::Introduce => Statement::Introduce {
                key: key("key", &self.key)?,
                recovery: key("recovery", &self.recovery)?,
                issued,
            },
            Say::Rotate => Statement::Rotate {
                from: key("from", &self.from)?,
                to: key("to", &self.to)?,
                issued,
            },
            Say::Recover => Statement::Recover {
                from: key("from", &self.from)?,
                to: key("to", &self.to)?,
                recovery: key("recovery", &self.recovery)?,
                issued,
            },
            Say::Revoke => Statement::Revoke {
                key: key("key", &self.key)?,
                by: key("by", &self.by)?,
                reason: self.reason.as_deref().unwrap_or_default().parse()?,
                issued,
            },
        })
    }
}

fn key(field: &'static str, text: &Text<'_>) -> Result<Publisher, KeyError> {
    let text = text.as_deref().ok_or(KeyError::Field { field })?;
    text.parse().map_err(|source| KeyError::Key { field, source })
}

impl Say {
    const fn as_str(self) -> &'static str {
        match self {
            Say::Introduce => "introduce",
            Say::Rotate => "rotate",
            Say::Recover => "recover",
            Say::Revoke => "revoke",
        }
    }

    fn read(text: &str) -> Result<Say, KeyError> {
        let all = [Say::Introduce, Say::Rotate, Say::Recover, Say::Revoke];
        all.into_iter()
            .find(|say| say.as_str() == text)
            .ok_or_else(|| KeyError::Say {
                found: text.chars().take(32).collect(),
            })
    }
}
