//! What computes, and what a model has: what an exam and an attestation have to know.

use protocol::Hash;

use crate::{check::TensorInfo, run::Ready};

/// What computes, and how: in every attestation.
pub(super) const RUNTIME: &str = "candle 0.11.1 f32";

/// Ends of the names of tables with an embedding for each token.
const TABLES: [&str; 5] = [
    "embed_tokens.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "token_embd.weight",
    "wte.weight",
];

/// The processor, and what of it makes results differ in their last bits.
pub(super) fn features() -> String {
    let mut words = vec![std::env::consts::ARCH];
    words.extend(extensions());
    words.join(" ")
}

#[cfg(target_arch = "x86_64")]
fn extensions() -> Vec<&'static str> {
    let known = [
        ("sse4.2", std::arch::is_x86_feature_detected!("sse4.2")),
        ("f16c", std::arch::is_x86_feature_detected!("f16c")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ];
    known
        .into_iter()
        .filter(|(_, has)| *has)
        .map(|(word, _)| word)
        .collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn extensions() -> Vec<&'static str> {
    Vec::new()
}

/// How many tokens the model has an embedding for; `None`: no such table is known in it.
pub(super) fn vocabulary(tensors: &[TensorInfo]) -> Option<u32> {
    let table = tensors.iter().find(|tensor| {
        let named = TABLES.iter().any(|end| tensor.name.ends_with(end));
        named && tensor.shape.len() == 2
    });
    let rows = *table?.shape.first()?;
    u32::try_from(rows).ok().filter(|rows| *rows > 0)
}

/// The hashes of a model's weights, in the order of their paths.
pub(super) fn weights(ready: &Ready) -> Vec<Hash> {
    let mut files: Vec<(&str, Hash)> = ready
        .files
        .iter()
        .filter(|file| file.path.ends_with(".safetensors") || file.path.ends_with(".gguf"))
        .map(|file| (file.path.as_str(), file.blake3))
        .collect();
    files.sort_unstable();
    files.into_iter().map(|(_, hash)| hash).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Dtype;

    #[test]
    fn runtime_is_the_one_that_is_built_in() {
        let lock = include_str!("../../../Cargo.lock").replace('\r', "");
        let version = RUNTIME.split(' ').nth(1).unwrap();
        let wanted = format!("name = \"candle-core\"\nversion = \"{version}\"\n");
        assert!(lock.contains(&wanted), "{RUNTIME}");
        assert!(features().starts_with(std::env::consts::ARCH));
    }

    #[test]
    fn vocabulary_is_the_rows_of_the_table_of_tokens() {
        let tensor = |name: &str, shape: &[u64]| TensorInfo {
            name: name.to_owned(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            range: 0..4,
        };
        let of = |name: &str, shape: &[u64]| {
            vocabulary(&[
                tensor("embeddings.position_embeddings.weight", &[512, 384]),
                tensor(name, shape),
            ])
        };
        for name in [
            "embeddings.word_embeddings.weight",
            "bert.embeddings.word_embeddings.weight",
            "model.embed_tokens.weight",
            "token_embd.weight",
        ] {
            assert_eq!(of(name, &[30_522, 384]), Some(30_522), "{name}");
        }
        assert_eq!(of("token_embd.weight", &[30_522]), None);
        assert_eq!(of("token_embd.weight", &[0, 384]), None);
        assert_eq!(of("token_embd.weight", &[1 << 40, 384]), None);
        assert_eq!(of("lm_head.weight", &[30_522, 384]), None);
    }
}
