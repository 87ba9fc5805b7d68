//! Which files of a repo an engine needs. Decided by their paths alone: weights that no program has to be run for, and the small
//! files beside them that say what they are. Nothing that can carry code is ever among them.

use protocol::{FileEntry, Manifest};

use super::RunError;

/// Small files that say what a model is, at the root of its repo.
const BESIDE: [&str; 10] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
];

/// The list of the shards that a model is split into.
const INDEX: &str = "model.safetensors.index.json";

/// Weights in one file.
const WHOLE: &str = "model.safetensors";

/// Ends of names of files with weights that are never loaded: reading them can run code.
const CODE: [&str; 6] = [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".joblib"];

/// Longest small file, in bytes: the largest tokenizers have some 40 MB.
const BESIDE_LEN_MAX: u64 = 256 << 20;

/// The files of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked<'a> {
    /// Those with weights.
    pub weights: Vec<&'a FileEntry>,
    /// Those that say what it is.
    pub beside: Vec<&'a FileEntry>,
}

impl<'a> Picked<'a> {
    /// Picks the files of the model in a repo: the one with this path, or the only one there is.
    ///
    /// # Errors
    /// [`RunError::NoModel`], [`RunError::Several`].
    pub fn of(manifest: &'a Manifest, file: Option<&str>) -> Result<Picked<'a>, RunError> {
        let weights = match file {
            Some(path) => vec![named(manifest, path)?],
            None => only(manifest)?,
        };
        let beside = manifest.files().iter().filter(|file| is_beside(file));
        Ok(Picked {
            weights,
            beside: beside.collect(),
        })
    }

    /// All of them.
    pub fn files(&self) -> impl Iterator<Item = &'a FileEntry> {
        self.beside.iter().chain(&self.weights).copied()
    }
}

fn named<'a>(manifest: &'a Manifest, path: &str) -> Result<&'a FileEntry, RunError> {
    let found = manifest
        .file(path)
        .filter(|file| ends(file, ".gguf") || ends(file, ".safetensors"));
    found.ok_or_else(|| RunError::NoModel {
        what: format!("there is no {path}, or it is neither .gguf nor .safetensors"),
    })
}

fn only(manifest: &Manifest) -> Result<Vec<&FileEntry>, RunError> {
    if let Some(whole) = manifest.file(WHOLE) {
        return Ok(vec![whole]);
    }
    let files = || manifest.files().iter();
    if manifest.file(INDEX).is_some() {
        let shards: Vec<_> = files().filter(|file| is_shard(file)).collect();
        if !shards.is_empty() {
            return Ok(shards);
        }
    }
    let loose: Vec<_> = files()
        .filter(|file| ends(file, ".gguf") || at_root(file) && ends(file, ".safetensors"))
        .collect();
    match *loose.as_slice() {
        [one] => Ok(vec![one]),
        [] => Err(RunError::NoModel { what: none(manifest) }),
        _ => Err(RunError::Several {
            files: loose.iter().map(|file| file.path.as_str().to_owned()).collect(),
        }),
    }
}

fn none(manifest: &Manifest) -> String {
    let code = manifest
        .files()
        .iter()
        .find(|file| CODE.iter().any(|end| ends(file, end)));
    match code {
        Some(file) => format!(
            "weights are read from .safetensors and .gguf files, and {} can run code",
            file.path.as_str()
        ),
        None => "there is no .safetensors and no .gguf file".to_owned(),
    }
}

/// `model-00001-of-00002.safetensors`, or whatever an index may list beside itself.
fn is_shard(file: &FileEntry) -> bool {
    at_root(file) && ends(file, ".safetensors") && file.path.as_str().starts_with("model-")
}

fn is_beside(file: &FileEntry) -> bool {
    let path = file.path.as_str();
    // How an encoder pools is said in a folder for each of its modules.
    let module = path
        .strip_suffix("/config.json")
        .is_some_and(|folder| !folder.contains('/') && folder.starts_with(|c: char| c.is_ascii_digit()));
    file.size <= BESIDE_LEN_MAX && (BESIDE.contains(&path) || path == INDEX || module)
}

fn at_root(file: &FileEntry) -> bool {
    !file.path.as_str().contains('/')
}

fn ends(file: &FileEntry, end: &str) -> bool {
    file.path.as_str().ends_with(end)
}

#[cfg(test)]
mod tests {
    use protocol::Hash;

    use super::*;

    fn manifest(paths: &[&str]) -> Manifest {
        let file = |path: &&str| FileEntry {
            path: path.parse().unwrap(),
            size: 3,
            blake3: Hash::of(b"abc"),
            sha256: None,
            sha1: None,
        };
        Manifest::new(paths.iter().map(file).collect()).unwrap()
    }

    fn paths(paths: &[&str], file: Option<&str>) -> Result<Vec<String>, RunError> {
        let manifest = manifest(paths);
        let picked = Picked::of(&manifest, file)?;
        Ok(picked.files().map(|file| file.path.as_str().to_owned()).collect())
    }

    #[test]
    fn model_is_its_weights_and_what_says_what_they_are() {
        let encoder = [
            "1_Pooling/config.json",
            "README.md",
            "config.json",
            "model.safetensors",
            "modules.json",
            "onnx/config.json",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "tokenizer.json",
            "train.py",
        ];
        let wanted = [
            "1_Pooling/config.json",
            "config.json",
            "modules.json",
            "tokenizer.json",
            "model.safetensors",
        ];
        assert_eq!(paths(&encoder, None).unwrap(), wanted);
        let shards = [
            "config.json",
            "consolidated.safetensors",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            INDEX,
        ];
        let wanted = ["config.json", INDEX, shards[2], shards[3]];
        assert_eq!(paths(&shards, None).unwrap(), wanted);
        assert_eq!(paths(&["a.gguf", "README.md"], None).unwrap(), ["a.gguf"]);
    }

    #[test]
    fn one_of_several_models_is_named() {
        let several = ["q4.gguf", "q8/model.gguf"];
        let error = paths(&several, None).unwrap_err();
        assert_eq!(error.to_string(), "2 models are in it: q4.gguf, q8/model.gguf");
        assert_eq!(paths(&several, Some("q8/model.gguf")).unwrap(), ["q8/model.gguf"]);
        for wrong in ["q5.gguf", "README.md"] {
            assert!(matches!(
                paths(&several, Some(wrong)),
                Err(RunError::NoModel { .. })
            ));
        }
    }

    #[test]
    fn what_can_run_code_is_never_a_model() {
        for code in CODE {
            let path = format!("pytorch_model{code}");
            let error = paths(&["config.json", &path], None).unwrap_err().to_string();
            assert!(error.contains(&path) && error.contains("can run code"), "{error}");
            assert!(paths(&[&path], Some(&path)).is_err());
        }
        assert!(
            paths(&["README.md"], None)
                .unwrap_err()
                .to_string()
                .contains("no .gguf")
        );
    }
}
