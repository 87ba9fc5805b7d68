use super::*;
use clap::CommandFactory;

const KEY: &str = "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo";

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(std::iter::once("shoal").chain(line.split_whitespace()))
}

fn hash() -> String {
    "ab".repeat(32)
}

#[test]
fn definition_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn lines_of_the_design_are_understood() {
    let hash = hash();
    let key = publisher();
    let lines = [
        "up".to_owned(),
        "up --listen /ip4/127.0.0.1/tcp/0 --listen /ip4/127.0.0.1/udp/0/quic-v1 --http 127.0.0.1:0 --no-mdns --no-upnp --json".to_owned(),
        "up --peer /ip4/192.0.2.7/udp/4001/quic-v1 --http [::1]:7070 --data d -v".to_owned(),
        "publish DIR".to_owned(),
        "publish DIR --name my-model --kind dataset --copy --json".to_owned(),
        "fetch meta/llama --to DIR --include *.json --exclude *.bin --exclude *.pt".to_owned(),
        "fetch meta/llama --hf-cache".to_owned(),
        "fetch meta/llama --hf-cache DIR --to OTHER".to_owned(),
        "fetch meta/llama --hf-cache --json".to_owned(),
        "import DIR".to_owned(),
        "import DIR --name n --all-revisions --copy --dry-run --json".to_owned(),
        "import DIR --store".to_owned(),
        "doctor --json".to_owned(),
        format!("fetch {hash}"),
        format!("fetch blake3/{hash} --peer /dns4/example.org/tcp/4001"),
        format!("fetch {key}/llama -q"),
        "verify DIR --proof FILE --json".to_owned(),
        "verify meta/llama".to_owned(),
        "proof meta/llama --out x.proof".to_owned(),
        "validate meta/llama".to_owned(),
        "validate meta/llama --level numbers --memory 8G --file a.gguf --json".to_owned(),
        "probe DIR --out probes.json --memory none".to_owned(),
        "probe meta/llama --json".to_owned(),
        "attest ls".to_owned(),
        "attest ls meta/llama --json".to_owned(),
        "attest export meta/llama --out FILE".to_owned(),
        "attest import FILE".to_owned(),
        "ls --json".to_owned(),
        "--data d --json ls".to_owned(),
        format!("show {key}/llama"),
        "ticket meta/llama".to_owned(),
        "pin meta/llama".to_owned(),
        "forget meta/llama".to_owned(),
        "collect".to_owned(),
        format!("follow {key} --as meta"),
        format!("follow {key} --as meta --mirror --quota 500GB"),
        format!("follow {key} --as meta --mirror llama-* --quota none"),
        format!("follow --mirror --as meta {key}"),
        format!("follow {key} --as meta --no-mirror"),
        format!("unfollow {key}"),
        "unfollow meta".to_owned(),
        "following".to_owned(),
        "deny meta/llama".to_owned(),
        "deny meta/llama --reason spam --for 30d --json".to_owned(),
        format!("deny blake3/{hash}"),
        format!("deny blob:{hash}"),
        format!("deny publisher:{key}"),
        "deny publisher:meta".to_owned(),
        "deny --list meta/denylist".to_owned(),
        format!("allow manifest:{hash}"),
        "allow --list meta/denylist --json".to_owned(),
        "denied --all --json".to_owned(),
        "id".to_owned(),
        "id rotate --yes --json".to_owned(),
        "id rotate --recovery FILE".to_owned(),
        format!("id recover FILE --publisher {key} --yes"),
        "id revoke --reason lost --yes".to_owned(),
        format!("id revoke {key} --reason compromised --recovery FILE"),
        "peers".to_owned(),
        "status".to_owned(),
        "jobs".to_owned(),
        "jobs --peers --json".to_owned(),
        "jobs pause 3".to_owned(),
        "jobs resume all --json".to_owned(),
        "jobs --json cancel 0".to_owned(),
        "limit".to_owned(),
        "limit --up 2M --down none --peer-up 512K --peer-down 1G --json".to_owned(),
        "up --up 2M --down none --quota 500G --slots 4".to_owned(),
        "fetch meta/llama --up 2M --down 1G --wait 90s".to_owned(),
        "run meta/llama".to_owned(),
        "run meta/llama - --json".to_owned(),
        format!("run blake3/{hash} hello --max-tokens 9 --temperature 0 --top-p 0.9 --seed 7 --raw --file a/b.gguf --memory 4G"),
        "catalog rebuild".to_owned(),
        "completions bash".to_owned(),
        "demo".to_owned(),
        "demo DIR --json -vv".to_owned(),
    ];
    for line in lines {
        assert!(parse(&line).is_ok(), "{line}: {}", parse(&line).unwrap_err());
    }
}

