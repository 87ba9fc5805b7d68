//! A small model to publish where there is none: real files of the real formats, with random weights. It says of itself what it is.
//!
//! Two layers of the Llama architecture, 16 MiB in 32-bit floats: large enough that a speed means something, and made in a moment.
//! The weights come from a fixed seed, so that everybody's is the same model.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, json};

const LAYERS: usize = 2;
const HIDDEN: usize = 256;
const INNER: usize = 1024;
const VOCABULARY: usize = 8192;

/// Where the random weights begin.
const SEED: u64 = 0x0005_40a1_0de1;

/// What a reader must know before anything else.
const LABEL: &str = "random weights, made by shoal demo; not a trained model";

/// How the numbers of a tensor come about.
#[derive(Clone, Copy)]
enum Fill {
    Random,
    Ones,
}

/// Makes the model's folder. Returns its size in bytes.
pub(super) fn make(folder: &Path) -> io::Result<u64> {
    fs::create_dir(folder)?;
    fs::write(folder.join("README.md"), readme())?;
    fs::write(folder.join("config.json"), pretty(&config())?)?;
    fs::write(folder.join("tokenizer.json"), pretty(&tokenizer())?)?;
    write_weights(&folder.join("model.safetensors"))?;
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

fn readme() -> String {
    format!(
        "---\nlibrary_name: transformers\nlicense: cc0-1.0\ntags:\n- demo\n- random-weights\n---\n# demo-model\n\n\
         {LABEL}.\n\nIt has the form of a Llama model of {LAYERS} layers, so that programs can read it, and says nothing of use.\n"
    )
}

fn config() -> serde_json::Value {
    json!({
        "_comment": LABEL,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 512,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    })
}

/// One word a byte: a tokenizer that programs can load, for a model that has nothing to say.
fn tokenizer() -> serde_json::Value {
    let mut words = Map::new();
    let special = ["<unk>", "<s>", "</s>"];
    let characters = (b' '..=b'~').map(|byte| char::from(byte).to_string());
    for (id, word) in special
        .into_iter()
        .map(str::to_owned)
        .chain(characters)
        .enumerate()
    {
        words.insert(word, json!(id));
    }
    let added: Vec<_> = special
        .iter()
        .enumerate()
        .map(|(id, word)| {
            json!({"id": id, "content": word, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
        })
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false},
        "post_processor": null,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"},
    })
}

/// The tensors in the order of their bytes.
fn tensors() -> Vec<(String, Vec<usize>, Fill)> {
    let mut tensors = vec![(
        "model.embed_tokens.weight".to_owned(),
        vec![VOCABULARY, HIDDEN],
        Fill::Random,
    )];
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape: &[usize], fill| {
            tensors.push((
                format!("model.layers.{layer}.{name}.weight"),
                shape.to_vec(),
                fill,
            ))
        };
        add("input_layernorm", &[HIDDEN], Fill::Ones);
        for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            add(&format!("self_attn.{name}"), &[HIDDEN, HIDDEN], Fill::Random);
        }
        add("post_attention_layernorm", &[HIDDEN], Fill::Ones);
        for name in ["gate_proj", "up_proj"] {
            add(&format!("mlp.{name}"), &[INNER, HIDDEN], Fill::Random);
        }
        add("mlp.down_proj", &[HIDDEN, INNER], Fill::Random);
    }
    tensors.push(("model.norm.weight".to_owned(), vec![HIDDEN], Fill::Ones));
    tensors
}

/// Writes safetensors: the length of the header in 8 bytes, the header in JSON filled up with blanks to 8 bytes, the tensors.
fn write_weights(path: &Path) -> io::Result<()> {
    let tensors = tensors();
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt", "note": LABEL}));
    let mut offset = 0;
    for (name, shape, _) in &tensors {
        let end = offset + 4 * shape.iter().product::<usize>();
        header.insert(
            name.clone(),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [offset, end]}),
        );
        offset = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let mut random = Random(SEED);
    for (_, shape, fill) in &tensors {
        // As weights are drawn at the start of a training: the wider the input, the smaller.
        let scale = 1.0 / (shape.last().copied().unwrap_or(1) as f32).sqrt();
        for _ in 0..shape.iter().product() {
            let number = match fill {
                Fill::Random => random.next() * scale,
                Fill::Ones => 1.0,
            };
            file.write_all(&number.to_le_bytes())?;
        }
    }
    file.flush()
}

fn pretty(value: &serde_json::Value) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    /// The next number, evenly from -1 to 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn model_is_real_labelled_and_the_same_every_time() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let bytes = make(&one).unwrap();
        assert_eq!(make(&two).unwrap(), bytes);
        assert!((16 << 20..17 << 20).contains(&bytes), "{bytes}");
        for name in ["README.md", "config.json", "tokenizer.json", "model.safetensors"] {
            assert_eq!(
                fs::read(one.join(name)).unwrap(),
                fs::read(two.join(name)).unwrap(),
                "{name}"
            );
        }
        for name in ["README.md", "config.json"] {
            assert!(
                fs::read_to_string(one.join(name)).unwrap().contains(LABEL),
                "{name}"
            );
        }
    }

    #[test]
    fn weights_are_safetensors_without_holes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        write_weights(&path).unwrap();
        let bytes = fs::read(path).unwrap();
        let (len, rest) = bytes.split_first_chunk::<8>().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
        assert_eq!(header.len() % 8, 0);
        let Value::Object(header) = serde_json::from_slice(header).unwrap() else {
            panic!("not an object")
        };
        assert_eq!(header["__metadata__"]["note"], LABEL);
        let mut ranges = Vec::new();
        for (_, tensor) in header.iter().filter(|(name, _)| *name != "__metadata__") {
            let shape = tensor["shape"]
                .as_array()
                .unwrap()
                .iter()
                .map(|n| n.as_u64().unwrap());
            let [start, end] = [0, 1].map(|i| tensor["data_offsets"][i].as_u64().unwrap());
            assert_eq!(end - start, 4 * shape.product::<u64>());
            ranges.push((start, end));
        }
        ranges.sort_unstable();
        let end = ranges.iter().fold(0, |before, (start, end)| {
            assert_eq!(before, *start);
            *end
        });
        assert_eq!(end, data.len() as u64);
        let numbers = data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes));
        assert!(
            numbers
                .clone()
                .all(|number| number.is_finite() && number.abs() <= 1.0)
        );
        assert!(numbers.clone().any(|number| number < 0.0));
    }
}
