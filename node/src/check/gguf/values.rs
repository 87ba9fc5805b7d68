//! The keys and values of a GGUF file.

use std::{collections::BTreeMap, io::Read};

use super::{ALIGNMENT_KEY, VOCAB_MAX, Value, source::Source, wrong};
use crate::check::CheckError;

/// Longest key, in bytes: they have about 30.
const KEY_LEN_MAX: u64 = 1_024;
/// Longest string, in bytes: chat templates have thousands.
const STRING_LEN_MAX: u64 = 16 << 20;
/// Most elements of an array: vocabularies have a few hundred thousand.
const ARRAY_MAX: u64 = 1 << 24;
/// Arrays within arrays: that many deep, and no deeper. None are known that are not flat.
const ARRAY_DEPTH_MAX: u32 = 2;
/// Most elements of an array that are kept: the most tokens that a vocabulary may have.
const ARRAY_KEPT_MAX: u64 = VOCAB_MAX;
/// Memory that what is kept may take, in bytes: a full vocabulary with its merges.
const KEPT_LEN_MAX: u64 = 256 << 20;
/// Memory for a string beside its bytes, about.
const STRING_COST: u64 = 40;

/// Reads so many keys and values.
pub(super) fn metadata<R: Read>(
    source: &mut Source<R>,
    keys: u64,
) -> Result<BTreeMap<String, Value>, CheckError> {
    let mut metadata = BTreeMap::new();
    let mut room = KEPT_LEN_MAX;
    for _ in 0..keys {
        let key = source.name("a key", KEY_LEN_MAX)?;
        if metadata.contains_key(&key) {
            return Err(CheckError::twice("key", &key));
        }
        let kind = Kind::read(source, &key)?;
        // Readers differ in which widths they take here, and where tensors are follows from it: the format's own all of them take.
        if key == ALIGNMENT_KEY && kind != Kind::Integer(4, false) {
            return Err(wrong(ALIGNMENT_KEY, "is no unsigned number of 32 bits"));
        }
        let value = value(source, kind, &key, &mut room)?;
        keep(&mut room, STRING_COST + key.len() as u64)?;
        metadata.insert(key, value);
    }
    Ok(metadata)
}

/// What a value is, on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A whole number of that many bytes, signed or not.
    Integer(usize, bool),
    F32,
    F64,
    Bool,
    Text,
    Array,
}

impl Kind {
    fn read<R: Read>(source: &mut Source<R>, key: &str) -> Result<Kind, CheckError> {
        Ok(match source.u32("the type of a value")? {
            0 => Kind::Integer(1, false),
            1 => Kind::Integer(1, true),
            2 => Kind::Integer(2, false),
            3 => Kind::Integer(2, true),
            4 => Kind::Integer(4, false),
            5 => Kind::Integer(4, true),
            6 => Kind::F32,
            7 => Kind::Bool,
            8 => Kind::Text,
            9 => Kind::Array,
            10 => Kind::Integer(8, false),
            11 => Kind::Integer(8, true),
            12 => Kind::F64,
            _ => return Err(wrong(key, "is of a type that the format does not have")),
        })
    }

    /// The bytes that such a value takes at least.
    fn len_min(self) -> u64 {
        match self {
            Kind::Integer(bytes, _) => bytes as u64,
            Kind::F32 => 4,
            Kind::Bool => 1,
            Kind::F64 | Kind::Text => 8,
            Kind::Array => 12,
        }
    }
}

/// Takes memory for what is kept.
fn keep(room: &mut u64, bytes: u64) -> Result<(), CheckError> {
    *room = room.checked_sub(bytes).ok_or(CheckError::Bound {
        what: "bytes of keys and values",
        found: KEPT_LEN_MAX.saturating_add(bytes),
        most: KEPT_LEN_MAX,
    })?;
    Ok(())
}

