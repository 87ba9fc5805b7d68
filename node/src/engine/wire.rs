//! What a node and its engine say to each other: one line of JSON each, over the engine's stdin and stdout. The engine is the
//! child process in which models run; the node asks, the engine answers each ask with what is said below, in order.

use std::path::PathBuf;

use protocol::Hash;
use serde::{Deserialize, Serialize};

/// Longest line either side reads, in bytes: a megabyte of a small file in base64, and its frame; or the values of one long answer.
pub const LINE_LEN_MAX: usize = 64 << 20;

/// What the node asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Opens these files, closes every door behind it, and loads the model in them. Asked once, and first (or `Scan` instead).
    Load {
        /// The files of the model: all that the engine will ever see.
        files: Vec<Given>,
        /// How the weights are kept in memory.
        weights: Weights,
    },
    /// Opens these files, closes every door behind it, and looks at every number in their tensors. Makes no model, and takes little memory.
    Scan {
        /// The files of the model.
        files: Vec<Given>,
    },
    /// Which tokens a text is.
    Tokens {
        /// The text.
        text: String,
        /// Whether the tokenizer adds what it puts around a text.
        special: bool,
    },
    /// The embedding of a text.
    Embed {
        /// What is embedded.
        input: Input,
    },
    /// Text that goes on where the prompt ends.
    Generate(Generate),
    /// What a causal model expects at every position of these tokens; what it expects is 32 bits floats wherever weights are `F32`.
    Logits {
        /// The tokens: at least 1.
        ids: Vec<u32>,
        /// How many of the likeliest tokens are said for each position.
        top: usize,
    },
}

/// A file of a model, and where the engine finds its bytes. It hashes them itself before it believes them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Given {
    /// Its path in the repo.
    pub path: String,
    /// Its length, in bytes.
    pub size: u64,
    /// What its bytes hash to.
    pub blake3: Hash,
    /// Where they are.
    pub bytes: Bytes,
}

/// Where the bytes of a given file are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bytes {
    /// In a file on disk.
    At(PathBuf),
    /// Here, in base64: a small file that is a row of the store.
    Inline(String),
}

/// How weights are kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// As 32 bits floats, whatever the file has: results are the same to the last digits on every machine.
    F32,
    /// As they are in the file: less memory, and results that differ from machine to machine.
    Stored,
}

/// A text, or the tokens it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A text, for the model's own tokenizer.
    Text(String),
    /// Tokens, with all that the tokenizer would put around them.
    Ids(Vec<u32>),
}

/// What to generate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Generate {
    /// What it goes on from.
    pub prompt: Prompt,
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// 0: always the likeliest token. Higher: more variety.
    pub temperature: f64,
    /// Only the likeliest tokens that make up this share are drawn from; `None`: all.
    pub top_p: Option<f64>,
    /// The same seed draws the same tokens.
    pub seed: u64,
    /// Texts at which it ends; they are not part of the answer.
    pub stop: Vec<String>,
}

/// What a generation goes on from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Plain text, or tokens, with nothing around them but what the tokenizer adds.
    Plain(Input),
    /// A chat, by the model's own template; a model without one gets the messages as plain text.
    Chat(Vec<Message>),
}

/// A message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`, mostly: templates decide.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// What the engine says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// Which doors are closed now: said before any byte of a model is looked at.
    Closed(Doors),
    /// So many bytes of the files have been read: said now and then while it loads or scans.
    Read {
        /// Bytes read so far, of all files.
        bytes: u64,
    },
    /// The model is loaded.
    Loaded(Loaded),
    /// What a scan found.
    Scanned(Vec<Numbers>),
    /// The tokens of a text.
    Tokens(Vec<u32>),
    /// An embedding.
    Embedding {
        /// The vector, of length 1 where the model's own files say that it is to be normalized.
        values: Vec<f32>,
        /// The tokens it was made of.
        ids: Vec<u32>,
    },
    /// A piece of the generated text: one token or a few, always whole characters.
    Text {
        /// The text.
        text: String,
        /// The tokens it is.
        ids: Vec<u32>,
    },
    /// The generated text is at its end.
    Generated(Generated),
    /// What a model expects, a row for each position.
    Logits {
        /// The rows.
        rows: Vec<Row>,
        /// BLAKE3 of all logits, as little-endian 32 bits floats: equal where the computation was equal to the last bit.
        digest: Hash,
    },
    /// The ask cannot be done. A `Load` or `Scan` that fails ends the engine; after any other it goes on.
    Failed(Fault),
}

