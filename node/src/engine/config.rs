//! What a causal model computes, in words that do not depend on who wrote its files: read from a `config.json`, or from the metadata
//! of a GGUF file. Every value that changes the numbers is here, and explicit. Where a file leaves one out, it is what transformers
//! takes for that architecture; where a file has one that is not known here, the model is refused by that key and value.

pub(crate) mod gguf;
pub(crate) mod json;
mod keys;

use super::wire::Fault;

/// How the tensors of a model are named and laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As transformers saves them.
    Safetensors,
    /// As llama.cpp's converter does.
    Gguf,
}

/// The family of decoders that a model is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    /// Llama, and what calls itself so: SmolLM2, TinyLlama, Yi and others.
    Llama,
    /// Llama that looks back only so far.
    Mistral,
    /// Llama with biases on q, k and v.
    Qwen2,
    /// Llama with norms on q and k.
    Qwen3,
    /// Gemma 3, its text part.
    Gemma3,
    /// Phi 3 and 4: Llama with fused projections.
    Phi3,
}

/// What this build runs: what a file calls the architecture, in which form, and the model type that goes with that name. A pair is
/// here only with a test that compares its logits with those that transformers computes (`decoder/parity.rs`).
pub(crate) const SUPPORTED: &[(&str, Form, &str, Architecture)] = &[
    (
        "LlamaForCausalLM",
        Form::Safetensors,
        "llama",
        Architecture::Llama,
    ),
    (
        "MistralForCausalLM",
        Form::Safetensors,
        "mistral",
        Architecture::Mistral,
    ),
    (
        "Qwen2ForCausalLM",
        Form::Safetensors,
        "qwen2",
        Architecture::Qwen2,
    ),
    (
        "Qwen3ForCausalLM",
        Form::Safetensors,
        "qwen3",
        Architecture::Qwen3,
    ),
    (
        "Gemma3ForCausalLM",
        Form::Safetensors,
        "gemma3_text",
        Architecture::Gemma3,
    ),
    ("Phi3ForCausalLM", Form::Safetensors, "phi3", Architecture::Phi3),
    ("llama", Form::Gguf, "llama", Architecture::Llama),
    ("qwen2", Form::Gguf, "qwen2", Architecture::Qwen2),
    ("qwen3", Form::Gguf, "qwen3", Architecture::Qwen3),
    ("gemma3", Form::Gguf, "gemma3", Architecture::Gemma3),
    ("phi3", Form::Gguf, "phi3", Architecture::Phi3),
];

/// Largest count of anything a config may ask for (a width, a vocabulary, a context), so that no product of three overflows. Real
/// ones are below 2^21; how much memory it takes is bounded by the tensors, whose shapes must be those that the config asks for.
const COUNT_MAX: usize = 1 << 21;
/// Most layers: ten times those of the deepest known models.
const LAYERS_MAX: usize = 1024;

/// What a causal model computes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// What the files call the architecture.
    pub(crate) name: String,
    /// The family.
    pub(crate) architecture: Architecture,
    /// How the tensors are named.
    pub(crate) form: Form,
    /// The file that says all this.
    pub(crate) path: String,
    /// Tokens that there are.
    pub(crate) vocab: usize,
    /// Width of what goes from layer to layer.
    pub(crate) hidden: usize,
    /// Width within the feed-forward part.
    pub(crate) intermediate: usize,
    /// Heads of queries: a multiple of `kv_heads`.
    pub(crate) heads: usize,
    /// Heads of keys and values.
    pub(crate) kv_heads: usize,
    /// Width of a head: even.
    pub(crate) head_dim: usize,
    /// How far each layer looks back, in tokens, itself included; `None`: to the beginning. One for each layer.
    pub(crate) windows: Vec<Option<usize>>,
    /// What is added to the mean of squares in a norm.
    pub(crate) norm_eps: f64,
    /// Whether norms' tensors hold what is added to 1.
    pub(crate) norm_from_one: bool,
    /// Whether there is a norm behind attention and feed-forward too, within the residual.
    pub(crate) norm_behind: bool,
    /// Whether q and k are normed, each head by itself.
    pub(crate) qk_norm: bool,
    /// What attention's scores are multiplied with.
    pub(crate) attention_scale: f64,
    /// What embeddings are multiplied with.
    pub(crate) embedding_scale: Option<f64>,
    /// What the gate goes through.
    pub(crate) activation: Activation,
    /// Whether q, k, v are one matrix, and gate and up another.
    pub(crate) fused: bool,
    /// Which matrices have biases.
    pub(crate) biases: Biases,
    /// How positions turn q and k.
    pub(crate) rope: Rope,
    /// The same for layers with a window, where it is another.
    pub(crate) rope_window: Option<Rope>,
    /// How many of a head's numbers are turned: even, the first ones.
    pub(crate) rope_dim: usize,
    /// Which numbers of a head are turned together.
    pub(crate) pairs: Pairs,
    /// Whether the output is computed with the embeddings' matrix; `None`: where there is no other one.
    pub(crate) tied: Option<bool>,
    /// Tokens it can look back on, as its files say.
    pub(crate) context: usize,
    /// Tokens that end a text.
    pub(crate) stops: Vec<u32>,
}

