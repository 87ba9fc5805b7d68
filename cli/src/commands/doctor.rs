//! `shoal doctor`: what to tell each tool, and what keeps them from the node.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::SystemTime;

use node::config::Config;
use node::doctor::{self, Facts, Finding, Level, Running, Setting};
use node::http::messages::FAILED;
use serde::Serialize;

use crate::args::HTTP;
use crate::client::Client;
use crate::context::Context;
use crate::failure::Failure;
use crate::output;

/// What `doctor --json` prints. Scripts rely on it.
#[derive(Serialize)]
struct Printed<'a> {
    /// Whether there is no problem.
    ok: bool,
    /// Where the node is; null: none runs.
    http: Option<String>,
    settings: &'a [Setting],
    checks: &'a [Finding],
}

pub(crate) fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let usual = match Config::load(&context.data) {
        Ok(config) => config.http.unwrap_or(usual()),
        Err(error) => {
            return Err(Failure::from(error).hint("mend config.toml in the data folder, or take it away"));
        }
    };
    let node: Option<Running> = match Client::find(&context.data) {
        Some(client) => Some(client.get("doctor")?),
        None => None,
    };
    let facts = Facts {
        env: context.io.env.clone(),
        data: doctor::look_around(&context.data),
        now: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        usual: Some(usual),
        usual_taken: node.is_none() && doctor::usual_is_taken(usual),
        node,
    };
    let http = facts.node.as_ref().and_then(|node| node.http);
    let settings = doctor::settings(http.unwrap_or(usual));
    let checks = doctor::examine(&facts);
    let ok = checks.iter().all(|finding| finding.level != Level::Problem);
    if context.json {
        context.print_json(&Printed {
            ok,
            http: http.map(|http| format!("http://{http}")),
            settings: &settings,
            checks: &checks,
        })?;
    } else {
        write!(context.io.stdout, "{}", described(http, &settings, &checks))?;
    }
    Ok(match ok {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    })
}

fn usual() -> SocketAddr {
    HTTP.parse().expect("the usual address is one")
}

fn described(http: Option<SocketAddr>, settings: &[Setting], checks: &[Finding]) -> String {
    let heading = match http {
        Some(http) => format!("To use the node at http://{http}, tell"),
        None => "Once a node runs (shoal up), tell".to_owned(),
    };
    let mut text = format!("{heading}\n\n");
    let mut line = |words: std::fmt::Arguments<'_>| {
        writeln!(text, "{words}").expect("writing to a string cannot fail");
    };
    for Setting { tool, set } in settings {
        line(format_args!("  {tool}\n      {set}"));
    }
    line(format_args!(""));
    let width = checks
        .iter()
        .map(|finding| finding.check.len())
        .max()
        .unwrap_or(0);
    for finding in checks {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        };
        let says = output::printable(&finding.says);
        line(format_args!("{level:<7}  {:<width$}  {says}", finding.check));
        if let Some(next) = &finding.next {
            line(format_args!(
                "{:<7}  {:<width$}  next: {}",
                "",
                "",
                output::printable(next)
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_step_stands_below_what_it_mends() {
        let finding = |check: &str, level, next: Option<&str>| Finding {
            check: check.to_owned(),
            level,
            says: "it is so".to_owned(),
            next: next.map(str::to_owned),
        };
        let checks = [
            finding("node", Level::Ok, None),
            finding("HF_ENDPOINT", Level::Problem, Some("export it")),
        ];
        let settings = doctor::settings(usual());
        let text = described(Some(usual()), &settings, &checks);
        assert!(
            text.starts_with("To use the node at http://127.0.0.1:7070, tell\n"),
            "{text}"
        );
        assert!(
            text.contains("      export HF_ENDPOINT=http://127.0.0.1:7070\n"),
            "{text}"
        );
        let end = "ok       node         it is so\nproblem  HF_ENDPOINT  it is so\n                      next: export it\n";
        assert!(text.ends_with(end), "{text}");
        assert!(described(None, &settings, &checks).starts_with("Once a node runs"));
    }
}