#[test]
fn lines_that_make_no_sense_are_misuse() {
    let key = publisher();
    let lines = [
        "".to_owned(),
        "frobnicate".to_owned(),
        "up extra".to_owned(),
        "up --listen 127.0.0.1:80".to_owned(),
        "up --http 0.0.0.0:7070".to_owned(),
        "up --http 192.0.2.1:7070".to_owned(),
        "up --http 7070".to_owned(),
        "publish".to_owned(),
        "publish DIR --kind picture".to_owned(),
        "publish DIR --name ..".to_owned(),
        "fetch".to_owned(),
        "deny".to_owned(),
        "deny llama".to_owned(),
        "deny blob:12".to_owned(),
        "deny picture:12".to_owned(),
        "deny meta/llama --list meta/denylist".to_owned(),
        "deny --list meta/denylist --reason spam".to_owned(),
        "deny meta/llama --for ever".to_owned(),
        "allow".to_owned(),
        "allow meta/llama --reason spam".to_owned(),
        "denied meta/llama".to_owned(),
        "import".to_owned(),
        "import DIR --name ..".to_owned(),
        "import DIR --name n --store".to_owned(),
        "doctor DIR".to_owned(),
        "id recover".to_owned(),
        "id revoke".to_owned(),
        "id revoke --reason bored".to_owned(),
        "id --token rotate".to_owned(),
        "fetch llama".to_owned(),
        "fetch shoal:garbage".to_owned(),
        "fetch a/b/c".to_owned(),
        "fetch blake3/123".to_owned(),
        format!("fetch {}", hash().to_uppercase()),
        "run".to_owned(),
        "run llama hello".to_owned(),
        "run meta/llama hello more".to_owned(),
        "run meta/llama --max-tokens 0".to_owned(),
        "run meta/llama --temperature NaN".to_owned(),
        "run meta/llama --top-p 1.5".to_owned(),
        "run meta/llama --memory 0".to_owned(),
        "verify".to_owned(),
        "show llama".to_owned(),
        format!("follow {key}"),
        "follow meta --as meta".to_owned(),
        format!("follow {key} --as Meta"),
        format!("follow {key} --as meta --quota 1G"),
        format!("follow {key} --as meta --mirror [ --quota 1G"),
        format!("follow {key} --as meta --mirror --quota 0"),
        format!("follow {key} --as meta --mirror --no-mirror"),
        format!("follow {key} --as blake3"),
        "unfollow Meta!".to_owned(),
        "catalog".to_owned(),
        "completions tcl".to_owned(),
        "ls -q -v".to_owned(),
        "jobs 3".to_owned(),
        "jobs pause".to_owned(),
        "jobs pause -1".to_owned(),
        "jobs cancel some".to_owned(),
        "limit 2M".to_owned(),
        "limit --up".to_owned(),
        "limit --up 0".to_owned(),
        "limit --up fast".to_owned(),
        "up --quota much".to_owned(),
        "up --slots 0".to_owned(),
        "fetch meta/llama --wait 90".to_owned(),
        "fetch meta/llama --quota 1G".to_owned(),
        "ls --data".to_owned(),
    ];
    for line in lines {
        let wrong = parse(&line).expect_err(&line);
        assert_eq!(wrong.exit_code(), 2, "{line}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    for line in ["--help", "--version", "up --help", "help fetch"] {
        assert_eq!(parse(line).expect_err(line).exit_code(), 0, "{line}");
    }
    let mut root = Args::command();
    root.build();
    let mut commands: Vec<_> = root
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
        .collect();
    let mut seen = 0;
    while let Some(command) = commands.pop() {
        seen += 1;
        assert!(command.get_about().is_some(), "{}", command.get_name());
        if command.has_subcommands() {
            commands.extend(
                command
                    .get_subcommands()
                    .filter(|command| command.get_name() != "help"),
            );
            continue;
        }
        let example = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            example.contains("shoal "),
            "{} has no example",
            command.get_name()
        );
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn examples_of_the_help_parse() {
    let root = Args::command();
    let mut tried = 0;
    let mut commands: Vec<_> = root.get_subcommands().collect();
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands());
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        for line in help.lines().filter_map(|line| line.trim().strip_prefix("shoal ")) {
            // What stands for something longer cannot parse, and the shell would take quotes and `>` away.
            if line.contains("...") {
                continue;
            }
            let line = line.split(' ').take_while(|word| !matches!(*word, ">" | "<"));
            let line = line.collect::<Vec<_>>().join(" ").replace('\'', "");
            // Every other part stands between quotes, and is one word.
            let parts = line.split('"').enumerate();
            let line: String = parts
                .map(|(at, part)| {
                    if at % 2 == 1 {
                        part.replace(' ', "_")
                    } else {
                        part.to_owned()
                    }
                })
                .collect();
            assert!(parse(&line).is_ok(), "{line}: {}", parse(&line).unwrap_err());
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

/// A publisher that is one: the key must be a point of the curve.
fn publisher() -> String {
    let publisher = KEY.parse::<Publisher>();
    publisher.unwrap_or_else(|wrong| panic!("{wrong}")).to_string()
}