/// What the gate goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// x·sigmoid(x).
    Silu,
    /// GELU by its approximation with tanh.
    GeluTanh,
}

/// Which matrices have biases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Biases {
    /// Those of q, k and v.
    pub(crate) qkv: bool,
    /// That behind attention.
    pub(crate) output: bool,
    /// Those of the feed-forward part.
    pub(crate) feed_forward: bool,
}

/// How positions turn q and k: pair `i` of `rope_dim / 2` by position / theta^(2i / rope_dim), scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rope {
    /// The base.
    pub(crate) theta: f64,
    /// What is done to the angles.
    pub(crate) scaling: Scaling,
}

/// How angles are scaled, for contexts longer than those trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scaling {
    /// Not at all.
    None,
    /// All divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Those that turn slowly divided by a factor, and a smooth passage to those that are left alone.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Waves longer than `original` / this are divided by the factor.
        low: f64,
        /// Waves shorter than `original` / this are left alone.
        high: f64,
        /// The context trained on first, in tokens.
        original: f64,
    },
}

/// Which numbers of a head are turned together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairs {
    /// i and i + rope_dim / 2.
    Halves,
    /// 2i and 2i + 1: llama's rows of q and k, in GGUF files.
    Neighbours,
}

impl Settings {
    /// Checks what all forms have in common.
    fn checked(self) -> Result<Settings, Fault> {
        let counts = [
            ("vocabulary", self.vocab),
            ("width", self.hidden),
            ("feed-forward width", self.intermediate),
            ("heads", self.heads),
            ("key heads", self.kv_heads),
            ("head width", self.head_dim),
        ];
        for (what, count) in counts {
            if count == 0 || count > COUNT_MAX {
                return Err(self.invalid(format!("{what} of {count}: 1 to {COUNT_MAX} can be")));
            }
        }
        let layers = self.windows.len();
        if layers == 0 || layers > LAYERS_MAX {
            return Err(self.invalid(format!("{layers} layers: 1 to {LAYERS_MAX} can be")));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let (heads, kv_heads) = (self.heads, self.kv_heads);
            return Err(self.invalid(format!("{heads} heads cannot share {kv_heads} key heads")));
        }
        let wide = self.heads.max(self.kv_heads).checked_mul(self.head_dim);
        if wide.is_none_or(|wide| wide > COUNT_MAX) {
            return Err(self.invalid(format!("{} heads of {} are too many", self.heads, self.head_dim)));
        }
        let dim = self.rope_dim;
        if dim == 0 || dim > self.head_dim || !dim.is_multiple_of(2) {
            return Err(self.invalid(format!(
                "{dim} of {} numbers of a head cannot be turned",
                self.head_dim
            )));
        }
        if self.windows.contains(&Some(0)) {
            return Err(self.invalid("a window of 0 tokens".to_owned()));
        }
        if self.context == 0 {
            return Err(self.invalid("a context of 0 tokens".to_owned()));
        }
        let numbers = [
            ("norm epsilon", self.norm_eps),
            ("attention scale", self.attention_scale),
            ("embedding scale", self.embedding_scale.unwrap_or(1.0)),
        ];
        for (what, number) in numbers
            .into_iter()
            .chain(self.rope.numbers())
            .chain(self.rope_window.iter().flat_map(Rope::numbers))
        {
            if !(number > 0.0 && number <= 1e12) {
                return Err(self.invalid(format!("{what} of {number}")));
            }
        }
        Ok(self)
    }

    fn invalid(&self, what: String) -> Fault {
        Fault::Invalid {
            path: self.path.clone(),
            what,
        }
    }
}

impl Rope {
    /// Numbers that must be positive.
    fn numbers(&self) -> impl Iterator<Item = (&'static str, f64)> + use<> {
        let scaling = match self.scaling {
            Scaling::None => [1.0; 4],
            Scaling::Linear { factor } => [factor, 1.0, 1.0, 1.0],
            // The passage from low to high divides by their difference.
            Scaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => [factor, low, original, high - low],
        };
        [("rope theta", self.theta)]
            .into_iter()
            .chain(scaling.map(|number| ("rope scaling", number)))
    }
}

/// Finds the architecture that a file names.
fn architecture(name: &str, form: Form, path: &str) -> Result<(Architecture, &'static str), Fault> {
    SUPPORTED
        .iter()
        .find(|(known, in_form, ..)| *known == name && *in_form == form)
        .map(|(_, _, model_type, architecture)| (*architecture, *model_type))
        .ok_or_else(|| Fault::Architecture {
            found: name.to_owned(),
            path: path.to_owned(),
            supported: SUPPORTED
                .iter()
                .filter(|(_, in_form, ..)| *in_form == form)
                .map(|(known, ..)| (*known).to_owned())
                .collect(),
        })
}

#[cfg(test)]
mod tests;
