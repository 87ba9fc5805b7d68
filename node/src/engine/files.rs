//! The files of a model, opened before the doors are closed: from then on nothing is opened, only read. Every byte that is used is
//! hashed, and nothing is believed of a file whose bytes do not hash to its name.
//!
//! A file of weights is read once from end to end, in pieces: each is hashed, and its numbers become tensors or are looked at.
//! So memory holds the tensors and a few pieces, and neither the file nor a map of it.

mod pass;

use std::{
    fs::File,
    io::{Cursor, Read, Seek, SeekFrom},
    sync::Arc,
};

use candle_core::{Device, Tensor};

use self::pass::Pass;
use super::{
    floats,
    numbers::Tally,
    weights::{Tensors, Weight},
    wire::{Bytes, Fault, Given, Numbers, Said, Weights},
};
use crate::check::{CheckError, Dtype, TensorInfo, gguf, safetensors};

/// Longest file that is read as a whole, in bytes: `tokenizer.json` of the largest vocabularies takes 35 MB.
pub(crate) const SMALL_LEN_MAX: u64 = 64 << 20;
/// Most files of a model: the largest are in some 200 shards, and bring a dozen small ones.
const FILES_MAX: usize = 1_024;
/// Bytes read between two words of progress.
const SAID_EVERY: u64 = 16 << 20;

/// The files of a model, open.
#[derive(Debug)]
pub(crate) struct Files {
    files: Vec<(Given, Source)>,
}

#[derive(Debug)]
enum Source {
    File(File),
    Here(Cursor<Vec<u8>>),
}

/// The header of a file of weights.
#[derive(Debug)]
pub(crate) enum Header {
    /// Of a safetensors file.
    Safetensors(safetensors::Header),
    /// Of a GGUF file.
    Gguf(gguf::Header),
}

impl Header {
    /// Its tensors, by where they are.
    pub(crate) fn tensors(&self) -> &[TensorInfo] {
        match self {
            Header::Safetensors(header) => &header.tensors,
            Header::Gguf(header) => &header.tensors,
        }
    }
}

/// Words of progress: bytes read so far of all files.
pub(crate) struct Progress<'a> {
    said: &'a mut dyn FnMut(Said),
    bytes: u64,
    told: u64,
}

impl<'a> Progress<'a> {
    /// Says what is read to `said`.
    pub(crate) fn new(said: &'a mut dyn FnMut(Said)) -> Progress<'a> {
        Progress {
            said,
            bytes: 0,
            told: 0,
        }
    }

    fn read(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes - self.told >= SAID_EVERY {
            self.told = self.bytes;
            (self.said)(Said::Read { bytes: self.bytes });
        }
    }
}

impl Files {
    /// Opens all of them. What is here already is taken out of its base64.
    ///
    /// # Errors
    /// [`Fault::Bytes`]: one cannot be opened, or is not as long as it should be. [`Fault::Ask`]: there are too many, or two of a path.
    pub(crate) fn open(given: Vec<Given>) -> Result<Files, Fault> {
        if given.len() > FILES_MAX {
            return Err(Fault::Ask(format!(
                "{} files are more than a model has; at most {FILES_MAX} are opened",
                given.len()
            )));
        }
        let mut files: Vec<(Given, Source)> = Vec::with_capacity(given.len());
        for mut given in given {
            if files.iter().any(|(known, _)| known.path == given.path) {
                return Err(Fault::Ask(format!("{} is given twice", given.path)));
            }
            let empty = Bytes::Inline(String::new());
            let (source, len) = match std::mem::replace(&mut given.bytes, empty) {
                Bytes::At(path) => {
                    let file = File::open(path).map_err(|error| unreadable(&given, &error))?;
                    let of = file.metadata().map_err(|error| unreadable(&given, &error))?;
                    (Source::File(file), of.len())
                }
                Bytes::Inline(base64) => {
                    let bytes = data_encoding::BASE64
                        .decode(base64.as_bytes())
                        .map_err(|error| wrong_bytes(&given, format!("no base64: {error}")))?;
                    let len = bytes.len() as u64;
                    (Source::Here(Cursor::new(bytes)), len)
                }
            };
            if len != given.size {
                let what = format!("{len} bytes, and {} were promised", given.size);
                return Err(wrong_bytes(&given, what));
            }
            files.push((given, source));
        }
        Ok(Files { files })
    }

    /// Their paths.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(given, _)| given.path.as_str())
    }

