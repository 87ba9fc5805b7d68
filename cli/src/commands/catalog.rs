//! `shoal catalog rebuild`.

use crate::context::Context;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;

pub(crate) async fn rebuild(context: &mut Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context).await?;
    let rebuilt = session.rebuild_catalog().await;
    session.close().await;
    let rebuilt = rebuilt?;
    if context.json {
        return Ok(context.print_json(&rebuilt)?);
    }
    let repos = output::count(rebuilt.repos, "repo");
    let (manifests, places) = (
        output::count(rebuilt.manifests, "manifest"),
        output::count(rebuilt.places, "place"),
    );
    Ok(context.print(format_args!(
        "rebuilt the catalog: {repos}, {manifests}, {places} of files"
    ))?)
}
