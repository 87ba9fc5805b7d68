//! `shoal attest`: what this node and others found when they validated models, carried by hand.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use node::attest::{AttestationView, Imported};
use protocol::RepoRef;
use protocol::limits::BUNDLE_LEN_MAX;
use serde::Serialize;

use crate::args::Attest;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Side};
use crate::session::Session;

/// What `attest export --json` prints.
#[derive(Serialize)]
struct Exported {
    file: PathBuf,
    bytes: usize,
}

pub(crate) async fn run(attest: Attest, context: &mut Context<'_>) -> Result<(), Failure> {
    match attest {
        Attest::Ls(ls) => list(ls.repo, context).await,
        Attest::Export(export) => self::export(export.repo, export.out, context).await,
        Attest::Import(import) => self::import(import.file, context).await,
    }
}

async fn list(repo: Option<RepoRef>, context: &mut Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context).await?;
    let views = session.attestations(repo.as_ref()).await;
    session.close().await;
    let views = views?;
    if context.json {
        return Ok(context.print_json(&views)?);
    }
    if views.is_empty() {
        context.note(format_args!("none yet: shoal validate REPO makes one"));
    }
    let heading = [
        ("MANIFEST", Side::Left),
        ("SIGNED", Side::Left),
        ("STRUCTURE", Side::Left),
        ("NUMBERS", Side::Left),
        ("BEHAVIOUR", Side::Left),
        ("RUNTIME", Side::Left),
        ("BY", Side::Left),
    ];
    let rows: Vec<_> = views.iter().map(row).collect();
    Ok(write!(context.io.stdout, "{}", output::table(heading, &rows))?)
}

fn row(view: &AttestationView) -> [String; 7] {
    let [structure, numbers, behaviour] = view.levels.map(output::verdict);
    let by = match &view.alias {
        _ if view.own => "this node".to_owned(),
        Some(alias) => alias.to_string(),
        None => format!("{} (not followed)", view.by.short()),
    };
    [
        view.manifest.short(),
        output::day(view.issued),
        structure.to_owned(),
        numbers.to_owned(),
        behaviour.to_owned(),
        output::printable(&view.runtime),
        by,
    ]
}

async fn export(repo: RepoRef, out: Option<PathBuf>, context: &mut Context<'_>) -> Result<(), Failure> {
    let file = out.unwrap_or_else(|| default_name(&repo));
    let session = Session::open(context).await?;
    let bytes = session.export_attestations(repo).await;
    session.close().await;
    let bytes = bytes?;
    fs::write(&file, &bytes)
        .map_err(|error| Failure::from(error).context(format!("{} cannot be written", file.display())))?;
    match context.json {
        true => {
            let bytes = bytes.len();
            context.print_json(&Exported { file, bytes })?;
        }
        false => context.print(file.display())?,
    }
    Ok(())
}

async fn import(file: PathBuf, context: &mut Context<'_>) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    // One byte more than the longest: then the decoder says that it is too long.
    let read =
        fs::File::open(&file).and_then(|open| open.take(BUNDLE_LEN_MAX as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::from(error).context(format!("{} cannot be read", file.display())))?;
    let session = Session::open(context).await?;
    let imported = session.import_attestations(bytes).await;
    session.close().await;
    let imported = imported?;
    match context.json {
        true => context.print_json(&imported)?,
        false => context.print(described(&imported))?,
    }
    Ok(())
}

fn described(imported: &Imported) -> String {
    let Imported {
        new,
        known,
        unknown,
        refused,
    } = *imported;
    let mut text = format!("took {}", output::count(new, "attestation"));
    for (count, what) in [
        (known, "known already"),
        (unknown, "about models that are not here"),
        (refused, "for which there is no room, or from the future"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

fn default_name(repo: &RepoRef) -> PathBuf {
    let name = match repo {
        RepoRef::Id(id) => id.name.to_string(),
        RepoRef::Aliased { name, .. } => name.to_string(),
        RepoRef::Content(hash) => hash.short(),
    };
    PathBuf::from(format!("{name}.attestations"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_file_is_told_in_one_line() {
        let all = Imported {
            new: 2,
            known: 1,
            unknown: 3,
            refused: 0,
        };
        assert_eq!(
            described(&all),
            "took 2 attestations, 1 known already, 3 about models that are not here"
        );
        assert_eq!(described(&Imported::default()), "took 0 attestations");
    }
}
