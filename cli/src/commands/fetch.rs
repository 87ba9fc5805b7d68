//! `shoal fetch REPO|TICKET|HASH`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use node::check::facts::Problem;
use node::config::Config;
use node::fetch::{Fetched, LeftOut};
use node::http::messages::{FetchAsk, Wanted};
use node::node::Node;
use protocol::{Hash, RepoId, RepoRef};
use serde::Serialize;

use crate::args::{AtMost, Fetch};
use crate::client::Client;
use crate::context::Context;
use crate::failure::Failure;
use crate::meeting::meets_somebody;
use crate::{output, session};

/// How long a node that was just started waits for another one to ask for a name.
const MEET_TIMEOUT: Duration = Duration::from_secs(5);

/// What `fetch --json` prints. Scripts rely on it.
#[derive(Serialize)]
struct Printed<'a> {
    repo: Option<&'a RepoId>,
    manifest: Hash,
    bytes: u64,
    fetched_bytes: u64,
    seconds: f64,
    to: Option<&'a PathBuf>,
    /// The snapshot's folder, where it was handed out to a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    hf_cache: Option<&'a PathBuf>,
    /// What was left out because it can run code; not there where nothing was.
    #[serde(skip_serializing_if = "<[LeftOut]>::is_empty")]
    left_out: &'a [LeftOut],
    /// Weights that were fetched and that this build does not read; not there where it reads all.
    #[serde(skip_serializing_if = "<[Problem]>::is_empty")]
    problems: &'a [Problem],
}

pub(crate) async fn run(fetch: Fetch, context: &mut Context<'_>) -> Result<(), Failure> {
    let Fetch {
        what,
        to,
        include,
        exclude,
        allow_code,
        peers,
        wait,
        up,
        down,
        hf_cache,
    } = fetch;
    let to = to.map(session::absolute).transpose()?;
    let hf_cache = match hf_cache {
        None => None,
        Some(Some(folder)) => Some(folder),
        Some(None) => Some(hub_cache(&context.io.env)?),
    };
    let hf_cache = hf_cache.map(session::absolute).transpose()?;
    let ask = FetchAsk {
        what,
        to,
        include,
        exclude,
        allow_code,
        peers,
        wait_s: wait.map(|wait| wait.as_secs()),
        hf_cache,
    };
    let fetched = match Client::find(&context.data) {
        Some(_) if up.or(down).is_some() => return Err(limited(context)),
        Some(client) => session::fetch_by(&client, &ask, context)?,
        None => {
            let mut config = Config::load(&context.data)?;
            config.limits.up = AtMost::over(up, config.limits.up);
            config.limits.down = AtMost::over(down, config.limits.down);
            alone(ask, config, context).await?
        }
    };
    print(&fetched, context)
}

/// Where the Hub's tools have their cache, by the variables that they read, in their order.
fn hub_cache(env: &BTreeMap<String, String>) -> Result<PathBuf, Failure> {
    let given = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let home = given("HOME").map(PathBuf::from);
    let expanded = |value: &String| match (value.strip_prefix("~/"), &home) {
        (Some(below), Some(home)) => home.join(below),
        _ => PathBuf::from(value),
    };
    let cache = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]
        .into_iter()
        .find_map(given);
    if let Some(cache) = cache {
        return Ok(expanded(cache));
    }
    if let Some(above) = given("HF_HOME") {
        return Ok(expanded(above).join("hub"));
    }
    let caches = given("XDG_CACHE_HOME").map(expanded);
    let caches = caches.or(home.as_ref().map(|home| home.join(".cache")));
    let unknown = || {
        Failure::new("where the cache of the Hub's tools is cannot be told: HOME is not set")
            .hint("name it: --hf-cache DIR")
    };
    Ok(caches.ok_or_else(unknown)?.join("huggingface/hub"))
}

/// Limits are the whole node's: one fetch does not change them for all.
fn limited(context: &Context<'_>) -> Failure {
    let data = context.data.display();
    Failure::new(format!(
        "the node that runs on {data} does the work, within its own limits"
    ))
    .hint("leave --up and --down out; shoal limit changes them for all that it does")
}

/// Fetches with a node that lives as long as the fetch.
async fn alone(ask: FetchAsk, mut config: Config, context: &mut Context<'_>) -> Result<Fetched, Failure> {
    config.peers.extend(ask.peers.iter().cloned());
    let node = Node::start(config).await?;
    session::alone(context);
    let named = matches!(ask.what, Wanted::Repo(RepoRef::Id(_) | RepoRef::Aliased { .. }));
    let interrupted =
        || Failure::new("interrupted").hint("run the same command again: it goes on where it was");
    let fetched = tokio::select! {
        fetched = async {
            if named && !meets_somebody(&node, MEET_TIMEOUT).await {
                context.note(format_args!("no other node is in sight yet"));
            }
            session::fetch_with(&node, ask, context).await
        } => fetched,
        _ = tokio::signal::ctrl_c() => Err(interrupted()),
    };
    node.shutdown().await;
    fetched
}