    /// Returns the bytes of a small file, hashed; `None` where there is no such file.
    ///
    /// # Errors
    /// [`Fault::Bytes`]: they cannot be read, or are other bytes. [`Fault::Invalid`]: it is too large for a file of its kind.
    pub(crate) fn small(&mut self, path: &str) -> Result<Option<Vec<u8>>, Fault> {
        let Some((given, source)) = self.files.iter_mut().find(|(given, _)| given.path == path) else {
            return Ok(None);
        };
        if given.size > SMALL_LEN_MAX {
            return Err(Fault::Invalid {
                path: path.to_owned(),
                what: format!(
                    "{} bytes; at most {SMALL_LEN_MAX} of such a file are read",
                    given.size
                ),
            });
        }
        let mut bytes = Vec::new();
        source
            .rewind()
            .and_then(|reader| reader.take(given.size + 1).read_to_end(&mut bytes))
            .map_err(|error| unreadable(given, &error))?;
        match protocol::Hash::of(&bytes) == given.blake3 {
            true => Ok(Some(bytes)),
            false => Err(not_its_hash(given)),
        }
    }

    /// Reads a file of weights from end to end, and makes tensors of what is in it. `look` sees the header before any tensor is
    /// made, and may refuse it.
    ///
    /// # Errors
    /// [`Fault::Bytes`]: they cannot be read, or are other bytes; nothing of the file may be used then, whatever else is wrong with
    /// it. [`Fault::Invalid`]: the header is not sound. What `look` said. [`Fault::Absent`]: there is no such file.
    pub(crate) fn load(
        &mut self,
        path: &str,
        weights: Weights,
        tensors: &mut Tensors,
        progress: &mut Progress,
        look: &mut dyn FnMut(&Header) -> Result<(), Fault>,
    ) -> Result<Header, Fault> {
        let shared: Arc<str> = path.into();
        self.pass(path, progress, |pass, header| {
            look(header)?;
            for tensor in header.tensors() {
                let weight = weight(pass, tensor, weights).map_err(|refused| refused.of(path))?;
                tensors.insert(tensor.name.clone(), weight, shared.clone());
            }
            Ok(())
        })
        .map(|(header, ())| header)
    }

    /// Reads a file of weights from end to end, and looks at every number in it.
    ///
    /// # Errors
    /// As [`Files::load`].
    pub(crate) fn scan(&mut self, path: &str, progress: &mut Progress) -> Result<Vec<Numbers>, Fault> {
        self.pass(path, progress, |pass, header| {
            let numbers = |tensor: &TensorInfo| {
                let mut tally = Tally::new(tensor.dtype);
                pass.pieces(tensor, |bytes| tally.add(bytes))?;
                Ok(tally.numbers(path, tensor))
            };
            let all: Result<_, Refused> = header.tensors().iter().map(numbers).collect();
            all.map_err(|refused| refused.of(path))
        })
        .map(|(_, numbers)| numbers)
    }

    /// Reads a file from end to end: its header, then what `work` reads of it, then the rest. What it all hashes to decides before
    /// anything that was found on the way does.
    fn pass<T>(
        &mut self,
        path: &str,
        progress: &mut Progress,
        work: impl FnOnce(&mut Pass, &Header) -> Result<T, Fault>,
    ) -> Result<(Header, T), Fault> {
        let Some((given, source)) = self.files.iter_mut().find(|(given, _)| given.path == path) else {
            return Err(Fault::Absent {
                what: format!("file {path}"),
            });
        };
        let reader = source.rewind().map_err(|error| unreadable(given, &error))?;
        let mut read = |bytes| progress.read(bytes);
        let mut pass = Pass::new(reader, &mut read);
        let worked = header(&mut pass, path, given.size).and_then(|header| {
            let value = work(&mut pass, &header)?;
            Ok((header, value))
        });
        let (len, hash) = pass.finish().map_err(|error| unreadable(given, &error))?;
        match len == given.size && hash == given.blake3 {
            true => worked,
            false => Err(not_its_hash(given)),
        }
    }
}

/// Looks at every number in the weights among these files, in little memory. The files come in the order of their paths.
///
/// # Errors
/// As [`Files::load`]; [`Fault::Absent`] where none is a file of weights.
pub(crate) fn scan(mut files: Files, said: &mut dyn FnMut(Said)) -> Result<Vec<Numbers>, Fault> {
    let mut paths: Vec<String> = files
        .paths()
        .filter(|path| is_weights(path))
        .map(str::to_owned)
        .collect();
    if paths.is_empty() {
        return Err(Fault::Absent {
            what: "safetensors or GGUF file".into(),
        });
    }
    paths.sort();
    let mut progress = Progress::new(said);
    let mut all = Vec::new();
    for path in paths {
        all.extend(files.scan(&path, &mut progress)?);
    }
    Ok(all)
}

/// Tells by its name whether a file has weights that can be read here.
pub(crate) fn is_weights(path: &str) -> bool {
    path.ends_with(".safetensors") || path.ends_with(".gguf")
}

