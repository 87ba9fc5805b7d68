//! What a repo's files say of it: formats, architecture, parameters, what is wrong, and what can run code. Made of the files' headers
//! alone, which are asked for by ranges: of a store, or of a fetch that brings them first.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    ops::Range,
};

use serde::{Deserialize, Serialize};

use super::{
    CheckError, Dtype, TensorInfo,
    code::{self, CodeKind, ending},
    config::{self, CONFIG_LEN_MAX, Config},
    gguf, safetensors,
    shards::{self, INDEX_LEN_MAX, Index},
    tokenizer::{self, TOKENIZER_LEN_MAX},
};

/// Most files of a repo that are looked into: a second or two for whoever waits. How many are left is said.
const LOOKS_MAX: usize = 20_000;
/// Most tensors that are listed, of all files together.
const TENSORS_MAX: usize = 400_000;
/// Bytes that are asked for at a time while a header is read.
const PIECE_LEN: u64 = 256 << 10;
/// The file that says how a model is built.
const CONFIG: &str = "config.json";
/// The file that makes tokens of texts.
const TOKENIZER: &str = "tokenizer.json";
/// The file of a model that is in one.
const WHOLE: &str = "model.safetensors";
/// The index of a model that is cut into several files.
const INDEX: &str = "model.safetensors.index.json";
/// How the names of indexes end.
const INDEX_END: &str = ".safetensors.index.json";

/// A format of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `*.safetensors`.
    Safetensors,
    /// `*.gguf`.
    Gguf,
}

impl Format {
    /// The format that a file of that name should have, if it is one of weights.
    pub fn of(path: &str) -> Option<Format> {
        match ending(path).as_str() {
            "safetensors" => Some(Format::Safetensors),
            "gguf" => Some(Format::Gguf),
            _ => None,
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Format::Safetensors => "safetensors",
            Format::Gguf => "gguf",
        })
    }
}

/// What a repo's files say of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The formats of its weights.
    pub formats: Vec<Format>,
    /// What it is built as, by `config.json` or by the first GGUF file.
    pub architecture: Option<String>,
    /// Tokens that it looks back on.
    pub context: Option<u64>,
    /// Numbers that a token is in it.
    pub width: Option<u64>,
    /// Its layers.
    pub layers: Option<u64>,
    /// Tokens that it knows.
    pub vocab: Option<u64>,
    /// Elements of its tensors, of each type: of `model.safetensors` or the files of its index; else of all safetensors files; else
    /// of the first GGUF file, or all parts of it.
    pub parameters: BTreeMap<Dtype, u64>,
    /// Every file of weights that could be read.
    pub weights: Vec<Weights>,
    /// Files that can run code.
    pub code: Vec<Labelled>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Files that would have been looked into, and are not here.
    pub absent: Vec<String>,
    /// How many files were not looked into, because there are so many.
    pub unlooked: u64,
}

/// A file of weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// Its path in the repo.
    pub path: String,
    /// Its format.
    pub format: Format,
    /// Its tensors, by where they are.
    pub tensors: Vec<TensorInfo>,
}

/// A file that can run code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labelled {
    /// Its path in the repo.
    pub path: String,
    /// What of it can; `None` for a configuration that has loaders run the repo's own code.
    pub kind: Option<CodeKind>,
    /// The same for people.
    pub what: String,
}

/// Something that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Its path in the repo.
    pub path: String,
    /// What it is.
    pub what: String,
    /// Whether it breaks the rules of its format. `false`: this build does not read it, and others may.
    pub broken: bool,
}