fn print(fetched: &Fetched, context: &mut Context<'_>) -> Result<(), Failure> {
    if context.json {
        return Ok(context.print_json(&printed(fetched))?);
    }
    let what = fetched
        .repo
        .as_ref()
        .map_or_else(|| format!("blake3/{}", fetched.manifest), ToString::to_string);
    let rate = output::rate(fetched.fetched_bytes, fetched.seconds)
        .map(|rate| format!(", {rate}"))
        .unwrap_or_default();
    let content = format!(
        "{}, {}",
        output::count(fetched.files, "file"),
        output::size(fetched.bytes)
    );
    let came = match fetched.fetched_bytes {
        0 => "nothing: all of it was here".to_owned(),
        bytes => format!(
            "{} in {}{rate}",
            output::size(bytes),
            output::seconds(fetched.seconds)
        ),
    };
    let mut pairs = vec![
        ("fetched", what),
        ("manifest", fetched.manifest.to_string()),
        ("content", content),
        ("over the network", came),
    ];
    for share in &fetched.peers {
        pairs.push(("from", format!("{}, {}", share.peer, output::size(share.bytes))));
    }
    let places = [&fetched.to, &fetched.hf_cache];
    for place in places.into_iter().flatten() {
        pairs.push(("handed out", format!("{} ({})", place.display(), ways(fetched))));
    }
    for out in &fetched.left_out {
        pairs.push((
            "left out",
            format!("{}, {}: {}", out.path, output::size(out.size), out.what),
        ));
    }
    for problem in &fetched.problems {
        pairs.push((
            "not read here",
            format!("{}: {}", problem.path, output::printable(&problem.what)),
        ));
    }
    let text = output::pairs(&pairs);
    write!(context.io.stdout, "{text}")?;
    if !fetched.left_out.is_empty() {
        context.note(format_args!(
            "left out is what can run code when it is loaded: --allow-code fetches it too, and --include with a whole path that file alone"
        ));
    }
    Ok(())
}

/// How the files came into the folder.
fn ways(fetched: &Fetched) -> String {
    let ways = &fetched.handed_out;
    let ways = [
        (ways.reflink, "by reflink"),
        (ways.hard_link, "by hard link"),
        (ways.copy, "by copy"),
        (ways.kept, "there already"),
    ];
    let used: Vec<_> = ways
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, way)| format!("{count} {way}"))
        .collect();
    used.join(", ")
}

fn printed(fetched: &Fetched) -> Printed<'_> {
    Printed {
        repo: fetched.repo.as_ref(),
        manifest: fetched.manifest,
        bytes: fetched.bytes,
        fetched_bytes: fetched.fetched_bytes,
        seconds: fetched.seconds,
        to: fetched.to.as_ref(),
        hf_cache: fetched.hf_cache.as_ref(),
        left_out: &fetched.left_out,
        problems: &fetched.problems,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_has_the_shape_that_scripts_rely_on() {
        let to = PathBuf::from("/x");
        let mut printed = Printed {
            repo: None,
            manifest: Hash::of(b""),
            bytes: 3,
            fetched_bytes: 2,
            seconds: 0.5,
            to: None,
            hf_cache: None,
            left_out: &[],
            problems: &[],
        };
        let manifest = Hash::of(b"").to_string();
        let wanted = json!({"repo": null, "manifest": manifest, "bytes": 3, "fetched_bytes": 2, "seconds": 0.5, "to": null});
        assert_eq!(serde_json::to_value(&printed).unwrap(), wanted);
        printed.to = Some(&to);
        printed.hf_cache = Some(&to);
        assert_eq!(serde_json::to_value(&printed).unwrap()["hf_cache"], json!("/x"));
        assert_eq!(serde_json::to_value(&printed).unwrap()["to"], json!("/x"));
    }

    #[test]
    fn cache_is_where_the_clients_look_for_it() {
        let table: [(&[(&str, &str)], &str); 7] = [
            (&[("HOME", "/h")], "/h/.cache/huggingface/hub"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HF_HOME", "/f"), ("XDG_CACHE_HOME", "/x")], "/f/hub"),
            (&[("HF_HOME", "/f"), ("HUGGINGFACE_HUB_CACHE", "/o")], "/o"),
            (
                &[
                    ("HF_HOME", "/f"),
                    ("HF_HUB_CACHE", "/c"),
                    ("HUGGINGFACE_HUB_CACHE", "/o"),
                ],
                "/c",
            ),
            (&[("HOME", "/h"), ("HF_HUB_CACHE", "~/c")], "/h/c"),
            (
                &[("HOME", "/h"), ("HF_HUB_CACHE", "")],
                "/h/.cache/huggingface/hub",
            ),
        ];
        for (env, wanted) in table {
            let env = env
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(hub_cache(&env).unwrap(), PathBuf::from(wanted), "{env:?}");
        }
        assert!(hub_cache(&BTreeMap::new()).unwrap_err().hint.is_some());
    }
}
