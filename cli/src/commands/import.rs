//! `shoal import PATH`.

use std::fmt::Write as _;
use std::process::ExitCode;

use node::http::messages::{FAILED, NOT_VERIFIED};
use node::import::{Fate, ImportRequest, Imported, ImportedRepo, ImportedRevision};

use crate::args::Import;
use crate::context::Context;
use crate::failure::Failure;
use crate::output;
use crate::session::{self, Session};

/// Most notes on what was left out of one place that are shown.
const LEFT_OUT_SHOWN: usize = 5;

/// Digits of a commit or a manifest that are shown.
const SHORT: usize = 10;

pub(crate) async fn run(import: Import, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let Import {
        path,
        name,
        all_revisions,
        store,
        copy,
        dry_run,
    } = import;
    let ask = ImportRequest {
        path: session::absolute(path)?,
        name,
        all_revisions,
        store,
        copy,
        dry_run,
    };
    let session = Session::open(context).await?;
    let imported = session.import(ask, context).await;
    let alone = session.is_alone();
    session.close().await;
    let imported = imported?;
    if context.json {
        context.print_json(&imported)?;
    } else {
        write!(context.io.stdout, "{}", described(&imported))?;
    }
    tell_left_out(&imported, context);
    let revisions = || imported.repos.iter().flat_map(|repo| &repo.revisions);
    if alone && revisions().any(|revision| revision.manifest.is_some()) {
        context.note(format_args!(
            "it will be announced at the next shoal up; until then nobody can fetch it"
        ));
    }
    Ok(ExitCode::from(code(&imported)))
}

/// Damage comes before what could not be taken.
fn code(imported: &Imported) -> u8 {
    let fates = || {
        let revisions = imported.repos.iter().flat_map(|repo| &repo.revisions);
        revisions.map(|revision| revision.fate)
    };
    if fates().any(|fate| fate == Fate::Damaged) {
        NOT_VERIFIED
    } else if fates().any(|fate| fate == Fate::Failed)
        || imported.repos.iter().any(|repo| repo.problem.is_some())
    {
        FAILED
    } else {
        0
    }
}

/// A line a revision, and one for each thing that is wrong with it.
fn described(imported: &Imported) -> String {
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        writeln!(text, "{words}").expect("writing to a string cannot fail");
    };
    for repo in &imported.repos {
        if let Some(problem) = &repo.problem {
            line(format_args!(
                "failed     {}: {}",
                repo.upstream,
                output::printable(problem)
            ));
        }
        for revision in &repo.revisions {
            line(format_args!("{}", of_revision(repo, revision)));
            for problem in &revision.problems {
                line(format_args!("           {}", output::printable(problem)));
            }
        }
    }
    let done = |wanted: Fate| {
        let revisions = imported.repos.iter().flat_map(|repo| &repo.revisions);
        revisions.filter(|revision| revision.fate == wanted).count()
    };
    let table = [
        (Fate::Published, "published"),
        (Fate::Unchanged, "unchanged"),
        (Fate::Stored, "stored"),
        (Fate::Planned, "would be taken"),
        (Fate::Damaged, "damaged"),
        (Fate::Failed, "failed"),
    ];
    let counts: Vec<String> = table
        .into_iter()
        .filter(|(fate, _)| done(*fate) > 0)
        .map(|(fate, word)| format!("{} {word}", done(fate)))
        .collect();
    if !counts.is_empty() {
        let repos = output::count(imported.repos.len() as u64, "repo");
        line(format_args!("{repos}; revisions: {}", counts.join(", ")));
    }
    text
}