impl Facts {
    /// All its parameters.
    pub fn parameters(&self) -> u64 {
        self.parameters
            .values()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// Looks at a repo.
///
/// - `files`: paths and lengths in bytes of all files, by path.
/// - `read`: the bytes of a range that lies within a file, all of them; `NotFound` where they are not here.
pub fn of<'a>(
    files: impl IntoIterator<Item = (&'a str, u64)>,
    mut read: impl FnMut(&str, Range<u64>) -> io::Result<Vec<u8>>,
) -> Facts {
    look(files, true, &mut read)
}

/// Looks at what describes a model, and at no other file: what can run code is not looked for.
pub fn of_model<'a>(
    files: impl IntoIterator<Item = (&'a str, u64)>,
    mut read: impl FnMut(&str, Range<u64>) -> io::Result<Vec<u8>>,
) -> Facts {
    let describes = |path: &str| {
        Format::of(path).is_some() || path.ends_with(INDEX_END) || [CONFIG, TOKENIZER].contains(&path)
    };
    let files = files.into_iter().filter(|(path, _)| describes(path));
    look(files, false, &mut read)
}

fn look<'a>(
    files: impl IntoIterator<Item = (&'a str, u64)>,
    for_code: bool,
    mut read: &mut impl FnMut(&str, Range<u64>) -> io::Result<Vec<u8>>,
) -> Facts {
    let files: BTreeMap<&str, u64> = files.into_iter().collect();
    let mut look = Look {
        facts: Facts::default(),
        looks: 0,
        tensors: 0,
    };
    let (mut gguf, mut indexes) = (None, Vec::new());
    for (path, len) in &files {
        let file = (*path, *len);
        if !look.one_more() {
            continue;
        }
        if for_code && !look.code(file, &mut read) {
            continue;
        }
        if path.ends_with(INDEX_END) {
            let index = look.small(file, INDEX_LEN_MAX, &mut read, |bytes| {
                shards::read(&bytes, |name| files.contains_key(beside(path, name).as_str()))
            });
            indexes.extend(index.map(|index| (*path, index)));
        } else if let Some(format) = Format::of(path) {
            let header = look.weights(file, format, &mut read);
            // One says what all of them are: they are the same model, packed differently.
            gguf = gguf.or(header);
        } else if *path == CONFIG {
            let config = look.small(file, CONFIG_LEN_MAX, &mut read, |bytes| config::read(&bytes));
            look.config(config.unwrap_or_default());
        } else if *path == TOKENIZER {
            let counted = look.small(file, TOKENIZER_LEN_MAX, &mut read, |bytes| {
                tokenizer::read(bytes.as_slice(), bytes.len() as u64)
            });
            look.facts.vocab = look.facts.vocab.or(counted.map(|counted| counted.vocab));
        }
    }
    look.indexes(&indexes);
    look.gguf(gguf.as_ref());
    look.sum(&indexes);
    look.facts
}

/// The path of a file beside another.
fn beside(path: &str, name: &str) -> String {
    match path.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{name}"),
        None => name.to_owned(),
    }
}

/// What is known while a repo is looked at.
struct Look {
    facts: Facts,
    looks: usize,
    tensors: usize,
}

impl Look {
    /// Counts a look; `false`: there were enough.
    fn one_more(&mut self) -> bool {
        let room = self.looks < LOOKS_MAX && self.tensors < TENSORS_MAX;
        match room {
            true => self.looks += 1,
            false => self.facts.unlooked += 1,
        }
        room
    }

    fn label(&mut self, path: &str, kind: CodeKind) {
        self.facts.code.push(Labelled {
            path: path.to_owned(),
            kind: Some(kind),
            what: kind.to_string(),
        });
    }

    /// Keeps what could be read, or notes why it could not.
    fn take<T>(&mut self, path: &str, read: Result<T, CheckError>) -> Option<T> {
        match read {
            Ok(read) => return Some(read),
            Err(CheckError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.facts.absent.push(path.to_owned());
            }
            Err(error) => self.problem(path, &error),
        }
        None
    }

    fn problem(&mut self, path: &str, error: &CheckError) {
        let what = match error {
            CheckError::Read(cause) => format!("{error}: {cause}"),
            error => error.to_string(),
        };
        self.facts.problems.push(Problem {
            path: path.to_owned(),
            what,
            broken: error.is_broken(),
        });
    }

    /// Reads a file that is read whole.
    fn small<T>(
        &mut self,
        (path, len): (&str, u64),
        most: u64,
        read: &mut impl FnMut(&str, Range<u64>) -> io::Result<Vec<u8>>,
        parse: impl FnOnce(Vec<u8>) -> Result<T, CheckError>,
    ) -> Option<T> {
        let whole = || {
            CheckError::bound("bytes of the file", len, most)?;
            let mut bytes = Vec::new();
            ranged(path, len, read).read_to_end(&mut bytes)?;
            parse(bytes)
        };
        let whole = whole();
        self.take(path, whole)
    }

    /// Reads the header of a file of weights; returns what else a GGUF file says.
    fn weights(
        &mut self,
        (path, len): (&str, u64),
        format: Format,
        read: &mut impl FnMut(&str, Range<u64>) -> io::Result<Vec<u8>>,
    ) -> Option<gguf::Header> {
        let source = ranged(path, len, read);
        let (tensors, more) = match format {
            Format::Safetensors => {
                let header = safetensors::read(source, len);
                (self.take(path, header)?.tensors, None)
            }
            Format::Gguf => {
                let header = gguf::read(source, len);
                let mut header = self.take(path, header)?;
                (std::mem::take(&mut header.tensors), Some(header))
            }
        };
        self.tensors += tensors.len();
        self.facts.weights.push(Weights {
            path: path.to_owned(),
            format,
            tensors,
        });
        if !self.facts.formats.contains(&format) {
            self.facts.formats.push(format);
            self.facts.formats.sort();
        }
        more
    }

    fn config(&mut self, config: Config) {
        self.facts.architecture = config.architecture;
        self.facts.context = config.context;
        self.facts.width = config.width;
        self.facts.layers = config.layers;
        self.facts.vocab = config.vocab.or(self.facts.vocab);
        if !config.code.is_empty() {
            let keys = config.code.join(", ");
            self.facts.code.push(Labelled {
                path: CONFIG.to_owned(),
                kind: None,
                what: format!(
                    "contains code: {keys} has loaders run Python from a repo, if they are allowed to"
                ),
            });
        }
    }

