//! Who this node publishes as: `id`, `id rotate`, `id recover`, `id revoke`.

use std::path::PathBuf;

use node::http::UploadToken;
use node::http::messages::{RecoverAsk, RevokeAsk, RotateAsk};
use node::identity::{IdentityView, Moved};
use protocol::Publisher;
use serde::Serialize;

use crate::args::{Id, IdVerb, Recover, Revoke, Rotate};
use crate::context::Context;
use crate::failure::Failure;
use crate::output;
use crate::session::{self, Session};

/// What `id --json` prints.
#[derive(Serialize)]
struct Ids {
    #[serde(flatten)]
    identity: IdentityView,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

pub(crate) async fn run(Id { token, verb }: Id, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        None => show(token, context).await,
        Some(IdVerb::Rotate(ask)) => rotate(ask, context).await,
        Some(IdVerb::Recover(ask)) => recover(ask, context).await,
        Some(IdVerb::Revoke(ask)) => revoke(ask, context).await,
    }
}

async fn show(token: bool, context: &mut Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context).await?;
    let identity = session.identity();
    // A node that runs reads the same file.
    let token = token.then(|| UploadToken::load_or_create(&context.data));
    session.close().await;
    let identity = identity?;
    let token = token.transpose()?.map(|token| token.text().to_owned());
    if context.json {
        return Ok(context.print_json(&Ids { identity, token })?);
    }
    if let Some(token) = token {
        return Ok(context.print(token)?);
    }
    let mut pairs = vec![
        ("peer", identity.peer_id.clone()),
        ("publisher", identity.publisher.to_string()),
    ];
    pairs.extend(identity.recovery.map(|key| ("recovery key", key.to_string())));
    for key in &identity.keys {
        let state = match (&key.revoked, key.here) {
            (Some(reason), _) => format!("revoked ({reason})"),
            (None, _) if key.key != identity.publisher => "went on as the next".to_owned(),
            (None, false) => "not ours: its secret key is not here".to_owned(),
            (None, true) => continue,
        };
        pairs.push(("key", format!("{}: {state}", key.key)));
    }
    write!(context.io.stdout, "{}", output::pairs(&pairs))?;
    if let Some(file) = &identity.recovery_file {
        tell_recovery(file, context);
    }
    Ok(())
}

/// Says what to do with a recovery key that still lies where the key does for which it is there.
pub(crate) fn tell_recovery(file: &std::path::Path, context: &mut Context<'_>) {
    context.note(format_args!(
        "your recovery key is in {0}: move it offline, to a stick in a drawer say. If your publisher key is ever lost or stolen it is the only way to \
         keep your name (shoal id recover FILE); whoever else has it can take your name",
        file.display()
    ));
}

/// Has a person say yes to what cannot be taken back.
fn confirm(what: &str, yes: bool, context: &mut Context<'_>) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !context.io.asks {
        return Err(Failure::new(format!("{what} cannot be taken back")).hint("if you mean it: --yes"));
    }
    write!(
        context.io.stderr,
        "{what} cannot be taken back. Go on? Type yes: "
    )?;
    context.io.stderr.flush()?;
    let mut line = String::new();
    context.io.stdin.read_line(&mut line)?;
    match line.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::new("nothing was done: you did not say yes")),
    }
}

fn some_absolute(path: Option<PathBuf>) -> Result<Option<PathBuf>, Failure> {
    path.map(session::absolute).transpose()
}

async fn rotate(ask: Rotate, context: &mut Context<'_>) -> Result<(), Failure> {
    let recovery = some_absolute(ask.recovery)?;
    confirm("a new publisher key", ask.yes, context)?;
    let session = Session::open(context).await?;
    let moved = session.rotate(RotateAsk { recovery }).await;
    let alone = session.is_alone();
    session.close().await;
    tell_moved(&moved?, alone, context)
}

async fn recover(ask: Recover, context: &mut Context<'_>) -> Result<(), Failure> {
    let recovery = session::absolute(ask.recovery)?;
    confirm("a recovery", ask.yes, context)?;
    let session = Session::open(context).await?;
    let publisher = ask.publisher;
    let moved = session.recover(RecoverAsk { recovery, publisher }).await;
    let alone = session.is_alone();
    session.close().await;
    tell_moved(&moved?, alone, context)
}

fn tell_moved(moved: &Moved, alone: bool, context: &mut Context<'_>) -> Result<(), Failure> {
    if !moved.recovery {
        context.note(format_args!(
            "who comes to know only the new key has no recovery key for it: next time name the file, with --recovery"
        ));
    }
    if !moved.left_out.is_empty() {
        context.note(format_args!(
            "not released again, for their files are not here: {}; publish their folders",
            moved.left_out.join(", ")
        ));
    }
    tell_alone(alone, context);
    if context.json {
        return Ok(context.print_json(moved)?);
    }
    let mut pairs = vec![
        ("before", moved.from.to_string()),
        ("publisher", moved.to.to_string()),
    ];
    if !moved.names.is_empty() {
        pairs.push(("released again", moved.names.join(", ")));
    }
    Ok(write!(context.io.stdout, "{}", output::pairs(&pairs))?)
}

fn tell_alone(alone: bool, context: &mut Context<'_>) {
    if alone {
        context.note(format_args!("other nodes hear of it at the next shoal up"));
    }
}

async fn revoke(ask: Revoke, context: &mut Context<'_>) -> Result<(), Failure> {
    let recovery = some_absolute(ask.recovery)?;
    confirm("a revocation", ask.yes, context)?;
    let session = Session::open(context).await?;
    let asked = RevokeAsk {
        key: ask.key,
        reason: ask.reason.to_string(),
        recovery,
    };
    let revoked = session.revoke(asked).await;
    let alone = session.is_alone();
    session.close().await;
    let revoked = revoked?;
    tell_alone(alone, context);
    if context.json {
        return Ok(context.print_json(&revoked)?);
    }
    let goes_on = |key: Publisher| format!("; its publisher goes on as {key}");
    let goes_on = revoked.goes_on_as.map(goes_on).unwrap_or_default();
    Ok(context.print(format_args!(
        "revoked {} ({}){goes_on}",
        revoked.key, revoked.reason
    ))?)
}
