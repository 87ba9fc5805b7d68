//! What Ollama pulls: an image whose layers are files of a repo, named by their SHA-256, and a configuration that is made here.
//!
//! Older builds of llama.cpp read the same manifest, and in it the names of the files.

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use protocol::{FileEntry, Manifest};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Hub;
use super::digests::{etag, lfs_oid};
use super::problem::Problem;
use super::query;
use super::revisions::Revision;
use super::route::{Address, At, MAIN};

const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG_TYPE: &str = "application/vnd.docker.container.image.v1+json";
const LAYER_TYPE: &str = "application/vnd.ollama.image.";
/// What clients ask for who do not say which.
const LATEST: &str = "latest";
/// What they get then: the first of these that there is.
const USUAL: [&str; 2] = ["Q4_K_M", "Q8_0"];
/// Files beside the model that are layers, and as what.
const BESIDE: [(&str, &str); 5] = [
    ("template", "template"),
    ("system", "system"),
    ("params", "params"),
    ("LICENSE", "license"),
    ("LICENSE.txt", "license"),
];
/// Longest file that is taken for one of them, in bytes: Ollama holds them in memory.
const BESIDE_LEN_MAX: u64 = 1024 * 1024;
/// Models named in an error.
const NAMED_MAX: usize = 20;

impl Hub {
    /// Answers with the manifest of an image.
    pub(super) async fn ollama_manifest(&self, repo: &Address, tag: &str) -> Result<Response, Problem> {
        let revision = self.main(repo).await?;
        let manifest = &revision.manifest;
        let model = choose(manifest, tag).ok_or_else(|| no_model(&repo.id, manifest, tag))?;
        let config = config(model);
        let digest = digest_of(&config);
        let mut layers = vec![layer(model, "model").ok_or_else(|| unnamed(model))?];
        let projector = manifest.files().iter().find(|file| is_projector(file));
        layers.extend(projector.and_then(|file| layer(file, "projector")));
        for (path, kind) in BESIDE {
            let file = manifest.file(path).filter(|file| file.size <= BESIDE_LEN_MAX);
            layers.extend(file.and_then(|file| layer(file, kind)));
        }
        let mut answer = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": { "mediaType": CONFIG_TYPE, "digest": digest, "size": config.len() },
            "layers": layers,
            "ggufFile": named(model),
        });
        if let Some(projector) = projector {
            answer["mmprojFile"] = named(projector);
        }
        let mut response = query::json(answer);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(MANIFEST_TYPE));
        Ok(response)
    }

    /// Answers with a layer or a configuration. `Location` is where Ollama gets the pieces from: it asks for it even where the answer
    /// is the blob itself.
    pub(super) async fn ollama_blob(
        &self,
        repo: &Address,
        digest: &str,
        head: &Parts,
    ) -> Result<Response, Problem> {
        let revision = self.main(repo).await?;
        let files = revision.manifest.files();
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        let file = files
            .iter()
            .find(|file| file.sha256.is_some_and(|sha256| sha256.to_string() == hex));
        let (location, len, body) = match file {
            Some(file) => {
                let (rev, path) = (revision.commit.clone(), file.path.as_str());
                let location = query::encode(&format!("/{}/resolve/{rev}/{path}", repo.id));
                if head.method != Method::HEAD {
                    let repo = repo.clone();
                    let mut response = self.file(head, &At { repo, rev }, path).await?;
                    let location = HeaderValue::from_str(&location)?;
                    response.headers_mut().insert(header::LOCATION, location);
                    return Ok(response);
                }
                (location, file.size, Body::empty())
            }
            None => {
                let mut configs = files.iter().filter(|file| is_model(file)).map(config);
                let config = configs.find(|config| digest_of(config) == digest);
                let config = config.ok_or_else(|| {
                    let message = format!("{} has no blob {digest} in its newest revision", repo.id);
                    Problem::refused(StatusCode::NOT_FOUND, message)
                })?;
                (head.uri.path().to_owned(), config.len() as u64, config.into())
            }
        };
        let mut response = body.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, len.into());
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        if let Some(file) = file {
            headers.insert(
                header::ETAG,
                HeaderValue::from_str(&format!("\"{}\"", etag(file)))?,
            );
        }
        headers.insert(header::LOCATION, HeaderValue::from_str(&location)?);
        Ok(response)
    }

    async fn main(&self, repo: &Address) -> Result<Revision, Problem> {
        let at = At {
            repo: repo.clone(),
            rev: MAIN.to_owned(),
        };
        self.revision(&at).await
    }
}