impl Source {
    fn rewind(&mut self) -> std::io::Result<&mut dyn Read> {
        match self {
            Source::File(file) => {
                file.seek(SeekFrom::Start(0))?;
                Ok(file)
            }
            Source::Here(cursor) => {
                cursor.set_position(0);
                Ok(cursor)
            }
        }
    }
}

fn header(pass: &mut Pass, path: &str, len: u64) -> Result<Header, Fault> {
    let header = match path.ends_with(".gguf") {
        true => gguf::read(&mut *pass, len).map(Header::Gguf),
        false => safetensors::read(&mut *pass, len).map(Header::Safetensors),
    };
    header.map_err(|error| match error {
        CheckError::Read(error) => Fault::Bytes {
            path: path.to_owned(),
            what: error.to_string(),
        },
        other if other.is_broken() => Fault::Invalid {
            path: path.to_owned(),
            what: other.to_string(),
        },
        other => Fault::Unsupported {
            path: path.to_owned(),
            what: other.to_string(),
        },
    })
}

/// Why a tensor is not made.
enum Refused {
    /// Its bytes did not come, or the header says what cannot be.
    Read(std::io::Error),
    /// candle does not take them.
    Tensor(String, candle_core::Error),
    /// It does not fit in the memory that is left.
    Memory { tensor: String, bytes: u64 },
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Refused {
        Refused::Read(error)
    }
}

impl Refused {
    fn of(self, path: &str) -> Fault {
        let path = path.to_owned();
        match self {
            Refused::Read(error) => Fault::Bytes {
                path,
                what: error.to_string(),
            },
            Refused::Tensor(tensor, error) => Fault::Unsupported {
                path,
                what: format!("tensor {tensor}: {error}"),
            },
            Refused::Memory { tensor, bytes } => Fault::Ask(format!(
                "not enough memory: tensor {tensor} of {path} takes {bytes} bytes"
            )),
        }
    }
}

/// Makes the tensor that comes next in the file.
fn weight(pass: &mut Pass, tensor: &TensorInfo, weights: Weights) -> Result<Weight, Refused> {
    let refused = |error| Refused::Tensor(tensor.name.clone(), error);
    let memory = |bytes: u64| Refused::Memory {
        tensor: tensor.name.clone(),
        bytes,
    };
    let dims =
        |dims: &[u64]| -> Option<Vec<usize>> { dims.iter().map(|dim| usize::try_from(*dim).ok()).collect() };
    let dims = dims(&tensor.shape).ok_or_else(|| memory(u64::MAX))?;
    let packed = tensor.dtype.block().0 > 1;
    let half = matches!(tensor.dtype, Dtype::F16 | Dtype::BF16);
    if weights == Weights::Stored && (packed || half) {
        let bytes = room(tensor.range.end - tensor.range.start)
            .ok_or_else(|| memory(tensor.range.end - tensor.range.start))?;
        let mut bytes: Vec<u8> = bytes;
        pass.pieces(tensor, |piece| bytes.extend_from_slice(piece))?;
        return match tensor.dtype {
            Dtype::F16 => Tensor::from_vec(floats::halves(&bytes), dims, &Device::Cpu).map(Weight::Plain),
            Dtype::BF16 => {
                Tensor::from_vec(floats::brain_halves(&bytes), dims, &Device::Cpu).map(Weight::Plain)
            }
            packed => {
                floats::packed_tensor(packed, &bytes, dims).map(|packed| Weight::Packed(Arc::new(packed)))
            }
        }
        .map_err(refused);
    }
    let len = tensor.elements().saturating_mul(4);
    let mut values: Vec<f32> = room(tensor.elements()).ok_or_else(|| memory(len))?;
    let mut made = Ok(());
    pass.pieces(tensor, |piece| {
        if made.is_ok() {
            made = floats::append(tensor.dtype, piece, &mut values);
        }
    })?;
    made.and_then(|()| Tensor::from_vec(values, dims, &Device::Cpu))
        .map(Weight::Plain)
        .map_err(refused)
}

/// Takes room for so many elements; `None` where there is none.
fn room<T>(elements: u64) -> Option<Vec<T>> {
    let mut room = Vec::new();
    room.try_reserve_exact(usize::try_from(elements).ok()?).ok()?;
    Some(room)
}

fn unreadable(given: &Given, error: &std::io::Error) -> Fault {
    wrong_bytes(given, error.to_string())
}

fn not_its_hash(given: &Given) -> Fault {
    wrong_bytes(given, format!("its bytes do not hash to {}", given.blake3))
}

fn wrong_bytes(given: &Given, what: String) -> Fault {
    Fault::Bytes {
        path: given.path.clone(),
        what,
    }
}
