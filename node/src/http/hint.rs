//! The next step after an error, where we know one: in the words of the command line, which shows it on its own line.

use std::error::Error;
use std::io;

use crate::attest::{AttestError, KeepError};
use crate::catalog::CatalogError;
use crate::denials::{DenialsError, Why};
use crate::engine::session::EngineError;
use crate::engine::wire::Fault;
use crate::fetch::{FetchError, HandOutError, NoSuchJob};
use crate::identity::IdentityError;
use crate::import::ImportError;
use crate::library::{LibraryError, OpenError};
use crate::mirror::InventoryError;
use crate::names::{FollowingError, NamesError};
use crate::node::StartError;
use crate::publish::PublishError;
use crate::resolve::ResolveError;
use crate::run::RunError;
use crate::store::StoreError;
use crate::swarm::SwarmError;
use crate::validate::ValidateError;
use crate::verify::VerifyError;

const SPACE: &str = "free some space: shoal ls shows what is kept, shoal forget REPO lets go of it";
const QUOTA: &str = "forget something (shoal ls shows what is kept, shoal forget REPO lets go of it), or raise quota in config.toml";
const ONLINE: &str = "somebody who has it must be online: --peer MULTIADDR or a ticket names a node to ask";
const CARD: &str = "name them in the YAML at the head of its README.md, with an empty list where there is none (base_model: []), or publish without --require-card";
const PUBLISH_AGAIN: &str = "publish the folder again, or fetch the repo from somebody who has it";

/// What to do about an error: the first of its causes that we know something about decides.
pub fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(why) = denial(error) {
        return Some(why.remedy());
    }
    known(error).or_else(|| error.source().and_then(hint))
}

/// The denial that an error comes from, if it comes from one.
pub(super) fn denial<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Why> {
    let of_library = |error: &'a LibraryError| match error {
        LibraryError::Denied(why) => Some(&**why),
        _ => None,
    };
    let of_resolve = |error: &'a ResolveError| match error {
        ResolveError::Denied(why) => Some(&**why),
        ResolveError::Library(error) => of_library(error),
        ResolveError::NotFound(_) | ResolveError::Forked { .. } | ResolveError::Revoked { .. } => None,
    };
    let found = error.downcast_ref::<Why>();
    let found = found.or_else(|| error.downcast_ref::<Box<Why>>().map(|why| &**why));
    let found = found.or_else(|| error.downcast_ref().and_then(of_library));
    let found = found.or_else(|| error.downcast_ref().and_then(of_resolve));
    let found = found.or_else(|| match error.downcast_ref()? {
        FetchError::Denied(why) | FetchError::DeniedFile { why, .. } => Some(&**why),
        FetchError::Resolve(error) => of_resolve(error),
        FetchError::Library(error) => of_library(error),
        _ => None,
    });
    let found = found.or_else(|| match error.downcast_ref()? {
        RunError::Library(error) => of_library(error),
        _ => None,
    });
    let found = found.or_else(|| match error.downcast_ref()? {
        ValidateError::Library(error) | ValidateError::Run(RunError::Library(error)) => of_library(error),
        _ => None,
    });
    let found = found.or_else(|| match error.downcast_ref()? {
        PublishError::Library(error) => of_library(error),
        _ => None,
    });
    found.or_else(|| error.source().and_then(denial))
}