/// The name of a file without its folders, and without its end.
fn stem(file: &FileEntry) -> Option<&str> {
    let path = file.path.as_str();
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let (stem, end) = name.rsplit_once('.')?;
    end.eq_ignore_ascii_case("gguf").then_some(stem)
}

/// Whether a file is a whole model: a part of one is no layer, and an eye of one is no model.
fn is_model(file: &FileEntry) -> bool {
    stem(file).is_some_and(|stem| !is_part(stem)) && !is_projector(file)
}

fn is_projector(file: &FileEntry) -> bool {
    stem(file).is_some_and(|stem| stem.to_lowercase().contains("mmproj"))
}

/// Whether a name ends like `-00001-of-00003`.
fn is_part(stem: &str) -> bool {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = stem.rsplitn(4, '-');
    let (count, of, at) = (parts.next(), parts.next(), parts.next());
    of == Some("of") && count.is_some_and(number) && at.is_some_and(number)
}

/// The model that a tag means: that with these words in its name, or of exactly this name.
fn choose<'a>(manifest: &'a Manifest, tag: &str) -> Option<&'a FileEntry> {
    let models: Vec<&FileEntry> = manifest.files().iter().filter(|file| is_model(file)).collect();
    let of = |tag: &str| models.iter().copied().find(|file| is_tagged(file, tag));
    if tag.eq_ignore_ascii_case(LATEST) {
        return USUAL.iter().find_map(|tag| of(tag)).or(models.first().copied());
    }
    let exact = |file: &&&FileEntry| file.path.as_str() == tag || stem(file) == Some(tag);
    models.iter().find(exact).copied().or_else(|| of(tag))
}

/// Whether the name of a model has these words, whole.
fn is_tagged(file: &FileEntry, tag: &str) -> bool {
    let (stem, tag) = (stem(file).unwrap_or_default().to_lowercase(), tag.to_lowercase());
    let apart = |character: Option<char>| character.is_none_or(|character| matches!(character, '.' | '-'));
    !tag.is_empty()
        && stem.match_indices(&tag).any(|(at, found)| {
            let before = stem[..at].chars().next_back();
            let whole = before == Some('_') || apart(before);
            whole && apart(stem[at + found.len()..].chars().next())
        })
}

/// The kind of numbers in a model, as its name says it.
fn quantisation(stem: &str) -> Option<String> {
    let is_one = |word: &&str| {
        let word = word.to_lowercase();
        let number = ["iq", "q", "tq", "bf", "f"]
            .iter()
            .find_map(|kind| word.strip_prefix(kind));
        number.is_some_and(|number| number.starts_with(|first: char| first.is_ascii_digit()))
    };
    stem.rsplit(['-', '.']).find(is_one).map(str::to_uppercase)
}

/// What Ollama keeps beside the layers: the same for ever for a model, since its hash names it.
fn config(model: &FileEntry) -> String {
    let quantisation = stem(model).and_then(quantisation);
    let config = json!({
        "model_format": "gguf",
        "file_type": quantisation.unwrap_or_else(|| "unknown".to_owned()),
        "architecture": "amd64",
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", lfs_oid(model))] },
    });
    config.to_string()
}

fn digest_of(config: &str) -> String {
    let sha256 = protocol::Sha256::from_bytes(Sha256::digest(config).into());
    format!("sha256:{sha256}")
}

