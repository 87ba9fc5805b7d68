//! `shoal publish DIR`.

use node::http::messages::{PublishAnswer, PublishAsk};
use protocol::{Hash, RepoId};
use serde::Serialize;

use super::identity::tell_recovery;
use crate::args::Publish;
use crate::context::Context;
use crate::failure::Failure;
use crate::output;
use crate::session::{self, Session};

/// What `publish --json` prints. Scripts rely on it.
#[derive(Serialize)]
struct Printed<'a> {
    repo: &'a RepoId,
    manifest: Hash,
    ticket: String,
    files: u64,
    bytes: u64,
}

/// Most names of files left out that are listed.
const LEFT_OUT_SHOWN: usize = 5;

pub(crate) async fn run(publish: Publish, context: &mut Context<'_>) -> Result<(), Failure> {
    let Publish {
        path,
        name,
        kind,
        copy,
        require_card,
    } = publish;
    let ask = PublishAsk {
        path: session::absolute(path)?,
        name,
        kind,
        copy,
        require_card,
    };
    let session = Session::open(context).await?;
    let answer = session.publish(ask, context).await;
    let alone = session.is_alone();
    session.close().await;
    let answer = answer?;
    tell_left_out(&answer.published.left_out, context);
    if !answer.published.unsaid.is_empty() {
        context.note(format_args!(
            "its card says nothing of {}: people find repos by these; they belong into the YAML at the head of its README.md",
            answer.published.unsaid.join(", ")
        ));
    }
    if alone {
        context.note(format_args!(
            "it will be announced at the next shoal up; until then nobody can fetch it"
        ));
    }
    if let Some(file) = &answer.published.recovery {
        tell_recovery(file, context);
    }
    print(&answer, context)
}

fn print(answer: &PublishAnswer, context: &mut Context<'_>) -> Result<(), Failure> {
    let PublishAnswer { published, ticket } = answer;
    if context.json {
        return Ok(context.print_json(&Printed {
            repo: &published.repo,
            manifest: published.manifest,
            ticket: ticket.to_string(),
            files: published.files,
            bytes: published.bytes,
        })?);
    }
    let files = output::count(published.files, "file");
    let read = match published.read_bytes {
        0 => "unchanged since it was read last".to_owned(),
        bytes => {
            let rate = output::rate(bytes, published.seconds)
                .map(|rate| format!(", {rate}"))
                .unwrap_or_default();
            format!(
                "{} read in {}{rate}",
                output::size(bytes),
                output::seconds(published.seconds)
            )
        }
    };
    let text = output::pairs(&[
        ("published", published.repo.to_string()),
        ("release", format!("{} of a {}", published.seq, published.kind)),
        (
            "content",
            format!("{files}, {}; {read}", output::size(published.bytes)),
        ),
        ("manifest", published.manifest.to_string()),
        ("ticket", ticket.to_string()),
    ]);
    Ok(write!(context.io.stdout, "{text}")?)
}

fn tell_left_out(left_out: &[String], context: &mut Context<'_>) {
    if left_out.is_empty() {
        return;
    }
    let shown: Vec<_> = left_out
        .iter()
        .take(LEFT_OUT_SHOWN)
        .map(|name| output::printable(name))
        .collect();
    let more = match left_out.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    context.note(format_args!("left out: {}{more}", shown.join(", ")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_has_the_shape_that_scripts_rely_on() {
        let publisher = "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo";
        let repo = format!("{publisher}/m").parse().unwrap();
        let printed = Printed {
            repo: &repo,
            manifest: Hash::of(b""),
            ticket: "shoal:x".to_owned(),
            files: 1,
            bytes: 2,
        };
        let wanted = json!({"repo": format!("{publisher}/m"), "manifest": Hash::of(b"").to_string(), "ticket": "shoal:x", "files": 1, "bytes": 2});
        assert_eq!(serde_json::to_value(&printed).unwrap(), wanted);
    }
}
