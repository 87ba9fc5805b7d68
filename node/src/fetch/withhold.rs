//! What can run code is taken out of what a fetch brought, before it is handed out: files that came whole before they could be looked
//! at, and those that were here.

use super::{
    FetchError, FetchRequest, Sought,
    caution::{Caution, LeftOut},
    jobs::Brought,
};
use crate::{
    check::code::{self, CodeKind},
    library::Library,
    node::Node,
    store::blocking,
};
use protocol::FileEntry;
use std::sync::Arc;
use tokio::runtime::Handle;

impl Node {
    /// How cautious a request is, by what the repo is.
    pub(super) async fn caution(
        &self,
        sought: &Sought,
        request: &FetchRequest,
    ) -> Result<Caution, FetchError> {
        let (library, repo) = (self.library().clone(), sought.repo.clone());
        let kind = blocking(move || {
            let release = repo.and_then(|repo| library.names().get(&repo).ok().flatten());
            Ok(release.map(|release| release.release().kind))
        });
        Ok(Caution::new(kind.await?, request))
    }

    /// Leaves out of what was brought what is not to be handed out. It stays in the store, as far as it is there.
    pub(super) async fn withhold(
        &self,
        brought: &mut Brought,
        caution: &Arc<Caution>,
    ) -> Result<(), FetchError> {
        let mut files = std::mem::take(&mut brought.files);
        let (library, caution, handle) = (self.library().clone(), caution.clone(), Handle::current());
        let look = move || {
            let mut left_out = Vec::new();
            files.retain(|file| {
                let looked_at = caution.watches(file).is_some();
                let code = looked_at.then(|| detect(&library, file, &handle)).flatten();
                let code = code.filter(|code| caution.leaves_out(file, *code));
                left_out.extend(code.map(|code| LeftOut::new(file, code)));
                code.is_none()
            });
            Ok((files, left_out))
        };
        let (files, left_out) = blocking(look).await?;
        brought.files = files;
        brought.left_out.extend(left_out);
        Ok(())
    }
}

/// What of a file can run code. What cannot be read cannot be handed out either, and that says why. Blocking.
fn detect(library: &Library, file: &FileEntry, handle: &Handle) -> Option<CodeKind> {
    let mut open = None;
    let read = |range| library.read_open(file.blake3, &mut open, range, handle);
    code::look(file.path.as_str(), file.size, read).ok().flatten()
}
