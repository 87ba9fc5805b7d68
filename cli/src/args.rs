//! The command line's words, and what help says of them. What a word must look like is judged here: a wrong one is misuse.

mod amounts;
mod examples;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand};
use clap_complete::Shell;
use node::denials::What;
use node::http::messages::{JobPick, Multiaddr, Wanted};
use node::names::NamePattern;
use node::validate::Level;
use protocol::{Alias, Kind, Publisher, Reason, RepoName, RepoRef};

pub(crate) use amounts::AtMost;

/// Where the node listens for programs of this machine if nothing else is said.
pub(crate) const HTTP: &str = "127.0.0.1:7070";

/// Where the help lists the flags of every command.
const EVERYWHERE: &str = "Options of every command";

/// Publish, find, fetch, verify and serve machine-learning models together with every other node. No server needed.
///
/// Every command works on one data folder. While a node runs on it (shoal up), commands ask that node; otherwise they do
/// the work themselves and say so.
///
/// Exit codes: 0 done, 1 failed, 2 misuse, 3 verification or validation failed.
#[derive(Debug, Parser)]
#[command(
    name = "shoal",
    version,
    after_help = examples::BEGIN
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// The data folder: keys, files, catalog and config.toml [default: the platform's, such as ~/.local/share/shoal]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    /// Print only what was asked for, and errors
    #[arg(short, long, global = true, help_heading = EVERYWHERE, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Log to stderr; twice for more
    #[arg(short, long, global = true, help_heading = EVERYWHERE, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node in the foreground until Ctrl-C
    ///
    /// It serves what was published and fetched, finds other nodes, and does what the other commands ask. Flags come
    /// before what config.toml in the data folder says.
    #[command(
        after_help = examples::UP
    )]
    Up(Up),
    /// Publish a folder or a file under this node's publisher key
    ///
    /// Files are read once and served from where they lie: keep them there, or use --copy. The same content gives the same
    /// manifest hash everywhere, so that all who have it serve it together.
    #[command(
        after_help = examples::PUBLISH
    )]
    Publish(Publish),
    /// Publish what the Hub's tools have already fetched
    ///
    /// PATH is their cache, such as ~/.cache/huggingface/hub, or the folder of one repo in it. Each repo's main revision is
    /// published as a copy of its upstream, and served from where it lies. Bytes that are not what the cache says they are
    /// keep their revision from being published. A revision of which only some files are here is published as just those.
    /// Exit code 3: something is damaged; 1: something could not be taken.
    #[command(
        after_help = examples::IMPORT
    )]
    Import(Import),
    /// Fetch a repo, a revision or what a ticket names, from every node that has it
    ///
    /// Every byte is verified before it counts. What was fetched is kept, pinned and served to others. A fetch that was
    /// interrupted goes on where it was when it is run again.
    #[command(
        after_help = examples::FETCH
    )]
    Fetch(Fetch),
    /// Run a model that is here: an embedding, a text, or a chat
    ///
    /// An encoder prints the embedding of PROMPT. Any other model goes on from it, through its own chat template if it has one.
    /// On a terminal without PROMPT, a small chat. The model runs in a process of its own, which can neither open files nor reach a
    /// network, and whose memory is limited.
    #[command(after_help = examples::RUN)]
    Run(Run),
    /// Verify files against hashes and a signature, offline
    ///
    /// With --proof: a folder against a proof file, without a node, a data folder or a network. Without: what this node
    /// keeps of a repo. Each bad file is named with the offset of each bad 1 MiB. Exit code 3: something is not as it should be.
    #[command(
        after_help = examples::VERIFY
    )]
    Verify(Verify),
    /// Validate a model: it loads, runs and does what its publisher declares
    ///
    /// Three levels, each with its verdict: what the files say of themselves; every number in them; and, in a process of its
    /// own, in 32 bits floats, what comes out: the publisher's probes, a challenge that nobody could prepare for, and a fixed
    /// text. What this machine cannot do, for want of memory say, is not validated, and not failed. What came out is signed and
    /// kept, and told to nodes that ask. Exit code 3: a level failed.
    #[command(after_help = examples::VALIDATE)]
    Validate(Validate),
    /// Make the probes of a model: what it makes of some inputs, for others to validate
    ///
    /// Of a folder the file is written into it, to be published with it.
    #[command(after_help = examples::PROBE)]
    Probe(Probe),
    /// Work on attestations: what this node and others found when they validated models
    #[command(subcommand)]
    Attest(Attest),
    /// Write the proof file of a repo, which makes it possible to verify copies anywhere
    #[command(after_help = examples::PROOF)]
    Proof(Proof),
    /// List what this node has
    #[command(after_help = examples::LS)]
    Ls,
    /// Show one repo: its release, its files, and where they are
    #[command(after_help = examples::SHOW)]
    Show(Show),
    /// Search all repos that this node knows of, without asking anybody
    ///
    /// A node learns of releases from every node that it meets, and keeps them: a search needs no network. What publishers that you
    /// follow released comes first, then what keys that you follow reproduced.
    #[command(after_help = examples::SEARCH)]
    Search(Search),
    /// Show what a repo was made from, what was made from it, and what else was made from the same
    #[command(after_help = examples::SIMILAR)]
    Similar(Similar),
    /// Print a ticket: a text that is enough to fetch a repo from this node
    #[command(after_help = examples::TICKET)]
    Ticket(Repo),
    /// Keep a repo's files until it is forgotten
    #[command(after_help = examples::PIN)]
    Pin(Repo),
    /// Let a repo go, and free the space that nothing else needs
    ///
    /// Files that were published from where they lie stay there.
    #[command(after_help = examples::FORGET)]
    Forget(Repo),
    /// Free the space of what no pinned repo needs
    #[command(after_help = examples::COLLECT)]
    Collect,
    /// Follow a publisher, under a name of your choice; mirror its repos
    ///
    /// With --mirror the running node fetches what they released and release, the rarest first, and serves it to others: a
    /// community mirror. shoal following shows how far it is.
    #[command(
        after_help = examples::FOLLOW
    )]
    Follow(Follow),
    /// Follow a publisher no more
    #[command(after_help = examples::UNFOLLOW)]
    Unfollow(Unfollow),
    /// List the publishers that are followed
    #[command(after_help = examples::FOLLOWING)]
    Following,
    /// Keep away from something: neither announce nor serve nor fetch nor show it
    ///
    /// WHAT is a repo, one revision, one file or all that a publisher publishes. With --list: all that a list denies, a repo with a
    /// denylist.json that somebody publishes; its newer releases are followed. It counts within seconds, and can be taken back:
    /// shoal allow. Nothing is deleted: shoal forget frees space.
    #[command(after_help = examples::DENY)]
    Deny(Deny),
    /// Take a denial back, or allow something whatever a list says; with --list, follow a list no more
    #[command(after_help = examples::ALLOW)]
    Allow(Allow),
    /// List what is denied, by whom and why, and the lists that are followed
    #[command(after_help = examples::DENIED)]
    Denied(Denied),
    /// Print this node's peer id and publisher id, which are made at the first use; rotate, recover or revoke the publisher's key
    #[command(after_help = examples::ID)]
    Id(Id),
    /// List the nodes that the running node is connected to
    #[command(after_help = examples::PEERS)]
    Peers,
    /// Show how the running node is
    #[command(after_help = examples::STATUS)]
    Status,
    /// Tell how to point each tool at the node, and find what keeps them from it
    ///
    /// Exit code 1: there is a problem.
    #[command(after_help = examples::DOCTOR)]
    Doctor,
    /// List what the running node is fetching; pause, resume or cancel it
    #[command(after_help = examples::JOBS)]
    Jobs(Jobs),
    /// Show or change how fast the running node may send and receive
    ///
    /// What is not named stays as it is. A change lasts until the node stops; up, down, peer_up and peer_down in config.toml
    /// are for good.
    #[command(after_help = examples::LIMIT)]
    Limit(Limit),
    /// Work on the catalog: what this node knows of repos and files
    #[command(subcommand)]
    Catalog(Catalog),
    /// Print completions for a shell
    #[command(
        after_help = examples::COMPLETIONS
    )]
    Completions(Completions),
    /// Show what shoal does: three nodes on this machine publish, find, fetch and verify
    ///
    /// Three real nodes, each with a data folder for a while, talk over loopback only. One publishes DIR, or a small model made
    /// on the spot; another, which knows only the third, finds it by name and fetches it. Every byte is compared.
    #[command(after_help = examples::DEMO)]
    Demo(Demo),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Up {
    /// Listen for other nodes here; may come several times [default: QUIC and TCP on ports the system picks]
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) listen: Vec<Multiaddr>,
    /// Listen for programs of this machine here; a loopback address, port 0 means any [default: 127.0.0.1:7070 if it is free]
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    pub(crate) http: Option<SocketAddr>,
    /// Know this node from the start; may come several times
    #[arg(long = "peer", value_name = "MULTIADDR")]
    pub(crate) peers: Vec<Multiaddr>,
    /// Neither look for nodes on the local network nor be found there
    #[arg(long)]
    pub(crate) no_mdns: bool,
    /// Do not ask the router to let other nodes in
    #[arg(long)]
    pub(crate) no_upnp: bool,
    /// Send no more than so many bytes a second, such as 512K or 2M; none: as fast as it goes
    #[arg(long, value_name = "RATE")]
    pub(crate) up: Option<AtMost>,
    /// Receive no more than so many bytes a second
    #[arg(long, value_name = "RATE")]
    pub(crate) down: Option<AtMost>,
    /// Keep the data folder to so many bytes, such as 500G; none: what the disk has
    #[arg(long, value_name = "SIZE")]
    pub(crate) quota: Option<AtMost>,
    /// Send to so many peers at once; the others wait for their turn
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<NonZeroUsize>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Publish {
    /// The folder, or a single file
    #[arg(value_name = "DIR")]
    pub(crate) path: PathBuf,
    /// The repo's name [default: that of the folder]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<RepoName>,
    /// What it is: model, dataset or space
    #[arg(long, value_name = "KIND", default_value = "model")]
    pub(crate) kind: Kind,
    /// Copy the files into the data folder instead of serving them from where they lie
    #[arg(long)]
    pub(crate) copy: bool,
    /// Publish nothing whose card (the YAML at the head of README.md) does not name its licence, task and base model
    #[arg(long)]
    pub(crate) require_card: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// The cache, or the folder of one repo in it
    pub(crate) path: PathBuf,
    /// The repo's name, if there is only one [default: the upstream's, with its owner where two would have the same]
    #[arg(long, value_name = "NAME", conflicts_with = "store")]
    pub(crate) name: Option<RepoName>,
    /// Every revision that is there, not only main
    #[arg(long)]
    pub(crate) all_revisions: bool,
    /// Keep the revisions without publishing them under a name of ours
    #[arg(long)]
    pub(crate) store: bool,
    /// Copy the files into the data folder instead of serving them from where they lie
    #[arg(long)]
    pub(crate) copy: bool,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Fetch {
    /// PUBLISHER/NAME, ALIAS/NAME, blake3/HASH, a manifest's hash, or a ticket
    #[arg(value_name = "REPO|TICKET|HASH")]
    pub(crate) what: Wanted,
    /// Hand the files out to this folder, by reflink or hard link where the disk can
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
    /// Hand the files out to the cache of the Hub's tools [default DIR: what HF_HUB_CACHE or HF_HOME says, or ~/.cache/huggingface/hub]
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    pub(crate) hf_cache: Option<Option<PathBuf>>,
    /// Only files that match; may come several times
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// No file that matches; may come several times
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Fetch files too that can run code when they are loaded, such as Python pickles; without it they are left out, unless --include names them by their whole path
    #[arg(long)]
    pub(crate) allow_code: bool,
    /// Connect to this node first; may come several times
    #[arg(long = "peer", value_name = "MULTIADDR")]
    pub(crate) peers: Vec<Multiaddr>,
    /// Give up when nobody has what is missing for so long, such as 90s, 10m or 2h [default: never, once it has begun]
    #[arg(long, value_name = "DURATION", value_parser = amounts::time)]
    pub(crate) wait: Option<Duration>,
    /// Send no more than so many bytes a second meanwhile, such as 512K or 2M; a node that runs has limits of its own
    #[arg(long, value_name = "RATE")]
    pub(crate) up: Option<AtMost>,
    /// Receive no more than so many bytes a second
    #[arg(long, value_name = "RATE")]
    pub(crate) down: Option<AtMost>,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Id {
    /// Print the token for uploads over the Hub's API, which clients look for in HF_TOKEN: whoever has it may publish as you
    #[arg(long)]
    pub(crate) token: bool,
    #[command(subcommand)]
    pub(crate) verb: Option<IdVerb>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IdVerb {
    /// Publish under a new key from now on; who follows the old one follows the new one by itself
    ///
    /// The old key signs that it goes on as the new one. What is here of your repos is released again under the new key; what
    /// others have stays verifiable under the old one. It cannot be taken back.
    #[command(after_help = examples::ROTATE)]
    Rotate(Rotate),
    /// Publish under a new key, by the recovery key: the old one is lost, or somebody else has it
    ///
    /// It counts more than anything that the old key signs. With --publisher the key of another data folder, such as one on a
    /// disk that broke, goes on as the key of this one.
    #[command(after_help = examples::RECOVER)]
    Recover(Recover),
    /// Revoke a key for good: nothing new that it signs is accepted by anybody who hears of it
    ///
    /// Without a recovery (shoal id recover) nobody can publish under your name after that.
    #[command(after_help = examples::REVOKE)]
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    /// The file of the recovery key, to bind it to the new key for those who come to know only that one [default: recovery.key in the data folder, if it
    /// is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Recover {
    /// The file of the recovery key
    #[arg(value_name = "FILE")]
    pub(crate) recovery: PathBuf,
    /// The key to go on from [default: the last one of this data folder]
    #[arg(long, value_name = "PUBLISHER")]
    pub(crate) publisher: Option<Publisher>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// The key [default: the one that this node publishes with]
    #[arg(value_name = "PUBLISHER")]
    pub(crate) key: Option<Publisher>,
    /// Why: compromised, lost, retired or superseded
    #[arg(long, value_name = "WORD")]
    pub(crate) reason: Reason,
    /// The file of the recovery key, where the key itself is not here, or went on as another
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Jobs {
    /// Show also what each peer does for each of them
    #[arg(long)]
    pub(crate) peers: bool,
    #[command(subcommand)]
    pub(crate) verb: Option<JobsVerb>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum JobsVerb {
    /// Ask for no more bytes until it is resumed
    #[command(after_help = examples::PAUSE)]
    Pause(WhichJob),
    /// Go on with what was paused
    #[command(after_help = examples::RESUME)]
    Resume(WhichJob),
    /// Give a fetch up
    ///
    /// What came of it stays until shoal collect frees it: the same fetch goes on from there.
    #[command(after_help = examples::CANCEL)]
    Cancel(WhichJob),
}

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct WhichJob {
    /// The number of a job, as shoal jobs lists it, or all
    #[arg(value_name = "N|all")]
    pub(crate) id: JobPick,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Limit {
    /// Bytes a second to send to all together, such as 512K or 2M, or none
    #[arg(long, value_name = "RATE")]
    pub(crate) up: Option<AtMost>,
    /// Bytes a second to receive from all together
    #[arg(long, value_name = "RATE")]
    pub(crate) down: Option<AtMost>,
    /// Bytes a second to send to any one peer
    #[arg(long, value_name = "RATE")]
    pub(crate) peer_up: Option<AtMost>,
    /// Bytes a second to receive from any one peer
    #[arg(long, value_name = "RATE")]
    pub(crate) peer_down: Option<AtMost>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// PUBLISHER/NAME, ALIAS/NAME or blake3/HASH
    pub(crate) repo: RepoRef,
    /// What is said to the model; - reads it from stdin
    pub(crate) prompt: Option<String>,
    /// Generate so many tokens at most
    #[arg(long, value_name = "N", default_value = "512")]
    pub(crate) max_tokens: NonZeroUsize,
    /// How much variety there is, 0 to 2; 0: always the likeliest token
    #[arg(long, value_name = "T", default_value = "0.7", value_parser = amounts::temperature)]
    pub(crate) temperature: f64,
    /// Draw only from the likeliest tokens that make up this share, 0 to 1
    #[arg(long, value_name = "P", value_parser = amounts::share)]
    pub(crate) top_p: Option<f64>,
    /// Draw the same tokens each time [default: others each time]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Give the model PROMPT as it is, without its chat template
    #[arg(long)]
    pub(crate) raw: bool,
    /// Keep weights as they are in the file: less memory, and results that differ a little from machine to machine [default: as 32-bit
    /// floats, if there is room]
    #[arg(long)]
    pub(crate) packed: bool,
    /// Which file is the model, in a repo that has several
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<String>,
    /// Let it take so much memory, such as 4G [default: what it needs, if there is so much]
    #[arg(long, value_name = "SIZE", value_parser = amounts::size)]
    pub(crate) memory: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// A repo that this node has; with --proof, a folder
    #[arg(value_name = "REPO|DIR")]
    pub(crate) what: PathBuf,
    /// The proof file to verify the folder against
    #[arg(long, value_name = "FILE")]
    pub(crate) proof: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Validate {
    /// PUBLISHER/NAME, ALIAS/NAME or blake3/HASH
    pub(crate) repo: RepoRef,
    /// How far to go
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = UpTo::Behaviour)]
    pub(crate) level: UpTo,
    /// Take at most so much memory, such as 8G; none: what is free
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<AtMost>,
    /// Which file is the model, in a repo that has several
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<String>,
}

/// How far a validation goes: each level has those before it in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum UpTo {
    /// What the files say of themselves
    Structure,
    /// Every number in them
    Numbers,
    /// What comes out
    Behaviour,
}

impl From<UpTo> for Level {
    fn from(level: UpTo) -> Level {
        match level {
            UpTo::Structure => Level::Structure,
            UpTo::Numbers => Level::Numbers,
            UpTo::Behaviour => Level::Behaviour,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Probe {
    /// A repo that this node has, or a folder
    #[arg(value_name = "REPO|DIR")]
    pub(crate) what: String,
    /// The file to write [default: probes.json in the folder; of a repo, here]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Take at most so much memory, such as 8G; none: what is free
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<AtMost>,
    /// Which file is the model, where there are several
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Attest {
    /// List attestations
    #[command(after_help = examples::ATTEST_LS)]
    Ls(AttestLs),
    /// Write the attestations of a model that this node has to a file
    #[command(after_help = examples::ATTEST_EXPORT)]
    Export(AttestExport),
    /// Take in a file of attestations; each signature is verified
    #[command(after_help = examples::ATTEST_IMPORT)]
    Import(AttestImport),
}

#[derive(Debug, clap::Args)]
pub(crate) struct AttestLs {
    /// Only those of this repo
    pub(crate) repo: Option<RepoRef>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AttestExport {
    /// PUBLISHER/NAME, ALIAS/NAME or blake3/HASH
    pub(crate) repo: RepoRef,
    /// The file to write [default: NAME.attestations here]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AttestImport {
    /// The file
    pub(crate) file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Proof {
    /// PUBLISHER/NAME, ALIAS/NAME or blake3/HASH
    pub(crate) repo: RepoRef,
    /// The file to write [default: NAME.proof here]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Repo {
    /// PUBLISHER/NAME, ALIAS/NAME or blake3/HASH
    pub(crate) repo: RepoRef,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Search {
    /// Words that all have to be there: in names, descriptions, tags; the last one may be a beginning
    pub(crate) words: Vec<String>,
    /// Only models, datasets or spaces
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<Kind>,
    /// Only for this task, such as text-generation
    #[arg(long)]
    pub(crate) task: Option<String>,
    /// Only under this licence, such as apache-2.0
    #[arg(long)]
    pub(crate) license: Option<String>,
    /// Only for this library, such as transformers
    #[arg(long)]
    pub(crate) library: Option<String>,
    /// Only in this language, such as en
    #[arg(long)]
    pub(crate) language: Option<String>,
    /// Only with this tag; may come several times
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Only of this publisher: its id, or what you call it
    #[arg(long, value_name = "PUBLISHER|ALIAS")]
    pub(crate) publisher: Option<Followed>,
    /// Only what was made from this, such as meta-llama/Llama-3.1-8B
    #[arg(long, value_name = "REPO")]
    pub(crate) base: Option<String>,
    /// Only with files of this format, such as gguf
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// Only with weights of this type, such as BF16
    #[arg(long)]
    pub(crate) dtype: Option<String>,
    /// Only up to this size, such as 8G
    #[arg(long, value_name = "SIZE", value_parser = amounts::size)]
    pub(crate) max_size: Option<u64>,
    /// What comes first: relevance, modified, created, size, parameters or name
    #[arg(long, default_value = "relevance", value_parser = clap::builder::PossibleValuesParser::new(["relevance", "modified", "created", "size", "parameters", "name"]))]
    pub(crate) sort: String,
    /// The smallest, the oldest or A first
    #[arg(long)]
    pub(crate) ascending: bool,
    /// Hits, at most 1000
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) limit: usize,
    /// Go on where a page ended: its cursor
    #[arg(long, value_name = "CURSOR")]
    pub(crate) after: Option<String>,
    /// Ask the network who has the hits, for up to 5 seconds: without it nobody learns what you look for
    #[arg(long)]
    pub(crate) sources: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Similar {
    /// PUBLISHER/NAME or ALIAS/NAME
    pub(crate) repo: RepoRef,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) repo: Repo,
    /// Show all of its card, and nothing else
    #[arg(long)]
    pub(crate) card: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Follow {
    /// The publisher's id, of 52 characters
    pub(crate) publisher: Publisher,
    /// What you call it
    #[arg(long = "as", value_name = "ALIAS")]
    pub(crate) alias: Alias,
    /// Keep the newest release of their repos here, whole, and serve it: of all, or of those whose names match. Without this flag and
    /// --no-mirror it stays as it was
    #[arg(long, value_name = "GLOB", num_args = 0..=1, default_missing_value = "*", conflicts_with = "no_mirror")]
    pub(crate) mirror: Option<NamePattern>,
    /// Keep that within so many bytes, such as 500GB; older revisions that it fetched go first. none: what the node and the disk have
    #[arg(long, value_name = "SIZE", requires = "mirror")]
    pub(crate) quota: Option<AtMost>,
    /// Mirror them no more; what is here stays
    #[arg(long)]
    pub(crate) no_mirror: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Deny {
    /// ALIAS/NAME, PUBLISHER/NAME, blake3/HASH, blob:HASH, publisher:KEY or publisher:ALIAS
    #[arg(required_unless_present = "list", conflicts_with = "list")]
    pub(crate) what: Option<What>,
    /// Follow the list in this repo: PUBLISHER/NAME or ALIAS/NAME
    #[arg(long, value_name = "REPO", conflicts_with_all = ["reason", "lasts"])]
    pub(crate) list: Option<RepoRef>,
    /// Why, in a line of at most 200 bytes
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// For so long, such as 12h or 30d [default: until it is allowed]
    #[arg(long = "for", value_name = "DURATION", value_parser = amounts::time)]
    pub(crate) lasts: Option<Duration>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Allow {
    /// What was denied: ALIAS/NAME, PUBLISHER/NAME, blake3/HASH, blob:HASH, publisher:KEY or publisher:ALIAS
    #[arg(required_unless_present = "list", conflicts_with = "list")]
    pub(crate) what: Option<What>,
    /// Follow the list in this repo no more
    #[arg(long, value_name = "REPO")]
    pub(crate) list: Option<RepoRef>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Denied {
    /// Name every entry of the lists too
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Unfollow {
    /// The publisher's id, or what you call it
    #[arg(value_name = "PUBLISHER|ALIAS")]
    pub(crate) whom: Followed,
}

/// A publisher that is followed: its id or its alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Followed {
    Publisher(Publisher),
    Alias(Alias),
}

impl std::str::FromStr for Followed {
    type Err = protocol::AliasError;

    fn from_str(text: &str) -> Result<Followed, protocol::AliasError> {
        match text.parse() {
            Ok(publisher) => Ok(Followed::Publisher(publisher)),
            Err(_) => Ok(Followed::Alias(text.parse()?)),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Catalog {
    /// Make the catalog anew from the files, the releases and the keys, which are the truth
    #[command(after_help = examples::REBUILD)]
    Rebuild,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// Which shell
    pub(crate) shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// What to publish [default: a small model with random weights, made on the spot]
    pub(crate) dir: Option<PathBuf>,
}

/// The doors open on loopback only.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "not an address such as 127.0.0.1:7070".to_owned())?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("not a loopback address, and it must be one".to_owned()),
    }
}

#[cfg(test)]
mod tests;
