//! `shoal verify` and `shoal proof`: bytes against hashes and a signature.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use node::http::messages::NOT_VERIFIED;
use node::progress::Progress;
use node::verify::{self, Report};
use protocol::limits::PROOF_LEN_MAX;
use protocol::{ProofError, ReleaseError, RepoRef};
use serde::Serialize;

use crate::args::{Proof, Verify};
use crate::context::Context;
use crate::failure::Failure;
use crate::meter::Meter;
use crate::output;
use crate::session::Session;

/// What `verify --json` prints. Scripts rely on it.
#[derive(Serialize)]
struct Printed {
    ok: bool,
    files: u64,
    bad: Vec<PrintedBad>,
}

#[derive(Serialize)]
struct PrintedBad {
    path: String,
    reason: String,
    offset: Option<u64>,
}

/// What `proof --json` prints.
#[derive(Serialize)]
struct PrintedProof<'a> {
    proof: &'a Path,
    manifest: protocol::Hash,
    signed: bool,
    bytes: usize,
}

pub(crate) async fn run(verify: Verify, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let report = match verify.proof {
        Some(proof) => folder(verify.what, &proof, context).await?,
        None => store(&verify.what, context).await?,
    };
    print(&report, context)?;
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_VERIFIED)
    })
}

/// Writes a proof file.
pub(crate) async fn prove(proof: Proof, context: &mut Context<'_>) -> Result<(), Failure> {
    let out = proof.out.unwrap_or_else(|| default_name(&proof.repo));
    let session = Session::open(context).await?;
    let made = session.proof(proof.repo, context).await;
    session.close().await;
    let made = made?;
    let bytes = made.encode();
    fs::write(&out, &bytes)
        .map_err(|error| Failure::from(error).context(format!("{} cannot be written", out.display())))?;
    let (manifest, signed) = (made.manifest().hash(), made.release().is_some());
    if context.json {
        return Ok(context.print_json(&PrintedProof {
            proof: &out,
            manifest,
            signed,
            bytes: bytes.len(),
        })?);
    }
    if !signed {
        context.note(format_args!(
            "nobody signed this revision: the proof shows the bytes only"
        ));
    }
    Ok(context.print(out.display())?)
}

/// Verifies a folder offline: no data folder, no node, no network.
async fn folder(dir: PathBuf, file: &Path, context: &mut Context<'_>) -> Result<Report, Failure> {
    let proof = match protocol::Proof::decode(&read_proof(file)?) {
        Ok(proof) => proof,
        Err(wrong) => return Err(distrusted(file, wrong, context)),
    };
    let (progress, snapshots) = Progress::channel();
    let work = tokio::task::spawn_blocking(move || verify::folder(&dir, &proof, &progress));
    Ok(Meter::new(context).watch(snapshots, work, context).await??)
}

async fn store(what: &Path, context: &mut Context<'_>) -> Result<Report, Failure> {
    let text = what.to_string_lossy();
    let repo: RepoRef = match text.parse() {
        Ok(repo) => repo,
        Err(_) if what.is_dir() => {
            let failure = Failure::new(format!(
                "{text} is a folder, and nothing says what should be in it"
            ));
            return Err(failure.hint("name its proof file: shoal verify DIR --proof FILE"));
        }
        Err(wrong) => return Err(wrong.into()),
    };
    let session = Session::open(context).await?;
    let report = session.verify(repo, context).await;
    session.close().await;
    if report.is_err() && what.is_dir() {
        return report.map_err(|failure| {
            failure.hint("to verify the folder of that name: shoal verify DIR --proof FILE")
        });
    }
    report
}