fn of_revision(repo: &ImportedRepo, revision: &ImportedRevision) -> String {
    let word = match revision.fate {
        Fate::Published => "published",
        Fate::Unchanged => "unchanged",
        Fate::Stored => "stored",
        Fate::Planned => "would take",
        Fate::Damaged => "damaged",
        Fate::Failed => "failed",
    };
    let commit: String = revision.commit.chars().take(SHORT).collect();
    let mut text = format!("{word:<10} {} {} at {commit}", repo.kind, repo.upstream);
    let mut add = |part: String| text.push_str(&part);
    if let Some(ours) = &repo.repo {
        add(format!(" as {}", ours.name));
    }
    if let Some(seq) = revision.seq {
        add(format!(", release {seq}"));
    }
    if revision.files > 0 {
        let files = output::count(revision.files, "file");
        add(format!(": {files}, {}", output::size(revision.bytes)));
    }
    if revision.verified > 0 {
        add(format!(", {} verified", revision.verified));
    }
    match revision.missing {
        Some(0) | None => {}
        Some(missing) => add(format!(
            ", a part and no copy: {missing} of its files are not here"
        )),
    }
    if let Some(manifest) = revision.manifest {
        let manifest: String = manifest.to_string().chars().take(SHORT).collect();
        add(format!(", manifest {manifest}…"));
    }
    text
}

fn tell_left_out(imported: &Imported, context: &mut Context<'_>) {
    let mut tell = |whose: &str, notes: &[String]| {
        if notes.is_empty() {
            return;
        }
        let shown: Vec<String> = notes
            .iter()
            .take(LEFT_OUT_SHOWN)
            .map(|note| output::printable(note))
            .collect();
        let more = match notes.len() - shown.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        context.note(format_args!("left out{whose}: {}{more}", shown.join("; ")));
    };
    tell("", &imported.left_out);
    for repo in &imported.repos {
        tell(&format!(" of {}", repo.upstream), &repo.left_out);
        for revision in &repo.revisions {
            let commit: String = revision.commit.chars().take(SHORT).collect();
            tell(&format!(" of {} at {commit}", repo.upstream), &revision.left_out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Hash, Kind};

    fn imported(fate: Fate) -> Imported {
        let revision = ImportedRevision {
            commit: "a".repeat(40),
            fate,
            manifest: Some(Hash::EMPTY),
            seq: Some(2),
            files: 3,
            bytes: 2048,
            verified: 2,
            read_bytes: 0,
            seconds: 0.0,
            missing: Some(4),
            copy: false,
            problems: vec!["a.bin: wrong\u{1b}[2J".to_owned()],
            left_out: Vec::new(),
        };
        let publisher = "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo";
        let repo = ImportedRepo {
            upstream: "o/n".to_owned(),
            kind: Kind::Dataset,
            repo: Some(format!("{publisher}/o-n").parse().unwrap()),
            revisions: vec![revision],
            problem: None,
            left_out: Vec::new(),
        };
        Imported {
            repos: vec![repo],
            left_out: Vec::new(),
        }
    }

    #[test]
    fn line_says_what_became_of_what_under_which_name() {
        let text = described(&imported(Fate::Published));
        let first = text.lines().next().unwrap();
        for part in [
            "published  dataset o/n at aaaaaaaaaa as o-n, release 2: 3 files, 2.0 KiB",
            "2 verified",
            "a part and no copy: 4 of its files are not here",
        ] {
            assert!(first.contains(part), "{part}: {text}");
        }
        assert!(text.contains("a.bin: wrong\u{fffd}[2J"), "{text}");
        assert!(text.ends_with("1 repo; revisions: 1 published\n"), "{text}");
    }

    #[test]
    fn damage_and_failure_have_codes_of_their_own() {
        let table = [
            (Fate::Published, 0),
            (Fate::Unchanged, 0),
            (Fate::Stored, 0),
            (Fate::Planned, 0),
            (Fate::Damaged, 3),
            (Fate::Failed, 1),
        ];
        for (fate, wanted) in table {
            assert_eq!(code(&imported(fate)), wanted, "{fate:?}");
        }
        let mut none = imported(Fate::Published);
        none.repos[0].problem = Some("no".to_owned());
        assert_eq!(code(&none), 1);
    }
}