/// What the engine can't do any more, whatever runs in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doors {
    /// System calls are filtered: it cannot open files, reach a network, or start programs.
    pub syscalls: bool,
    /// Its memory is limited, to so many bytes.
    pub memory: Option<u64>,
    /// Its processor time is limited, to so many seconds.
    pub cpu_s: Option<u64>,
    /// What this system does not offer, in words.
    pub missing: Vec<String>,
}

/// A loaded model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Loaded {
    /// The architecture, as its files call it.
    pub architecture: String,
    /// What it can do.
    pub task: Task,
    /// Its parameters.
    pub parameters: u64,
    /// Tokens it can look back on, as its files say.
    pub context: usize,
    /// Whether it has a chat template.
    pub chat: bool,
    /// How its weights are kept.
    pub weights: Weights,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Doors of its process that this system cannot close, in words, as who started it heard: see [`Doors::missing`].
    #[serde(default)]
    pub open: Vec<String>,
}

/// What a model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Make embeddings of texts.
    Embed,
    /// Go on with texts.
    Generate,
}

/// The end of a generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Generated {
    /// Why it ended.
    pub end: End,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens generated.
    pub tokens: usize,
    /// Seconds for the prompt.
    pub prompt_s: f64,
    /// Seconds for the generated tokens.
    pub tokens_s: f64,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The model said so, or one of the texts at which to stop came.
    Stop,
    /// As many tokens as were asked for, or as the model can look back on.
    Length,
}

/// What a model expects behind a position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The likeliest tokens with their logits, likeliest first.
    pub top: Vec<(u32, f32)>,
    /// Logarithm of the sum of the exponentials of all logits.
    pub lse: f32,
    /// The logit of the token that stands at the next position; `None` at the last position.
    pub next: Option<f32>,
}

/// What is in a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// The file.
    pub path: String,
    /// The tensor.
    pub tensor: String,
    /// Its elements.
    pub elements: u64,
    /// Elements, or scales of blocks, that are no numbers.
    pub nan: u64,
    /// Those that are infinite.
    pub infinite: u64,
    /// Whether all elements are 0.
    pub zero: bool,
    /// Whether all elements are the same, and there is more than one.
    pub equal: bool,
    /// The largest absolute value of the finite ones; for quantized blocks, of their scales.
    pub max_abs: f64,
}

/// Why an ask cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The architecture is none that this build runs.
    #[error("unsupported architecture {found:?} ({path}); this build runs: {}", supported.join(", "))]
    Architecture {
        /// What the files say.
        found: String,
        /// Which file says it.
        path: String,
        /// What could be run.
        supported: Vec<String>,
    },
    /// Something in the files that changes what the model computes is none that this build knows.
    #[error("{path}: {what}")]
    Unsupported {
        /// The file.
        path: String,
        /// What it is.
        what: String,
    },
    /// A file is not what its format asks for.
    #[error("{path}: {what}")]
    Invalid {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// There is no file of that kind.
    #[error("no {what} among the files")]
    Absent {
        /// What is looked for.
        what: String,
    },
    /// A file's bytes do not hash to its name, or cannot be read.
    #[error("{path}: {what}")]
    Bytes {
        /// The file.
        path: String,
        /// What came.
        what: String,
    },
    /// The model cannot do what is asked.
    #[error("{0}")]
    Ask(String),
    /// The model's numbers are none: NaN or infinite where a number must be.
    #[error("the model computes {0}")]
    NotANumber(String),
}