fn read_proof(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    // One byte more than the longest proof: then the decoder says that it is too long.
    let read =
        fs::File::open(path).and_then(|file| file.take(PROOF_LEN_MAX as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::from(error).context(format!("{} cannot be read", path.display())))?;
    Ok(bytes)
}

/// A proof that does not hold proves nothing: that is a failed verification, and its signature may be why.
fn distrusted(file: &Path, wrong: ProofError, context: &mut Context<'_>) -> Failure {
    let reason = match &wrong {
        ProofError::Release(ReleaseError::Signature) => "wrong_signature",
        _ => "wrong_proof",
    };
    if context.json {
        let bad = PrintedBad {
            path: file.display().to_string(),
            reason: reason.to_owned(),
            offset: None,
        };
        let printed = Printed {
            ok: false,
            files: 0,
            bad: vec![bad],
        };
        if let Err(error) = context.print_json(&printed) {
            return error.into();
        }
    }
    let failure = Failure::from(wrong)
        .context(format!("{} proves nothing", file.display()))
        .not_verified();
    failure.hint("get the proof file again from whom you trust")
}

fn print(report: &Report, context: &mut Context<'_>) -> Result<(), Failure> {
    if context.json {
        return Ok(context.print_json(&printed(report)?)?);
    }
    for bad in &report.bad {
        let at = bad
            .offset
            .map(|offset| format!(" at {offset}"))
            .unwrap_or_default();
        let why = bad
            .detail
            .as_ref()
            .map(|detail| format!(" ({})", output::printable(detail)))
            .unwrap_or_default();
        let reason = word(&bad.reason)?.replace('_', " ");
        context.print(format_args!(
            "{reason}{at}: {}{why}",
            output::printable(&bad.path)
        ))?;
    }
    let (files, size) = (output::count(report.files, "file"), output::size(report.bytes));
    let signed = match &report.signed_by {
        Some(repo) => format!("signed as {repo}"),
        None => "signed by nobody".to_owned(),
    };
    let manifest = format!("manifest {}, {signed}", report.manifest.short());
    match report.ok {
        true => context.print(format_args!("verified {files}, {size}: all as in {manifest}"))?,
        false => {
            let faults = output::count(report.bad.len() as u64, "fault");
            context.print(format_args!("not verified: {faults}; {manifest}, lists {files}"))?;
        }
    }
    Ok(())
}

fn printed(report: &Report) -> Result<Printed, Failure> {
    let mut bad = Vec::with_capacity(report.bad.len());
    for one in &report.bad {
        bad.push(PrintedBad {
            path: one.path.clone(),
            reason: word(&one.reason)?,
            offset: one.offset,
        });
    }
    Ok(Printed {
        ok: report.ok,
        files: report.files,
        bad,
    })
}

/// The word that JSON has for it.
fn word(reason: &verify::Reason) -> Result<String, Failure> {
    let value = serde_json::to_value(reason)?;
    Ok(value.as_str().unwrap_or("unknown").to_owned())
}

fn default_name(repo: &RepoRef) -> PathBuf {
    let name = match repo {
        RepoRef::Id(id) => id.name.to_string(),
        RepoRef::Aliased { name, .. } => name.to_string(),
        RepoRef::Content(hash) => hash.short(),
    };
    PathBuf::from(format!("{name}.proof"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::verify::{Bad, Reason};
    use protocol::Hash;
    use serde_json::json;

    #[test]
    fn json_has_the_shape_that_scripts_rely_on() {
        let bad = |reason, offset| Bad {
            path: "a/b".to_owned(),
            reason,
            offset,
            detail: Some("x".to_owned()),
        };
        let bad = vec![bad(Reason::Changed, Some(1_048_576)), bad(Reason::Missing, None)];
        let report = Report {
            ok: false,
            files: 2,
            bytes: 9,
            bad,
            signed_by: None,
            manifest: Hash::of(b""),
        };
        let wanted = json!({"ok": false, "files": 2, "bad": [
            {"path": "a/b", "reason": "changed", "offset": 1_048_576},
            {"path": "a/b", "reason": "missing", "offset": null},
        ]});
        assert_eq!(serde_json::to_value(printed(&report).unwrap()).unwrap(), wanted);
    }

    #[test]
    fn proof_file_is_named_after_the_repo() {
        let hash = Hash::of(b"");
        assert_eq!(
            default_name(&"meta/llama.v2".parse().unwrap()),
            PathBuf::from("llama.v2.proof")
        );
        assert_eq!(
            default_name(&RepoRef::Content(hash)),
            PathBuf::from(format!("{}.proof", hash.short()))
        );
    }
}
