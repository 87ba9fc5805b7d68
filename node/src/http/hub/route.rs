//! What a request of the Hub's API asks for, read from its method and path alone: the one place that knows the addresses.

use axum::http::Method;
use percent_encoding::percent_decode_str;
use protocol::Kind;

/// A repo as a client names it; nobody has looked yet whether there is one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    /// What the client takes it for: the kinds are name spaces of their own.
    pub(super) kind: Kind,
    /// `OWNER/NAME`, or one word.
    pub(super) id: String,
}

/// A repo at a revision: a branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct At {
    /// Which repo.
    pub(super) repo: Address,
    /// Which revision.
    pub(super) rev: String,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// GET or HEAD: a file's bytes.
    File { at: At, path: String },
    /// GET or HEAD: a file as git has it: for a large one, the pointer to it.
    Raw { at: At, path: String },
    /// GET: what a repo is.
    Info { at: At },
    /// GET: the files and folders below a folder; `""` is the root.
    Tree { at: At, path: String },
    /// POST: what lies at some paths.
    PathsInfo { at: At },
    /// GET: branches and tags.
    Refs { repo: Address },
    /// GET: the revisions, newest first.
    Commits { at: At },
    /// GET: the repos of a kind.
    List { kind: Kind },
    /// GET: who the caller is.
    Whoami,
    /// GET: whether the caller may read, or write.
    AuthCheck { repo: Address },
    /// POST: a new repo.
    Create,
    /// POST: whether the head of a card reads.
    ValidateYaml,
    /// POST: how files are to be sent.
    Preupload { at: At },
    /// POST: a new revision.
    Commit { at: At },
    /// POST: where large files are to be sent, or had from.
    LfsBatch { repo: Address },
    /// PUT or POST: bytes of a large file, at an address that [`Call::LfsBatch`] gave.
    Lfs { rest: Vec<String> },
    /// GET: leave to send by the `xet` protocol.
    XetWrite,
    /// GET or HEAD: an OCI manifest, for Ollama.
    OllamaManifest { repo: Address, tag: String },
    /// GET or HEAD: an OCI blob, for Ollama.
    OllamaBlob { repo: Address, digest: String },
    /// There is nothing at this address.
    Nothing,
    /// There is something, for another method.
    OtherMethod,
}

/// The branch that every repo has.
pub(super) const MAIN: &str = "main";
/// Where large files are sent to.
pub(super) const LFS_ROOT: &str = "lfs-upload";

/// Reads a method and a path as it came, still encoded.
pub(super) fn read(method: &Method, path: &str) -> Call {
    let Some(parts) = decode(path) else {
        return Call::Nothing;
    };
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (call, methods) = match *parts {
        ["api", ref rest @ ..] => api(rest),
        ["v2", owner, name, "manifests", tag] => {
            let (repo, tag) = (model(owner, name), tag.to_owned());
            (Call::OllamaManifest { repo, tag }, READ)
        }
        ["v2", owner, name, "blobs", digest] => {
            let (repo, digest) = (model(owner, name), digest.to_owned());
            (Call::OllamaBlob { repo, digest }, READ)
        }
        [LFS_ROOT, ref rest @ ..] => {
            let rest = rest.iter().map(|part| (*part).to_owned()).collect();
            (Call::Lfs { rest }, LARGE)
        }
        ["datasets", ref rest @ ..] => files(Kind::Dataset, rest),
        ["spaces", ref rest @ ..] => files(Kind::Space, rest),
        ref rest => files(Kind::Model, rest),
    };
    match methods.contains(method) || call == Call::Nothing {
        true => call,
        false => Call::OtherMethod,
    }
}

const READ: &[Method] = &[Method::GET, Method::HEAD];
const WRITE: &[Method] = &[Method::POST];
const LARGE: &[Method] = &[Method::PUT, Method::POST];

/// Splits a path at its slashes and decodes each part; an encoded slash stays within its part.
fn decode(path: &str) -> Option<Vec<String>> {
    let parts = path.trim_start_matches('/').split('/');
    let text = |part| percent_decode_str(part).decode_utf8().ok().map(String::from);
    parts.map(text).collect()
}

fn model(owner: &str, name: &str) -> Address {
    Address {
        kind: Kind::Model,
        id: format!("{owner}/{name}"),
    }
}

