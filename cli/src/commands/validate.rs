//! `shoal validate` and `shoal probe`: whether a model does what its publisher declares, and what there is to declare.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use node::http::messages::{NOT_VERIFIED, ValidateAsk};
use node::progress::Progress;
use node::validate::{Made, PROBES_PATH, ProbeRequest, Report, make_probes_in};
use protocol::RepoRef;
use serde::Serialize;

use crate::args::{AtMost, Probe, Validate};
use crate::context::Context;
use crate::failure::Failure;
use crate::meter::Meter;
use crate::output;
use crate::session::{Session, absolute};

/// What `validate --json` prints: `ok`, and all there is to say.
#[derive(Serialize)]
struct Printed<'a> {
    ok: bool,
    #[serde(flatten)]
    report: &'a Report,
}

/// What `probe --json` prints.
#[derive(Serialize)]
struct Written<'a> {
    file: &'a Path,
    probes: u64,
    architecture: &'a str,
}

pub(crate) async fn run(validate: Validate, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let ask = ValidateAsk {
        repo: validate.repo,
        file: validate.file,
        level: validate.level.into(),
        memory: AtMost::over(validate.memory, None),
    };
    let session = Session::open(context).await?;
    let report = session.validate(ask, context).await;
    session.close().await;
    let report = report?;
    let ok = report.ok();
    match context.json {
        true => context.print_json(&Printed { ok, report: &report })?,
        false => write!(context.io.stdout, "{}", described(&report))?,
    }
    Ok(match ok {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(NOT_VERIFIED),
    })
}

fn described(report: &Report) -> String {
    let line = |(name, line): (&'static str, &node::validate::Line)| {
        let text = output::printable(&line.text);
        (name, format!("{}: {text}", output::verdict(line.verdict)))
    };
    let mut pairs: Vec<(&str, String)> = report.lines().map(line).into();
    let same = report.compared.iter().filter(|compared| compared.agrees).count() as u64;
    let other = report.compared.len() as u64 - same;
    if same + other > 0 {
        let mut text = format!("the same as {} you follow found", output::count(same, "key"));
        let differences = report.compared.iter().filter(|compared| compared.agrees);
        let largest = differences
            .filter_map(|compared| compared.difference)
            .max_by(f64::total_cmp);
        if let Some(largest) = largest {
            text.push_str(&format!(" (max diff {largest:.0e})"));
        }
        if other > 0 {
            text.push_str(&format!(
                ", and not what {} found",
                output::count(other, "other key")
            ));
        }
        pairs.push(("results", text));
    }
    pairs.extend(
        report
            .open
            .iter()
            .map(|open| ("not shut in", output::printable(open).to_string())),
    );
    pairs.push((
        "signed",
        format!("by {}, in {}", report.by.short(), output::seconds(report.seconds)),
    ));
    output::pairs(&pairs)
}

/// Makes probes, of a repo or of a folder that is to be published.
pub(crate) async fn probe(probe: Probe, context: &mut Context<'_>) -> Result<(), Failure> {
    let request = ProbeRequest {
        file: probe.file,
        memory: AtMost::over(probe.memory, None),
        program: None,
    };
    let folder = PathBuf::from(&probe.what);
    let (made, beside) = if folder.is_dir() {
        let folder = absolute(folder)?;
        let (progress, snapshots) = Progress::channel();
        let work = make_probes_in(folder.clone(), &request, &progress);
        (
            Meter::new(context).watch(snapshots, work, context).await?,
            folder.join(PROBES_PATH),
        )
    } else {
        let repo: RepoRef = probe.what.parse()?;
        let session = Session::open(context).await?;
        let made = session.make_probes(repo, request, context).await;
        session.close().await;
        (made?, PathBuf::from(PROBES_PATH))
    };
    write(&made, &probe.out.unwrap_or(beside), context)
}

fn write(made: &Made, file: &Path, context: &mut Context<'_>) -> Result<(), Failure> {
    fs::write(file, &made.file)
        .map_err(|error| Failure::from(error).context(format!("{} cannot be written", file.display())))?;
    let (probes, architecture) = (made.probes, made.architecture.as_str());
    if context.json {
        return Ok(context.print_json(&Written {
            file,
            probes,
            architecture,
        })?);
    }
    context.note(format_args!(
        "{} of a {architecture}: publish the file with the model, as {PROBES_PATH} beside it",
        output::count(probes, "probe")
    ));
    Ok(context.print(file.display())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::validate::{Compared, Line};
    use protocol::{Hash, Verdict};

    fn report() -> Report {
        let line = |verdict, text: &str| Line {
            verdict,
            text: text.to_owned(),
        };
        let key = "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo"
            .parse()
            .unwrap();
        let compared = |agrees, difference| Compared {
            by: key,
            agrees,
            difference,
        };
        Report {
            manifest: Hash::of(b"m"),
            structure: line(Verdict::Passed, "2 tensors, 9 numbers"),
            numbers: line(Verdict::Failed, "a\u{1b} has 1 NaN among 9 elements"),
            behaviour: line(Verdict::NotDone, "it needs 28.0 GiB of memory, and 20.0 are free"),
            probes: None,
            differences: [None; 3],
            bits_per_byte: None,
            compared: vec![
                compared(true, Some(2e-7)),
                compared(true, None),
                compared(false, Some(1.0)),
            ],
            open: Vec::new(),
            by: key,
            seconds: 0.25,
        }
    }

    #[test]
    fn each_level_has_its_line_and_what_was_not_done_is_not_failed() {
        assert_eq!(
            described(&report()),
            "structure  passed: 2 tensors, 9 numbers\n\
             numbers    failed: a\u{fffd} has 1 NaN among 9 elements\n\
             behaviour  not validated: it needs 28.0 GiB of memory, and 20.0 are free\n\
             results    the same as 2 keys you follow found (max diff 2e-7), and not what 1 other key found\n\
             signed     by 8pinxxgqs4, in 0.25 s\n"
        );
        assert!(!report().ok());
        let mut fine = report();
        fine.numbers.verdict = Verdict::NotDone;
        assert!(fine.ok());
        fine.open = vec!["system calls are filtered: Function not implemented".to_owned()];
        let text = described(&fine);
        assert!(
            text.contains("not shut in  system calls are filtered: Function"),
            "{text}"
        );
    }
}