    /// Looks for code in a file, whatever its name says of it. `false`: it cannot be read.
    fn code(
        &mut self,
        (path, len): (&str, u64),
        read: &mut impl FnMut(&str, Range<u64>) -> io::Result<Vec<u8>>,
    ) -> bool {
        if code::is_python(path) || len == 0 {
            if len > 0 {
                self.label(path, CodeKind::Python);
            }
            return true;
        }
        let code = code::look(path, len, |range| read(path, range));
        let Some(code) = self.take(path, code.map_err(CheckError::Read)) else {
            return false;
        };
        if let Some(kind) = code {
            self.label(path, kind);
        }
        true
    }

    /// Compares indexes with the files that they list.
    fn indexes(&mut self, indexes: &[(&str, Index)]) {
        for (path, index) in indexes {
            for name in index.files() {
                let file = beside(path, name);
                let weights = self.facts.weights.iter().find(|weights| weights.path == file);
                if let Some(Err(error)) = weights.map(|weights| index.agree(name, &weights.tensors)) {
                    self.problem(path, &error);
                }
            }
        }
    }

    /// Takes in what a GGUF file says of itself; a `config.json` says it better.
    fn gguf(&mut self, header: Option<&gguf::Header>) {
        let Some(header) = header else { return };
        let facts = &mut self.facts;
        if facts.architecture.is_none() {
            facts.architecture = header.text("general.architecture").map(super::error::shortened);
        }
        let number = |known: &mut Option<u64>, key| *known = known.or_else(|| header.of_architecture(key));
        number(&mut facts.context, "context_length");
        number(&mut facts.width, "embedding_length");
        number(&mut facts.layers, "block_count");
        if facts.vocab.is_none() {
            facts.vocab = header
                .texts("tokenizer.ggml.tokens")
                .map(|tokens| tokens.len() as u64);
        }
    }

    /// Counts the parameters of the model that the repo is.
    fn sum(&mut self, indexes: &[(&str, Index)]) {
        let weights = &self.facts.weights;
        let listed = indexes.iter().find(|(path, _)| *path == INDEX);
        let listed: Option<Vec<&str>> = listed.map(|(_, index)| index.files().collect());
        let first = weights.iter().find(|weights| weights.format == Format::Gguf);
        let part = first.map(|first| parts_of(&first.path));
        let has = |wanted: &str| weights.iter().any(|weights| weights.path == wanted);
        let any = weights
            .iter()
            .any(|weights| weights.format == Format::Safetensors);
        let counts = |file: &&Weights| match (&listed, &part) {
            (Some(listed), _) => listed.contains(&file.path.as_str()),
            (None, _) if has(WHOLE) => file.path == WHOLE,
            (None, _) if any => file.format == Format::Safetensors,
            (None, Some(part)) => parts_of(&file.path) == *part,
            (None, None) => false,
        };
        let mut parameters: BTreeMap<Dtype, u64> = BTreeMap::new();
        for tensor in weights.iter().filter(counts).flat_map(|weights| &weights.tensors) {
            let count = parameters.entry(tensor.dtype).or_default();
            *count = count.saturating_add(tensor.elements());
        }
        self.facts.parameters = parameters;
    }
}

/// What the names of all parts of a GGUF file begin with, such as `x` of `x-00001-of-00003.gguf`; else the whole name.
fn parts_of(path: &str) -> &str {
    let numbered = || {
        let (name, count) = path.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (name, number) = name.rsplit_once('-')?;
        let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        (digits(count) && digits(number)).then_some(name)
    };
    numbered().unwrap_or(path)
}

/// A file, read front to back by ranges.
fn ranged<'a, F: FnMut(&str, Range<u64>) -> io::Result<Vec<u8>>>(
    path: &'a str,
    len: u64,
    read: &'a mut F,
) -> Ranged<'a, F> {
    Ranged {
        path,
        len,
        read,
        next: 0,
        piece: io::Cursor::default(),
    }
}

struct Ranged<'a, F> {
    path: &'a str,
    len: u64,
    read: &'a mut F,
    next: u64,
    piece: io::Cursor<Vec<u8>>,
}

impl<F: FnMut(&str, Range<u64>) -> io::Result<Vec<u8>>> Read for Ranged<'_, F> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.piece.read(room)?;
            if read > 0 || room.is_empty() || self.next >= self.len {
                return Ok(read);
            }
            let end = self.next.saturating_add(PIECE_LEN).min(self.len);
            let piece = (self.read)(self.path, self.next..end)?;
            if piece.len() as u64 != end - self.next {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.next = end;
            self.piece = io::Cursor::new(piece);
        }
    }
}
