//! What a fetch does not bring unless it is asked for by name: files that can run code when they are loaded, and models whose
//! files are broken. It decides by the first bytes of files, which come before the rest.
//!
//! - A *model* is data. What in it runs code when it is loaded is left out, and named in the report; `allow_code` brings it too. A
//!   file of weights that breaks the rules of its format ends the fetch: nothing could be made of the rest.
//! - A *dataset* is data too, so its pickles are left out likewise. HDF5 files, archives and libraries are how data is packed there,
//!   and only some loaders of models run what is in them: these come. Files of weights may be examples of anything.
//! - A *space* is a program, and runs code whatever is left out of it: nothing is.
//! - What has no name is taken for a model, which most of what there is are.
//!
//! Python files come in any case: nothing runs them that was not told to.
//!
//! A file that `include` names by its exact path was asked for by name, and comes whatever it is.

use super::FetchRequest;
use crate::{
    check::{
        code::{self, CodeKind},
        facts::Format,
    },
    limits::WHOLE_LEN,
};
use protocol::{FileEntry, Hash, Kind};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard},
};

/// A file that was left out of a fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its path in the repo.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// What of it can run code.
    pub kind: CodeKind,
    /// The same for people.
    pub what: String,
}

impl LeftOut {
    /// Says that a file was left out.
    pub(super) fn new(file: &FileEntry, kind: CodeKind) -> LeftOut {
        LeftOut {
            path: file.path.as_str().to_owned(),
            size: file.size,
            kind,
            what: kind.to_string(),
        }
    }
}

/// What of a file is looked at before it is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// Whether it can run code.
    Code,
    /// That, and whether it keeps to the rules of its format.
    Header(Format),
}

/// How cautious one fetch is.
#[derive(Debug)]
pub(super) struct Caution {
    /// What the repo is.
    kind: Kind,
    /// Whether what can run code comes too.
    allow_code: bool,
    /// Paths, and patterns that may be paths.
    named: HashSet<String>,
    /// What was found in blobs of more than one shard.
    seen: Mutex<HashMap<Hash, Option<CodeKind>>>,
}

impl Caution {
    /// The caution of a request for a repo of this kind.
    pub(super) fn new(kind: Option<Kind>, request: &FetchRequest) -> Caution {
        Caution {
            kind: kind.unwrap_or(Kind::Model),
            allow_code: request.allow_code,
            named: request.include.iter().cloned().collect(),
            seen: Mutex::default(),
        }
    }

    /// What of a file is looked at before it is believed, if anything.
    pub(super) fn watches(&self, file: &FileEntry) -> Option<Watch> {
        let path = file.path.as_str();
        let watch = match Format::of(path) {
            Some(format) if self.minds_broken() && file.size > WHOLE_LEN => Some(Watch::Header(format)),
            _ if code::is_python(path) || file.size == 0 => None,
            _ => self.minds_code().then_some(Watch::Code),
        };
        watch.filter(|_| !self.is_named(path))
    }

    /// Notes what of a blob can run code, if anything.
    pub(super) fn note(&self, blob: Hash, code: Option<CodeKind>) {
        self.seen().insert(blob, code);
    }

