//! Judging what the files of a repo say of themselves: the first level.

use std::{
    collections::{HashMap, HashSet},
    io,
    ops::Range,
};

use protocol::Manifest;

use super::{
    error::ValidateError,
    report::{Line, counted},
};
use crate::{
    check::facts::{self, Facts, Format},
    library::{Library, LibraryError},
    store::{Blob, StoreError, blocking},
};

/// Problems that are named; the others are counted.
const NAMED_MAX: usize = 3;

impl Library {
    /// What the files of a manifest say of themselves, as far as they are here.
    pub(super) async fn facts(&self, manifest: &Manifest) -> Result<Facts, ValidateError> {
        let missing = self.missing(manifest).await.map_err(LibraryError::from)?;
        let missing: HashSet<_> = missing.into_iter().map(|(hash, _)| hash).collect();
        let (library, manifest) = (self.clone(), manifest.clone());
        let runtime = tokio::runtime::Handle::current();
        let looked = blocking(move || {
            let store = library.store();
            // Of each file several ranges are read; it is opened once.
            let mut opened: HashMap<String, Blob> = HashMap::new();
            let mut read = |path: &str, range: Range<u64>| -> io::Result<Vec<u8>> {
                let file = manifest.file(path).ok_or(io::ErrorKind::NotFound)?;
                if file.size > 0 && missing.contains(&file.blake3) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                if !opened.contains_key(path) {
                    opened.clear();
                    let blob = runtime.block_on(store.blob(file.blake3)).map_err(of_store)?;
                    opened.insert(path.to_owned(), blob);
                }
                let blob = opened.get(path).ok_or(io::ErrorKind::NotFound)?;
                let bytes = store.read_range(file.blake3, blob, range).map_err(of_store)?;
                Ok(bytes.to_vec())
            };
            let files = manifest.files().iter();
            let files = files.map(|file| (file.path.as_str(), file.size));
            Ok(facts::of(files, &mut read))
        });
        Ok(looked.await.map_err(LibraryError::from)?)
    }
}

fn of_store(error: StoreError) -> io::Error {
    match error {
        StoreError::Missing(_) => io::ErrorKind::NotFound.into(),
        error => io::Error::other(error),
    }
}

/// Judges what there is: what breaks the rules of its format is wrong; what this build does not read, or can run code, is only said.
pub(super) fn judge(facts: &Facts) -> Line {
    let broken = facts.problems.iter().filter(|problem| problem.broken);
    let mut broken: Vec<String> = broken
        .map(|problem| format!("{}: {}", problem.path, problem.what))
        .collect();
    if !broken.is_empty() {
        let more = broken.len().saturating_sub(NAMED_MAX);
        broken.truncate(NAMED_MAX);
        if more > 0 {
            broken.push(format!("and {more} more"));
        }
        return Line::failed(broken.join("; "));
    }
    let tensors: usize = facts.weights.iter().map(|file| file.tensors.len()).sum();
    if tensors == 0 {
        return Line::failed("there is no tensor in it");
    }
    let formats: Vec<String> = facts.formats.iter().map(Format::to_string).collect();
    let mut said = vec![format!(
        "{} in {}",
        counted(tensors as u64, "tensor"),
        formats.join(" and ")
    )];
    said.push(counted(facts.parameters(), "parameter"));
    said.extend(facts.architecture.clone());
    let unread = facts.problems.iter().filter(|problem| !problem.broken);
    said.extend(
        unread
            .take(NAMED_MAX)
            .map(|problem| format!("{}: {}", problem.path, problem.what)),
    );
    if !facts.code.is_empty() {
        let files = counted(facts.code.len() as u64, "file");
        said.push(format!("{files} that can run code, and never did here"));
    }
    if !facts.absent.is_empty() {
        said.push(format!("{} not here", counted(facts.absent.len() as u64, "file")));
    }
    Line::passed(said.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{
        Dtype, TensorInfo,
        facts::{Labelled, Problem, Weights},
    };
    use protocol::Verdict;

    fn sound() -> Facts {
        let tensor = TensorInfo {
            name: "a".to_owned(),
            dtype: Dtype::F32,
            shape: vec![2, 3],
            range: 0..24,
        };
        Facts {
            formats: vec![Format::Safetensors],
            architecture: Some("BertModel".to_owned()),
            parameters: [(Dtype::F32, 6)].into(),
            weights: vec![Weights {
                path: "model.safetensors".to_owned(),
                format: Format::Safetensors,
                tensors: vec![tensor],
            }],
            ..Facts::default()
        }
    }

    fn problem(path: &str, broken: bool) -> Problem {
        Problem {
            path: path.to_owned(),
            what: "wrong".to_owned(),
            broken,
        }
    }

    #[test]
    fn what_breaks_a_rule_fails_and_what_only_others_read_does_not() {
        assert_eq!(
            judge(&sound()),
            Line::passed("1 tensor in safetensors, 6 parameters, BertModel")
        );
        let mut unread = sound();
        unread.problems = vec![problem("config.json", false)];
        unread.code = vec![Labelled {
            path: "train.py".to_owned(),
            kind: None,
            what: "Python".to_owned(),
        }];
        let line = judge(&unread);
        assert_eq!(line.verdict, Verdict::Passed);
        assert!(
            line.text
                .ends_with("config.json: wrong, 1 file that can run code, and never did here"),
            "{line:?}"
        );
        let mut broken = unread;
        broken
            .problems
            .extend((0..5).map(|at| problem(&format!("{at}.safetensors"), true)));
        let line = judge(&broken);
        assert_eq!(line.verdict, Verdict::Failed);
        assert!(
            line.text.starts_with("0.safetensors: wrong; ") && line.text.ends_with("and 2 more"),
            "{line:?}"
        );
        assert_eq!(judge(&Facts::default()).verdict, Verdict::Failed);
    }
}