/// A file as a layer; `None` where the publisher did not say its SHA-256.
fn layer(file: &FileEntry, kind: &str) -> Option<Value> {
    let digest = format!("sha256:{}", file.sha256?);
    Some(json!({ "mediaType": format!("{LAYER_TYPE}{kind}"), "digest": digest, "size": file.size }))
}

/// A file as llama.cpp reads it.
fn named(file: &FileEntry) -> Value {
    json!({ "rfilename": file.path.as_str(), "size": file.size, "lfs": { "sha256": lfs_oid(file), "size": file.size } })
}

fn unnamed(file: &FileEntry) -> Problem {
    let message = format!(
        "the manifest does not say the SHA-256 of {}: fetch it by its name",
        file.path.as_str()
    );
    Problem::refused(StatusCode::NOT_FOUND, message)
}

fn no_model(id: &str, manifest: &Manifest, tag: &str) -> Problem {
    let models = manifest.files().iter().filter(|file| is_model(file));
    let names: Vec<&str> = models.filter_map(stem).take(NAMED_MAX).collect();
    let message = match names.as_slice() {
        [] => format!("{id} has no GGUF file in one piece"),
        names => format!(
            "{id} has no GGUF file for the tag {tag}; there are {}",
            names.join(", ")
        ),
    };
    Problem::refused(StatusCode::NOT_FOUND, message)
}

#[cfg(test)]
mod tests {
    use protocol::RepoPath;

    use super::*;

    fn manifest(paths: &[&str]) -> Manifest {
        let file = |path: &&str| FileEntry {
            path: RepoPath::new(path).unwrap(),
            size: 1,
            blake3: protocol::Hash::of(path.as_bytes()),
            sha256: None,
            sha1: None,
        };
        Manifest::new(paths.iter().map(file).collect()).unwrap()
    }

    #[test]
    fn a_tag_means_the_model_with_its_words() {
        let manifest = manifest(&[
            "README.md",
            "m-IQ4_XS.gguf",
            "m-Q4_K_M.gguf",
            "m-Q4_K_M-00001-of-00002.gguf",
            "m.Q8_0.gguf",
            "mmproj-m-f16.gguf",
            "sub/m-F16.GGUF",
        ]);
        let table = [
            ("latest", Some("m-Q4_K_M.gguf")),
            ("q4_k_m", Some("m-Q4_K_M.gguf")),
            ("Q8_0", Some("m.Q8_0.gguf")),
            ("F16", Some("sub/m-F16.GGUF")),
            ("m-IQ4_XS.gguf", Some("m-IQ4_XS.gguf")),
            ("m-IQ4_XS", Some("m-IQ4_XS.gguf")),
            ("Q4_K", None),
            ("4_XS", None),
            ("", None),
            ("README.md", None),
        ];
        for (tag, expected) in table {
            let chosen = choose(&manifest, tag).map(|file| file.path.as_str());
            assert_eq!(chosen, expected, "{tag}");
        }
    }

    #[test]
    fn without_a_tag_the_usual_model_is_chosen_or_the_first() {
        let latest = |paths: &[&str]| {
            let manifest = manifest(paths);
            choose(&manifest, LATEST).map(|file| file.path.as_str().to_owned())
        };
        assert_eq!(
            latest(&["a-F16.gguf", "b-q8_0.gguf"]).as_deref(),
            Some("b-q8_0.gguf")
        );
        assert_eq!(
            latest(&["a-F16.gguf", "b-Q5_K.gguf"]).as_deref(),
            Some("a-F16.gguf")
        );
        assert_eq!(latest(&["a-00001-of-00002.gguf", "mmproj.gguf", "x.bin"]), None);
    }

    #[test]
    fn a_name_tells_the_kind_of_numbers() {
        let table = [
            ("Llama-3.2-1B-Instruct-Q4_K_M", Some("Q4_K_M")),
            ("model.f16", Some("F16")),
            ("m-iq4_xs", Some("IQ4_XS")),
            ("model", None),
            ("qwen", None),
        ];
        for (stem, expected) in table {
            assert_eq!(quantisation(stem).as_deref(), expected, "{stem}");
        }
    }
}