    /// Whether it is known that a file is not left out.
    pub(super) fn lets_through(&self, file: &FileEntry) -> bool {
        // What comes whole is here when it is judged.
        self.watches(file).is_none() || file.size <= WHOLE_LEN || {
            let code = self.seen().get(&file.blake3).copied();
            code.is_some_and(|code| code.is_none_or(|code| !self.leaves_out(file, code)))
        }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Hash, Option<CodeKind>>> {
        self.seen.lock().expect("nothing panics while it holds this")
    }

    /// Whether a file is left out that can run code in this way.
    pub(super) fn leaves_out(&self, file: &FileEntry, code: CodeKind) -> bool {
        let packs = matches!(code, CodeKind::Hdf5 | CodeKind::Archive | CodeKind::Native);
        let runs = code.runs_when_loaded() && !(packs && self.kind == Kind::Dataset);
        runs && self.minds_code() && !self.is_named(file.path.as_str())
    }

    /// Whether a broken file ends the fetch.
    pub(super) fn ends_at(&self, file: &FileEntry) -> bool {
        self.minds_broken() && !self.is_named(file.path.as_str())
    }

    fn minds_code(&self) -> bool {
        match self.kind {
            Kind::Model | Kind::Dataset => !self.allow_code,
            Kind::Space => false,
        }
    }

    fn minds_broken(&self) -> bool {
        match self.kind {
            Kind::Model => true,
            Kind::Dataset | Kind::Space => false,
        }
    }

    fn is_named(&self, path: &str) -> bool {
        !self.named.is_empty() && (self.named.contains(path) || self.named.contains(&globset::escape(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::FetchWhat;
    use protocol::{Hash, RepoPath, RepoRef};

    fn file(path: &str, size: u64) -> FileEntry {
        FileEntry {
            path: RepoPath::new(path).unwrap(),
            size,
            blake3: Hash::of(path.as_bytes()),
            sha256: None,
            sha1: None,
        }
    }

    fn request() -> FetchRequest {
        FetchRequest::new(FetchWhat::Repo(RepoRef::Content(Hash::EMPTY)))
    }

    #[test]
    fn kinds_differ_in_what_is_left_out() {
        let of = |kind| Caution::new(kind, &request());
        let pickle = file("pytorch_model.bin", 5);
        let out = |kind, code| of(kind).leaves_out(&pickle, code);
        for kind in [None, Some(Kind::Model)] {
            assert!(out(kind, CodeKind::Pickle) && out(kind, CodeKind::Hdf5) && out(kind, CodeKind::Archive));
            assert!(!out(kind, CodeKind::Python));
        }
        assert!(out(Some(Kind::Dataset), CodeKind::Pickle));
        assert!(!out(Some(Kind::Dataset), CodeKind::Hdf5) && !out(Some(Kind::Dataset), CodeKind::Archive));
        assert!(!out(Some(Kind::Space), CodeKind::Pickle));
        let (model, header) = (file("a.gguf", 2 << 20), Some(Watch::Header(Format::Gguf)));
        assert_eq!(of(None).watches(&model), header);
        assert_eq!(of(Some(Kind::Dataset)).watches(&model), Some(Watch::Code));
        assert_eq!(of(Some(Kind::Space)).watches(&model), None);
    }

    #[test]
    fn named_and_allowed_files_are_not_left_out() {
        let (pickle, model) = (file("a/b[1].bin", 5), file("m.safetensors", 2 << 20));
        let mut asked = request();
        asked.include = vec!["a/*".into(), "*.safetensors".into()];
        let patterns = Caution::new(None, &asked);
        assert!(patterns.leaves_out(&pickle, CodeKind::Pickle) && patterns.ends_at(&model));
        asked.include = vec![globset::escape("a/b[1].bin"), "m.safetensors".into()];
        let named = Caution::new(None, &asked);
        assert!(!named.leaves_out(&pickle, CodeKind::Pickle) && !named.ends_at(&model));
        assert_eq!((named.watches(&pickle), named.watches(&model)), (None, None));
        let mut allowed = request();
        allowed.allow_code = true;
        let allowed = Caution::new(None, &allowed);
        assert!(!allowed.leaves_out(&pickle, CodeKind::Pickle) && allowed.ends_at(&model));
    }

    #[test]
    fn every_file_is_looked_into_that_has_bytes_and_no_python_name() {
        let caution = Caution::new(None, &request());
        for path in ["a.bin", "a", "a.json", "a.parquet", "a.txt", "a.npz"] {
            assert_eq!(caution.watches(&file(path, 10)), Some(Watch::Code), "{path}");
        }
        assert_eq!(caution.watches(&file("a.gguf", 1 << 20)), Some(Watch::Code));
        assert_eq!(caution.watches(&file("a.bin", 0)), None);
        assert_eq!(caution.watches(&file("a.py", 10)), None);
    }

    #[test]
    fn files_go_through_once_they_were_seen_to_be_plain() {
        let caution = Caution::new(None, &request());
        let (small, large) = (file("a.txt", 1 << 20), file("b.txt", 2 << 20));
        assert!(caution.lets_through(&small) && !caution.lets_through(&large));
        caution.note(large.blake3, Some(CodeKind::Pickle));
        assert!(!caution.lets_through(&large));
        caution.note(large.blake3, None);
        assert!(caution.lets_through(&large));
    }
}