/// Looks at one error, and through those that only stand for another.
fn known(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref() {
        return of_start(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_validate(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_attest(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_open(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_library(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_fetch(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_resolve(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_run(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_identity(error);
    }
    match error.downcast_ref() {
        Some(PublishError::Library(error)) => return of_library(error),
        Some(PublishError::Identity(error)) => return of_identity(error),
        Some(PublishError::Card { .. }) => return Some(CARD.to_owned()),
        Some(PublishError::Name { .. }) => return say("name it: shoal publish DIR --name NAME"),
        _ => {}
    }
    match error.downcast_ref() {
        Some(ImportError::Library(error)) => return of_library(error),
        Some(ImportError::NoCache { .. }) => {
            return say(
                "name a folder with models--OWNER--NAME in it, such as ~/.cache/huggingface/hub; shoal publish DIR takes any other folder",
            );
        }
        Some(ImportError::OneName { .. }) => {
            return say(
                "leave --name out, or import one of its folders: shoal import PATH/models--OWNER--NAME --name NAME",
            );
        }
        _ => {}
    }
    if let Some(VerifyError::Library(error)) = error.downcast_ref() {
        return of_library(error);
    }
    if let Some(NoSuchJob(_)) = error.downcast_ref() {
        return say("shoal jobs lists them");
    }
    of_possessions(error).map(str::to_owned)
}

fn of_start(error: &StartError) -> Option<String> {
    match error {
        StartError::Open(error) => of_open(error),
        StartError::Library(error) => of_library(error),
        StartError::Swarm(SwarmError::Listen { .. }) => {
            say("listen somewhere else: --listen MULTIADDR, or listen in config.toml")
        }
        StartError::Swarm(_) => None,
    }
}

fn of_open(error: &OpenError) -> Option<String> {
    match error {
        OpenError::InUse { pid: Some(pid), .. } => Some(format!(
            "wait for process {pid} or stop it, or use another data folder: --data DIR"
        )),
        OpenError::InUse { pid: None, .. } => {
            say("wait for it or stop it, or use another data folder: --data DIR")
        }
        OpenError::Library(error) => of_library(error),
        _ => None,
    }
}

fn of_library(error: &LibraryError) -> Option<String> {
    match error {
        LibraryError::Unknown(what) => {
            Some(format!("shoal ls lists what is here; shoal fetch {what} gets it"))
        }
        LibraryError::UnknownAlias(alias) => {
            Some(format!("say who that is: shoal follow PUBLISHER --as {alias}"))
        }
        _ => None,
    }
}

fn of_fetch(error: &FetchError) -> Option<String> {
    match error {
        FetchError::Resolve(error) => of_resolve(error),
        FetchError::Library(error) => of_library(error),
        FetchError::NoProvider { .. } => say(ONLINE),
        FetchError::Broken { path, .. } => Some(format!(
            "nothing could load it: leave it out with --exclude '{path}', or fetch it as it is with --include '{path}'"
        )),
        FetchError::NothingMatches { .. } => {
            say("quote the pattern, so that the shell leaves it alone: --include '*.json'")
        }
        _ => None,
    }
}

fn of_run(error: &RunError) -> Option<String> {
    match error {
        RunError::Library(error) => of_library(error),
        RunError::Missing { what, .. } => Some(format!("shoal fetch {what} gets what is missing")),
        RunError::Several { .. } => say("name one: --file FILE"),
        RunError::Memory { given: true, .. } | RunError::Engine(EngineError::Memory { limit: Some(_) }) => {
            say("give it more: --memory SIZE, or engine_memory in config.toml")
        }
        RunError::Memory { given: false, .. } => say("end what else takes memory, or run a smaller model"),
        RunError::Engine(EngineError::Fault(Fault::Architecture { .. })) => {
            say("the files are here and verified; only running this model is not possible")
        }
        RunError::Busy { .. } => say("ask again when others have their answers"),
        RunError::NoModel { .. }
        | RunError::Header { .. }
        | RunError::Folder { .. }
        | RunError::Engine(_) => None,
    }
}

fn of_validate(error: &ValidateError) -> Option<String> {
    match error {
        ValidateError::Library(error) => of_library(error),
        ValidateError::Run(error) => of_run(error),
        ValidateError::Attest(error) => of_attest(error),
        ValidateError::Damaged { .. } => {
            say("shoal verify REPO names what is damaged, and has it fetched again")
        }
        ValidateError::Engine(EngineError::Memory { .. }) => say("give it more: --memory SIZE"),
        ValidateError::Nothing { .. }
        | ValidateError::Probes(_)
        | ValidateError::Engine(_)
        | ValidateError::Write { .. } => None,
    }
}

fn of_attest(error: &AttestError) -> Option<String> {
    match error {
        AttestError::Library(error) => of_library(error),
        AttestError::Identity(error) => of_identity(error),
        AttestError::Nothing(what) => Some(format!("shoal validate {what} makes one")),
        AttestError::Keep(KeepError::StorageFull { .. }) => say(SPACE),
        AttestError::Bundle(_) => say("shoal attest export REPO makes such a file"),
        AttestError::Keep(_) | AttestError::Attestation(_) => None,
    }
}

fn of_resolve(error: &ResolveError) -> Option<String> {
    match error {
        ResolveError::NotFound(_) => Some(format!("check the name; {ONLINE}")),
        ResolveError::Forked { .. } => {
            say("ask the publisher; one revision is still to be had by its hash: shoal fetch blake3/HASH")
        }
        ResolveError::Revoked { .. } => say(
            "what is here can be used; a revision that you trust is still to be had by its hash: shoal fetch blake3/HASH",
        ),
        ResolveError::Library(error) => of_library(error),
        ResolveError::Denied(why) => Some(why.remedy()),
    }
}

fn of_identity(error: &IdentityError) -> Option<String> {
    match error {
        IdentityError::Library(error) => of_library(error),
        IdentityError::Taken { ours, .. } => Some(format!(
            "if it was stolen: shoal id recover FILE (the recovery key of {ours}); if keys/ was lost, restore it from a backup"
        )),
        IdentityError::Revoked { .. } => say(
            "shoal id recover FILE goes on as a new key, with the recovery key; those who follow you follow along",
        ),
        IdentityError::Forked { .. } => say("settle it with the recovery key: shoal id recover FILE"),
        IdentityError::TooMany => say(
            "begin anew in another data folder (--data DIR), and tell those who follow you in another way",
        ),
        IdentityError::OtherRecovery { .. } => {
            say("name the file that was made with this publisher's first release")
        }
        IdentityError::NoRecovery { .. } => say(
            "it is made at the first shoal publish; of another node's publisher this node has to hear first: shoal up, then again",
        ),
        IdentityError::NoFile { .. } => say("name the file where you keep it"),
        IdentityError::NotOurs { .. } => say("name the file of its recovery key: --recovery FILE"),
        IdentityError::NeedsRecovery { .. } => say("name the file of the recovery key: --recovery FILE"),
        IdentityError::Key(_)
        | IdentityError::Statement(_)
        | IdentityError::Release(_)
        | IdentityError::Names(_) => None,
    }
}

/// What concerns the store, the catalog, the names and the disk.
fn of_possessions(error: &(dyn Error + 'static)) -> Option<&'static str> {
    match error.downcast_ref() {
        Some(StoreError::Full { .. } | StoreError::NoRoom { .. }) => return Some(SPACE),
        Some(StoreError::OverQuota { .. }) => return Some(QUOTA),
        Some(StoreError::Changed { .. } | StoreError::Damaged { .. }) => return Some(PUBLISH_AGAIN),
        Some(StoreError::Moving { .. }) => return Some("publish again when nothing writes to it"),
        _ => {}
    }
    match error.downcast_ref() {
        Some(CatalogError::StorageFull { .. }) => return Some(SPACE),
        Some(CatalogError::Damaged { .. }) => return Some("make it anew: shoal catalog rebuild"),
        _ => {}
    }
    if let Some(NamesError::StorageFull { .. }) = error.downcast_ref() {
        return Some(SPACE);
    }
    if let Some(InventoryError::StorageFull { .. }) = error.downcast_ref() {
        return Some(SPACE);
    }
    match error.downcast_ref() {
        Some(FollowingError::AliasTaken { .. }) => {
            return Some("choose another alias, or free it: shoal unfollow ALIAS");
        }
        Some(FollowingError::NotFollowed { .. }) => {
            return Some("follow it first: shoal follow PUBLISHER --as ALIAS");
        }
        Some(FollowingError::StorageFull { .. }) => return Some(SPACE),
        _ => {}
    }
    match error.downcast_ref() {
        Some(DenialsError::StorageFull { .. }) => return Some(SPACE),
        Some(DenialsError::Malformed { .. } | DenialsError::TooLong { .. }) => {
            return Some("mend the file: a node that cannot read it would serve what it should not");
        }
        Some(DenialsError::TooMany { .. }) => {
            return Some("shoal denied lists them, shoal allow takes them back");
        }
        _ => {}
    }
    if let Some(HandOutError::InTheWay { .. }) = error.downcast_ref() {
        return Some("move it away, or hand out to another folder: --to DIR");
    }
    error.downcast_ref().and_then(of_io)
}

fn of_io(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(SPACE),
        io::ErrorKind::PermissionDenied => Some("check who owns it, and its mode"),
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("use a disk that can be written; --data DIR names another data folder")
        }
        io::ErrorKind::AddrInUse => {
            Some("another program listens there: choose another port, or port 0 for any")
        }
        _ => None,
    }
}

fn say(hint: &str) -> Option<String> {
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn in_use(pid: Option<u32>) -> OpenError {
        OpenError::InUse {
            folder: PathBuf::from("/d"),
            pid,
        }
    }

    fn full() -> StoreError {
        StoreError::Full {
            path: PathBuf::from("/d/x"),
            free: 0,
        }
    }

    #[test]
    fn errors_that_a_user_can_mend_say_how() {
        let alias = || LibraryError::UnknownAlias("meta".parse().unwrap());
        let unknown = || LibraryError::Unknown("meta/llama".parse().unwrap());
        let hash = protocol::Hash::of(b"");
        let waited = std::time::Duration::from_secs(1);
        let table: Vec<(Box<dyn Error>, &str)> = vec![
            (Box::new(in_use(Some(4711))), "process 4711"),
            (Box::new(StartError::Open(in_use(Some(4711)))), "process 4711"),
            (Box::new(in_use(None)), "--data DIR"),
            (Box::new(alias()), "shoal follow PUBLISHER --as meta"),
            (
                Box::new(VerifyError::Library(alias())),
                "shoal follow PUBLISHER --as meta",
            ),
            (
                Box::new(FetchError::Resolve(ResolveError::Library(alias()))),
                "shoal follow PUBLISHER --as meta",
            ),
            (Box::new(unknown()), "shoal fetch meta/llama"),
            (
                Box::new(FetchError::NoProvider {
                    manifest: hash,
                    waited,
                    missing: 1,
                }),
                "--peer",
            ),
            (
                Box::new(FetchError::Resolve(ResolveError::NotFound(
                    "meta/llama".parse().unwrap(),
                ))),
                "check the name",
            ),
            (
                Box::new(PublishError::Name {
                    path: PathBuf::from("/"),
                }),
                "--name NAME",
            ),
            (Box::new(NoSuchJob(7)), "shoal jobs"),
            (Box::new(full()), "shoal forget"),
            (Box::new(FetchError::Store(full())), "shoal forget"),
            (
                Box::new(FetchError::Store(StoreError::OverQuota {
                    quota: 3,
                    used: 2,
                    need: 2,
                })),
                "raise quota",
            ),
            (
                Box::new(PublishError::Library(LibraryError::Store(full()))),
                "shoal forget",
            ),
            (
                Box::new(FetchError::HandOut(HandOutError::InTheWay {
                    path: PathBuf::from("/x"),
                })),
                "--to DIR",
            ),
            (
                Box::new(io::Error::from(io::ErrorKind::StorageFull)),
                "shoal forget",
            ),
            (Box::new(io::Error::from(io::ErrorKind::PermissionDenied)), "mode"),
        ];
        for (error, word) in table {
            let hint = hint(&*error).unwrap_or_else(|| panic!("no hint for {error:?}"));
            assert!(hint.contains(word), "{error:?}: {hint}");
        }
    }

    #[test]
    fn errors_that_we_know_nothing_about_have_no_hint() {
        assert_eq!(hint(&io::Error::other("x")), None);
        assert_eq!(hint(&StoreError::Closed), None);
    }
}
