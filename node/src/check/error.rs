//! Why a file is not taken for what it says it is.

use std::io;

/// Why a model's file is not read any further.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The bytes cannot be had. Nothing is said of the file.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// The file ends before something that it says it has.
    #[error("{what} goes on behind the end of the file, which is {len} bytes long")]
    Short {
        /// What does.
        what: &'static str,
        /// Length of the file, in bytes.
        len: u64,
    },
    /// There is more of something than is read here. The file may be sound.
    #[error("{what}: {found}, and at most {most} are read")]
    Bound {
        /// What is counted, and in what.
        what: &'static str,
        /// How much there is; at least so much.
        found: u64,
        /// How much is read.
        most: u64,
    },
    /// It does not begin as such a file does.
    #[error("it does not begin as a {0} file does")]
    Format(&'static str),
    /// It is of a version that is not read here. The file may be sound.
    #[error("version {found} of {format} is not read by this build")]
    Version {
        /// The format.
        format: &'static str,
        /// Its version.
        found: u32,
    },
    /// Its JSON does not read, or does not say what it has to.
    #[error("its JSON: {0}")]
    Json(String),
    /// A name stands for two things.
    #[error("{what} {name:?} is there twice")]
    Twice {
        /// What the name is of.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The elements of a tensor are of a type that is not read here. The file may be sound.
    #[error("tensor {tensor:?} has elements of type {dtype}, which this build does not read")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// The type.
        dtype: String,
    },
    /// What is said of a tensor cannot be.
    #[error("tensor {tensor:?} {wrong}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        wrong: Wrong,
    },
    /// A value is not what its key asks for.
    #[error("{key:?} {what}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There are bytes that belong to nothing.
    #[error("{bytes} bytes at {offset} belong to no tensor")]
    Left {
        /// Where they begin, in bytes.
        offset: u64,
        /// How many.
        bytes: u64,
    },
}

/// What is wrong with what a file says of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It has too many dimensions for the format.
    #[error("has {0} dimensions")]
    Rank(u64),
    /// A dimension is 0, where the format has no empty tensors.
    #[error("has a dimension of length 0")]
    Empty,
    /// Its elements or bytes are more than can be counted.
    #[error("has more bytes than can be counted")]
    Overflow,
    /// Its rows do not fill whole blocks of its type.
    #[error("has rows of {row} elements, and its type packs {block} in a block")]
    Blocks {
        /// Elements of a row.
        row: u64,
        /// Elements of a block.
        block: u64,
    },
    /// Its range ends before it begins.
    #[error("ends before it begins")]
    Order,
    /// Shape and type ask for other bytes than its range has.
    #[error("takes {shape} bytes by its shape and type, and {range} by its offsets")]
    Length {
        /// Bytes by shape and type.
        shape: u64,
        /// Bytes of its range.
        range: u64,
    },
    /// It does not begin where its format allows.
    #[error("begins at {offset}, which is no multiple of {alignment}")]
    Alignment {
        /// Where, in bytes from the first tensor's.
        offset: u64,
        /// Of what it has to be a multiple.
        alignment: u64,
    },
    /// Some of its bytes are another's too.
    #[error("lies over tensor {0:?}")]
    Overlap(String),
    /// It ends behind the end of the file.
    #[error("ends at byte {end} of a file of {len}")]
    Outside {
        /// Where it ends.
        end: u64,
        /// Length of the file.
        len: u64,
    },
    /// It should be somewhere, and is not.
    #[error("should be in {0}, and is not")]
    Absent(String),
    /// It is somewhere where nobody looks for it.
    #[error("is in {found}, and the index {}", match .listed { Some(listed) => format!("says {listed}"), None => "does not know it".to_owned() })]
    Unlisted {
        /// The file it is in.
        found: String,
        /// The file where the index says that it is.
        listed: Option<String>,
    },
}

impl CheckError {
    /// Tells whether the file breaks the rules of its format. `false`: it could not be read, or is more, or newer, than what this
    /// build reads; who made it may be right.
    pub fn is_broken(&self) -> bool {
        match self {
            CheckError::Read(_)
            | CheckError::Bound { .. }
            | CheckError::Version { .. }
            | CheckError::Dtype { .. } => false,
            CheckError::Short { .. }
            | CheckError::Format(_)
            | CheckError::Json(_)
            | CheckError::Twice { .. }
            | CheckError::Tensor { .. }
            | CheckError::Value { .. }
            | CheckError::Left { .. } => true,
        }
    }

    /// Says that a name stands for two things.
    pub(super) fn twice(what: &'static str, name: &str) -> CheckError {
        CheckError::Twice {
            what,
            name: shortened(name),
        }
    }

    /// Says what is wrong with a value.
    pub(super) fn value(key: &str, what: &'static str) -> CheckError {
        CheckError::Value {
            key: shortened(key),
            what,
        }
    }

    /// Says what is wrong with a tensor.
    pub(super) fn tensor(name: &str, wrong: Wrong) -> CheckError {
        CheckError::Tensor {
            tensor: shortened(name),
            wrong,
        }
    }

    /// Refuses more than `most` of something.
    pub(super) fn bound(what: &'static str, found: u64, most: u64) -> Result<(), CheckError> {
        match found <= most {
            true => Ok(()),
            false => Err(CheckError::Bound { what, found, most }),
        }
    }
}

/// Characters of a stranger's text that a message has at most.
const WORDS_MAX: usize = 200;

/// Cuts a text where a message would be too long.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(WORDS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
