//! Reading a denylist entry by entry, so that an error has the entry's number and no more entries are kept than there may be.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Denial, DenylistError};
use crate::json::{self, JsonError};
use crate::limits::{DENIALS_MAX, VERSION};

/// Reads the entries of a list of bounded length. Reasons and times are for the caller to check.
pub(super) fn entries(bytes: &[u8]) -> Result<Vec<Denial>, DenylistError> {
    #[derive(Deserialize)]
    struct Version {
        shoal: u64,
    }

    let version = json::peek::<Version>(bytes);
    if let Ok(Version { shoal: found }) = version
        && found != VERSION
    {
        return Err(DenylistError::Version { found });
    }
    let place = Place::default();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = ListOf(&place).deserialize(&mut json);
    let read = read.and_then(|entries| json.end().map(|()| entries));
    let read = read.map_err(|error| {
        let Place { number, wrong } = place;
        let source = json::classify(&error);
        wrong.into_inner().unwrap_or(match number.into_inner() {
            Some(number) => DenylistError::Entry { number, source },
            None => DenylistError::Json(source),
        })
    })?;
    // Only now, so that what is wrong within an entry is told with its number.
    version.map_err(DenylistError::Json)?;
    Ok(read)
}

/// Where the reader is: in which entry, and what it found wrong there that is not a matter of JSON.
#[derive(Default)]
struct Place {
    number: RefCell<Option<usize>>,
    wrong: RefCell<Option<DenylistError>>,
}

impl Place {
    /// Notes the true error; what serde gets is only there to end it.
    fn ends<E: serde::de::Error>(&self, error: DenylistError) -> E {
        *self.wrong.borrow_mut() = Some(error);
        E::custom("the list ends here")
    }
}

/// The whole list.
struct ListOf<'p>(&'p Place);

/// The sequence of its entries.
struct EntriesOf<'p>(&'p Place);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDenial<'a> {
    #[serde(default, deserialize_with = "number")]
    expires: Option<u64>,
    #[serde(borrow)]
    reason: Cow<'a, str>,
    since: u64,
    #[serde(borrow)]
    what: Cow<'a, str>,
}

/// An entry that is an object: a struct alone could also be read from an array.
struct Entry<'a>(WrittenDenial<'a>);

impl<'de> Deserialize<'de> for Entry<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Entry<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an entry of a denylist")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Entry<'de>, A::Error> {
                WrittenDenial::deserialize(MapAccessDeserializer::new(fields)).map(Entry)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// A field that may be left out, and is a number if it is there: `null` is none.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    u64::deserialize(deserializer).map(Some)
}

impl<'de> DeserializeSeed<'de> for ListOf<'_> {
    type Value = Vec<Denial>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Denial>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ListOf<'_> {
    type Value = Vec<Denial>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a denylist")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Vec<Denial>, A::Error> {
        let mut entries = None;
        while let Some(field) = fields.next_key::<Cow<'de, str>>()? {
            match field.as_ref() {
                // Judged by itself, and there also seen to stand once.
                "shoal" => drop(fields.next_value::<IgnoredAny>()?),
                "deny" if entries.is_some() => return Err(A::Error::duplicate_field("deny")),
                "deny" => entries = Some(fields.next_value_seed(EntriesOf(self.0))?),
                other => {
                    let name = other.chars().take(64).collect();
                    let source = JsonError::UnknownField { name };
                    return Err(self.0.ends(DenylistError::Json(source)));
                }
            }
        }
        entries.ok_or_else(|| A::Error::missing_field("deny"))
    }
}

impl<'de> DeserializeSeed<'de> for EntriesOf<'_> {
    type Value = Vec<Denial>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Denial>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for EntriesOf<'_> {
    type Value = Vec<Denial>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the entries of a denylist")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut written: A) -> Result<Vec<Denial>, A::Error> {
        let EntriesOf(place) = self;
        let mut entries = Vec::new();
        loop {
            let number = entries.len().saturating_add(1);
            *place.number.borrow_mut() = Some(number);
            let Some(Entry(entry)) = written.next_element::<Entry<'de>>()? else {
                break;
            };
            if number > DENIALS_MAX {
                return Err(place.ends(DenylistError::TooMany { max: DENIALS_MAX }));
            }
            let wrong = |source| place.ends(DenylistError::What { number, source });
            entries.push(Denial {
                what: entry.what.parse().map_err(wrong)?,
                reason: entry.reason.into_owned(),
                since: entry.since,
                expires: entry.expires,
            });
        }
        *place.number.borrow_mut() = None;
        Ok(entries)
    }
}