/// The addresses of files, and of git's large ones.
fn files(kind: Kind, parts: &[&str]) -> (Call, &'static [Method]) {
    let (id, rest) = match *parts {
        [owner, name, ref rest @ ..] if starts_files(rest) => (format!("{owner}/{name}"), rest),
        [name, ref rest @ ..] if starts_files(rest) => (name.to_owned(), rest),
        _ => return (Call::Nothing, READ),
    };
    match *rest {
        ["resolve", rev, ref path @ ..] if !path.is_empty() => {
            let repo = Address { kind, id };
            let (at, path) = (at(repo, rev), path.join("/"));
            (Call::File { at, path }, READ)
        }
        ["raw", rev, ref path @ ..] if !path.is_empty() => {
            let repo = Address { kind, id };
            let (at, path) = (at(repo, rev), path.join("/"));
            (Call::Raw { at, path }, READ)
        }
        ["info", "lfs", "objects", "batch"] => {
            let id = id.strip_suffix(".git").unwrap_or(&id).to_owned();
            let repo = Address { kind, id };
            (Call::LfsBatch { repo }, WRITE)
        }
        _ => (Call::Nothing, READ),
    }
}

fn starts_files(rest: &[&str]) -> bool {
    matches!(
        rest,
        ["resolve" | "raw", _, _, ..] | ["info", "lfs", "objects", "batch"]
    )
}

fn at(repo: Address, rev: &str) -> At {
    At {
        repo,
        rev: rev.to_owned(),
    }
}

fn api(parts: &[&str]) -> (Call, &'static [Method]) {
    let (kind, rest) = match *parts {
        ["models", ref rest @ ..] => (Kind::Model, rest),
        ["datasets", ref rest @ ..] => (Kind::Dataset, rest),
        ["spaces", ref rest @ ..] => (Kind::Space, rest),
        ["whoami-v2"] => return (Call::Whoami, READ),
        ["repos", "create"] => return (Call::Create, WRITE),
        ["validate-yaml"] => return (Call::ValidateYaml, WRITE),
        _ => return (Call::Nothing, READ),
    };
    let (id, rest) = match *rest {
        [] | [""] => return (Call::List { kind }, READ),
        [owner, name, ref rest @ ..] if rest.is_empty() && name != "refs" || is_verb(rest) => {
            (format!("{owner}/{name}"), rest)
        }
        [name, ref rest @ ..] if rest.is_empty() || is_verb(rest) => (name.to_owned(), rest),
        _ => return (Call::Nothing, READ),
    };
    of_repo(Address { kind, id }, rest)
}

/// Whether a path goes on from a repo's id like this.
fn is_verb(rest: &[&str]) -> bool {
    const VERBS: [&str; 9] = [
        "revision",
        "tree",
        "paths-info",
        "refs",
        "commits",
        "commit",
        "preupload",
        "auth-check",
        "xet-write-token",
    ];
    rest.first().is_some_and(|verb| VERBS.contains(verb))
}