fn value<R: Read>(
    source: &mut Source<R>,
    kind: Kind,
    key: &str,
    room: &mut u64,
) -> Result<Value, CheckError> {
    Ok(match kind {
        Kind::Integer(bytes, signed) => match integer(source, bytes, signed)? {
            Integer::Unsigned(number) => Value::Unsigned(number),
            Integer::Negative(number) => Value::Negative(number),
        },
        Kind::F32 | Kind::F64 => Value::Float(float(source, kind)?),
        Kind::Bool => Value::Bool(source.flag(key)?),
        Kind::Text => {
            let text = source.text("a string", STRING_LEN_MAX)?;
            keep(room, STRING_COST + text.len() as u64)?;
            Value::Text(text)
        }
        Kind::Array => array(source, key, 1, room)?,
    })
}

enum Integer {
    Unsigned(u64),
    Negative(i64),
}

fn integer<R: Read>(source: &mut Source<R>, bytes: usize, signed: bool) -> Result<Integer, CheckError> {
    let mut eight = [0; 8];
    source.fill("a number", eight.get_mut(..bytes).unwrap_or_default())?;
    let number = u64::from_le_bytes(eight);
    let unused = 64 - 8 * bytes as u32;
    let extended = (number << unused) as i64 >> unused;
    Ok(match signed && extended < 0 {
        true => Integer::Negative(extended),
        false => Integer::Unsigned(number),
    })
}

fn float<R: Read>(source: &mut Source<R>, kind: Kind) -> Result<f64, CheckError> {
    Ok(match kind {
        Kind::F32 => f64::from(f32::from_le_bytes(source.array("a number")?)),
        _ => f64::from_le_bytes(source.array("a number")?),
    })
}

fn array<R: Read>(
    source: &mut Source<R>,
    key: &str,
    depth: u32,
    room: &mut u64,
) -> Result<Value, CheckError> {
    let kind = Kind::read(source, key)?;
    let elements = source.u64("the length of an array")?;
    source.has("an array", elements.saturating_mul(kind.len_min()))?;
    CheckError::bound("elements of an array", elements, ARRAY_MAX)?;
    let skipped = Value::Skipped { elements };
    let kept = depth == 1 && elements <= ARRAY_KEPT_MAX;
    Ok(match kind {
        Kind::Array if depth >= ARRAY_DEPTH_MAX => {
            return Err(wrong(key, "has arrays that are nested too deep"));
        }
        Kind::Array => {
            for _ in 0..elements {
                array(source, key, depth + 1, room)?;
            }
            skipped
        }
        Kind::Text if kept => {
            let mut texts = Vec::new();
            for _ in 0..elements {
                let text = source.text("a string", STRING_LEN_MAX)?;
                keep(room, STRING_COST + text.len() as u64)?;
                texts.push(text);
            }
            Value::Texts(texts)
        }
        Kind::Text => {
            for _ in 0..elements {
                let len = source.len("a string", STRING_LEN_MAX)?;
                source.skip(len)?;
            }
            skipped
        }
        Kind::Bool => {
            let mut flags = Vec::new();
            for _ in 0..elements {
                let flag = source.flag(key)?;
                if kept {
                    keep(room, 8)?;
                    flags.push(i64::from(flag));
                }
            }
            if kept { Value::Integers(flags) } else { skipped }
        }
        Kind::Integer(bytes, signed) if kept => {
            let mut numbers = Vec::new();
            let mut fit = true;
            for _ in 0..elements {
                let number = match integer(source, bytes, signed)? {
                    Integer::Unsigned(number) => i64::try_from(number).ok(),
                    Integer::Negative(number) => Some(number),
                };
                fit &= number.is_some();
                keep(room, 8)?;
                numbers.extend(number);
            }
            if fit { Value::Integers(numbers) } else { skipped }
        }
        Kind::F32 | Kind::F64 if kept => {
            let mut numbers = Vec::new();
            for _ in 0..elements {
                keep(room, 8)?;
                numbers.push(float(source, kind)?);
            }
            Value::Floats(numbers)
        }
        Kind::Integer(..) | Kind::F32 | Kind::F64 => {
            source.skip(elements.saturating_mul(kind.len_min()))?;
            skipped
        }
    })
}