fn of_repo(repo: Address, rest: &[&str]) -> (Call, &'static [Method]) {
    match *rest {
        [] => (Call::Info { at: at(repo, MAIN) }, READ),
        ["revision", rev] => (Call::Info { at: at(repo, rev) }, READ),
        ["tree", rev, ref path @ ..] => {
            let (at, path) = (at(repo, rev), path.join("/"));
            (Call::Tree { at, path }, READ)
        }
        ["paths-info", rev] => (Call::PathsInfo { at: at(repo, rev) }, WRITE),
        ["refs"] => (Call::Refs { repo }, READ),
        ["commits", rev] => (Call::Commits { at: at(repo, rev) }, READ),
        ["preupload", rev] => (Call::Preupload { at: at(repo, rev) }, WRITE),
        ["commit", rev] => (Call::Commit { at: at(repo, rev) }, WRITE),
        ["auth-check"] | ["auth-check", "write"] => (Call::AuthCheck { repo }, READ),
        ["xet-write-token", _, ..] => (Call::XetWrite, READ),
        _ => (Call::Nothing, READ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Call {
        read(&Method::GET, path)
    }

    fn of(kind: Kind, id: &str, rev: &str) -> At {
        let id = id.to_owned();
        at(Address { kind, id }, rev)
    }

    #[test]
    fn addresses_of_files_are_read_as_clients_write_them() {
        let file = |at, path: &str| Call::File {
            at,
            path: path.to_owned(),
        };
        let table = [
            (
                "/a/b/resolve/main/c.json",
                file(of(Kind::Model, "a/b", "main"), "c.json"),
            ),
            (
                "/a/b/resolve/refs%2Fheads%2Fmain/d/c%20e.json",
                file(of(Kind::Model, "a/b", "refs/heads/main"), "d/c e.json"),
            ),
            ("/gpt2/resolve/HEAD/x", file(of(Kind::Model, "gpt2", "HEAD"), "x")),
            (
                "/datasets/a/b/resolve/main/resolve/main/x",
                file(of(Kind::Dataset, "a/b", "main"), "resolve/main/x"),
            ),
            (
                "/spaces/a/b/resolve/main/app.py",
                file(of(Kind::Space, "a/b", "main"), "app.py"),
            ),
            ("/a/b/resolve/main/", file(of(Kind::Model, "a/b", "main"), "")),
            (
                "/a/b/raw/main/x",
                Call::Raw {
                    at: of(Kind::Model, "a/b", "main"),
                    path: "x".to_owned(),
                },
            ),
            ("/a/b/resolve/main", Call::Nothing),
            ("/a/b/blob/main/x", Call::Nothing),
            ("/a/b/resolve/main/%ff", Call::Nothing),
            ("/", Call::Nothing),
        ];
        for (path, call) in table {
            assert_eq!(get(path), call, "{path}");
        }
        assert_eq!(read(&Method::PUT, "/a/b/resolve/main/x"), Call::OtherMethod);
    }

    #[test]
    fn addresses_of_the_api_are_read_as_clients_write_them() {
        let tree = |path: &str| Call::Tree {
            at: of(Kind::Dataset, "a/b", "main"),
            path: path.to_owned(),
        };
        let repo = || of(Kind::Model, "a/b", "").repo;
        let table = [
            ("/api/models", Call::List { kind: Kind::Model }),
            ("/api/datasets/", Call::List { kind: Kind::Dataset }),
            (
                "/api/models/a/b",
                Call::Info {
                    at: of(Kind::Model, "a/b", "main"),
                },
            ),
            (
                "/api/models/gpt2",
                Call::Info {
                    at: of(Kind::Model, "gpt2", "main"),
                },
            ),
            (
                "/api/models/gpt2/revision/HEAD",
                Call::Info {
                    at: of(Kind::Model, "gpt2", "HEAD"),
                },
            ),
            (
                "/api/spaces/a/b/revision/refs%2Fheads%2Fmain",
                Call::Info {
                    at: of(Kind::Space, "a/b", "refs/heads/main"),
                },
            ),
            ("/api/datasets/a/b/tree/main", tree("")),
            ("/api/datasets/a/b/tree/main/c/d", tree("c/d")),
            (
                "/api/datasets/a/b/tree/main/no%2Fsuch%2Ffolder",
                tree("no/such/folder"),
            ),
            ("/api/models/a/b/refs", Call::Refs { repo: repo() }),
            (
                "/api/models/a/b/auth-check/write",
                Call::AuthCheck { repo: repo() },
            ),
            (
                "/api/models/a/b/commits/main",
                Call::Commits {
                    at: of(Kind::Model, "a/b", "main"),
                },
            ),
            ("/api/models/a/b/commit/main", Call::OtherMethod),
            ("/api/models/a/b/discussions", Call::Nothing),
            ("/api/agent-harnesses", Call::Nothing),
            ("/api/whoami-v2", Call::Whoami),
            ("/api/models/a/b/xet-write-token/main", Call::XetWrite),
            (
                "/v2/a/b/manifests/latest",
                Call::OllamaManifest {
                    repo: repo(),
                    tag: "latest".to_owned(),
                },
            ),
        ];
        for (path, call) in table {
            assert_eq!(get(path), call, "{path}");
        }
        let batch = read(&Method::POST, "/a/b.git/info/lfs/objects/batch");
        assert_eq!(batch, Call::LfsBatch { repo: repo() });
    }
}
