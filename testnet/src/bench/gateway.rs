//! The Hub's API of a node with many repos: a large warm file beside nginx, and how long small questions take.

use super::{
    ANSWER_DEADLINE, PART_DEADLINE, SEED, argument, human,
    meter::{forget_peak, peak_of},
    part::peer::Opened,
    say, start,
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use node::config::parse_size;
use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};
use testnet::{
    fixture,
    nodes::Process,
    report::{Cell, Spread, Table},
};

/// Bytes of a gigabyte, as a divisor: curl and nginx count in these.
const GB: f64 = 1e9;

/// Largest answer to a small question that is read, in bytes.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// Ports that are tried for nginx: somebody else may take one between our look and its start.
const PORTS_TRIED: usize = 5;

/// How long nginx may take until it answers, and how often it is tried.
const NGINX_DEADLINE: Duration = Duration::from_secs(10);
const NGINX_TICK: Duration = Duration::from_millis(10);

/// Where nginx may be: not everybody's path has the second place.
const NGINX: [&str; 2] = ["nginx", "/usr/sbin/nginx"];

/// What is asked, with `NNNN` for the number of a repo.
const QUESTIONS: [(&str, &str); 4] = [
    ("repo info", "/api/models/me/repo-NNNN"),
    ("tree", "/api/models/me/repo-NNNN/tree/main?recursive=true"),
    ("refs", "/api/models/me/repo-NNNN/refs"),
    ("search", "/api/models?limit=30&search=NNNN"),
];

#[derive(Args)]
pub(crate) struct Gateway {
    /// Bytes of the large file; K, M and G at the end count in 1,024s.
    #[arg(long, value_name = "BYTES", default_value = "2G", value_parser = parse_size)]
    size: u64,
    /// Repos in the catalog beside it.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=9_999))]
    repos: u16,
    /// Questions of each kind.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    asked: u32,
    /// How often the large file is got.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where the files are made, and removed again; by default where the system keeps such.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Gateway {
    pub(super) fn run(&self) -> Result<Vec<Table>> {
        let place = self.dir.clone().unwrap_or_else(env::temp_dir);
        let folder = tempfile::Builder::new().prefix("shoal-bench-").tempdir_in(&place);
        let folder = folder.with_context(|| place.display().to_string())?;
        let path = |name| folder.path().join(name);
        say(format_args!("making files in {}", folder.path().display()));
        let (large, repos) = (path("large.bin"), path("repos"));
        fixture::file(&large, SEED, "large", self.size)?;
        make_repos(&repos, self.repos)?;
        rustix::fs::sync();
        say(format_args!("publishing them"));
        let data = path("data");
        let mut node = start("doors", &[argument(&data)?, argument(&large)?, argument(&repos)?])?;
        let line = node.next_line(PART_DEADLINE)?;
        let opened: Opened = serde_json::from_str(&line).with_context(|| line.clone())?;
        let tables = vec![self.large(folder.path(), &node, &opened)?, self.small(&opened)?];
        drop(node.stdin());
        let status = node.wait(ANSWER_DEADLINE)?;
        ensure!(status.success(), "the node: {status}: {}", node.stderr());
        Ok(tables)
    }

    /// The large file by curl, from the node and from nginx in turn.
    fn large(&self, folder: &Path, node: &Process, opened: &Opened) -> Result<Table> {
        let title = format!(
            "GET one warm file of {} over loopback with curl",
            human(self.size)
        );
        let columns = ["from", "GB/s", "RSS before, MiB", "RSS at most, MiB"];
        let mut table = Table::new(title, &columns);
        let nginx = Nginx::start(folder)?;
        let mut of_node = Server::new(node.id(), format!("http://{}{}", opened.address, opened.large));
        let mut of_nginx = nginx
            .as_ref()
            .map(|nginx| Server::new(nginx.process.id(), format!("http://{}/large.bin", nginx.address)));
        let mut servers: Vec<&mut Server> = [&mut of_node].into_iter().chain(&mut of_nginx).collect();
        for server in &mut servers {
            server.warm(self.size)?;
        }
        for round in 1..=self.rounds {
            say(format_args!("getting the large file, round {round}"));
            for server in &mut servers {
                server.get(self.size)?;
            }
        }
        table.row(of_node.row("the node, verified")?);
        match of_nginx {
            Some(of_nginx) => {
                table.row(of_nginx.row("nginx, sendfile")?);
                let ratios = of_node.rates.iter().zip(&of_nginx.rates);
                let Spread { median, min, max, .. } = Spread::of(ratios.map(|(node, nginx)| node / nginx));
                table.note(format!(
                    "The node gives {median:.2} ({min:.2}–{max:.2}) times what nginx does."
                ));
            }
            None => table.note("nginx is not installed here: nothing to compare with."),
        }
        Ok(table)
    }

    /// Small questions, one after the other over one connection.
    fn small(&self, opened: &Opened) -> Result<Table> {
        let title = format!(
            "Ask {} times about {} repos, over one connection",
            self.asked, self.repos
        );
        let columns = ["question", "p50, ms", "p99, ms", "longest, ms"];
        let mut table = Table::new(title, &columns);
        let mut line = Line::to(opened.address)?;
        for (what, path) in QUESTIONS {
            say(format_args!("asking: {what}"));
            // The first of a kind may have something to read in first.
            line.get(&question(path, 0))?;
            let mut times = Vec::new();
            for number in 0..self.asked {
                let path = question(path, number % u32::from(self.repos));
                let begun = Instant::now();
                line.get(&path)?;
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            table.row([
                Cell::text(what),
                Cell::number(quantile(&times, 0.5), 2),
                Cell::number(quantile(&times, 0.99), 2),
                Cell::number(quantile(&times, 1.0), 2),
            ]);
        }
        Ok(table)
    }
}

/// Repos as small as they come: a card and a configuration.
fn make_repos(folder: &Path, count: u16) -> Result<()> {
    for index in 0..count {
        let repo = folder.join(format!("repo-{index:04}"));
        fs::create_dir_all(&repo)?;
        let tag = index % 10;
        let card = format!("---\nlicense: mit\ntags: [t{tag}]\n---\n# {index}\n");
        fs::write(repo.join("README.md"), card)?;
        fs::write(repo.join("config.json"), r#"{"model_type": "llama"}"#)?;
    }
    Ok(())
}

fn question(path: &str, number: u32) -> String {
    path.replace("NNNN", &format!("{number:04}"))
}

/// The least value that so large a share of the sorted ones do not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// A process that serves the large file, and what was measured of it.
struct Server {
    process: u32,
    url: String,
    before: u64,
    /// Gigabytes a second.
    rates: Vec<f64>,
}

impl Server {
    fn new(process: u32, url: String) -> Server {
        Server {
            process,
            url,
            before: 0,
            rates: Vec::new(),
        }
    }

    /// Has it read the file once, and forgets how much memory it has needed so far.
    fn warm(&mut self, size: u64) -> Result<()> {
        curl(&self.url, size)?;
        let process = self.process.to_string();
        forget_peak(&process);
        self.before = peak_of(&process)?;
        Ok(())
    }

    fn get(&mut self, size: u64) -> Result<()> {
        self.rates.push(size as f64 / GB / curl(&self.url, size)?);
        Ok(())
    }

    fn row(&self, what: &str) -> Result<[Cell; 4]> {
        Ok([
            Cell::text(what),
            Cell::spread(Spread::of(self.rates.iter().copied()), 2),
            Cell::mib(self.before),
            Cell::mib(peak_of(&self.process.to_string())?),
        ])
    }
}

/// Gets all of a file of `size` bytes with curl, which throws it away, and returns how many seconds it says that this took.
fn curl(url: &str, size: u64) -> Result<f64> {
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--output",
        "/dev/null",
    ]);
    command.args(["--max-time", &PART_DEADLINE.as_secs().to_string()]);
    command.args(["--write-out", "%{http_code} %{size_download} %{time_total}", url]);
    let output = command.output().context("curl, which has to be installed")?;
    let (said, wrong) = (
        String::from_utf8(output.stdout)?,
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "curl {url}: {wrong}");
    let [code, bytes, seconds] = said.split(' ').collect::<Vec<_>>()[..] else {
        bail!("curl {url} said {said}");
    };
    ensure!(
        code == "200" && bytes.parse() == Ok(size),
        "curl {url}: {code}, {bytes} bytes"
    );
    Ok(seconds.parse()?)
}

/// An nginx of ours: one process, which serves a folder to loopback.
struct Nginx {
    process: Process,
    address: SocketAddr,
}

impl Nginx {
    /// Starts it; `None` if it is not installed.
    fn start(folder: &Path) -> Result<Option<Nginx>> {
        let found = NGINX.into_iter().find(|nginx| {
            let version = Command::new(nginx).arg("-v").output();
            version.is_ok_and(|version| version.status.success())
        });
        let Some(program) = found else { return Ok(None) };
        let mut said = String::new();
        for _ in 0..PORTS_TRIED {
            let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
            let settings = folder.join("nginx.conf");
            fs::write(&settings, nginx_settings(argument(folder)?, address))?;
            let mut command = Command::new(program);
            command.args([
                "-e",
                "stderr",
                "-p",
                argument(folder)?,
                "-c",
                argument(&settings)?,
            ]);
            let mut process = Process::spawn(command)?;
            if answers(&mut process, address)? {
                return Ok(Some(Nginx { process, address }));
            }
            said = process.stderr();
        }
        bail!("nginx does not start: {said}")
    }
}

/// In the foreground and without a master, so that the process that we started is all there is of it.
fn nginx_settings(folder: &str, address: SocketAddr) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places = kinds.map(|kind| format!("{kind}_temp_path \"{folder}/nginx-{kind}\";\n"));
    format!(
        "daemon off;\nmaster_process off;\npid \"{folder}/nginx.pid\";\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\nsendfile on;\ntcp_nopush on;\n{}\
         server {{ listen {address}; root \"{folder}\"; }}\n}}\n",
        places.concat()
    )
}

/// Waits until somebody answers at an address; `false` if the process ended before.
fn answers(process: &mut Process, address: SocketAddr) -> Result<bool> {
    let begun = Instant::now();
    while process.running() {
        if TcpStream::connect(address).is_ok() {
            return Ok(true);
        }
        ensure!(
            begun.elapsed() < NGINX_DEADLINE,
            "nginx does not answer: {}",
            process.stderr()
        );
        thread::sleep(NGINX_TICK);
    }
    Ok(false)
}

/// A connection that is kept from one question to the next.
struct Line {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

impl Line {
    fn to(host: SocketAddr) -> Result<Line> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        Ok(Line {
            stream: BufReader::new(stream),
            host,
        })
    }

    /// Asks, and reads the answer to its end.
    fn get(&mut self, path: &str) -> Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.stream.get_mut().write_all(request.as_bytes())?;
        let answer = read_answer(&mut self.stream).with_context(|| path.to_owned())?;
        serde_json::from_slice::<serde::de::IgnoredAny>(&answer).with_context(|| path.to_owned())?;
        Ok(())
    }
}

/// Reads one answer that went well and has a length, and returns its body.
fn read_answer(stream: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.by_ref().take(64 * 1024).read_line(&mut line)?;
        if line.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_ascii_lowercase()),
        }
    }
    let status = head.first().map_or("", String::as_str);
    ensure!(status.starts_with("http/1.1 200"), "{status}");
    let len = head.iter().find_map(|line| line.strip_prefix("content-length:"));
    let len: usize = len.context("an answer without its length")?.trim().parse()?;
    ensure!(len <= ANSWER_MAX, "an answer of {len} bytes");
    let mut body = vec![0; len];
    stream.read_exact(&mut body)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_least_value_that_so_many_do_not_exceed() {
        let times: Vec<f64> = (1..=1_000).map(f64::from).collect();
        assert_eq!(quantile(&times, 0.5), 500.0);
        assert_eq!(quantile(&times, 0.99), 990.0);
        assert_eq!(quantile(&times, 1.0), 1_000.0);
        assert_eq!(quantile(&[7.0], 0.5), 7.0);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn questions_are_about_one_repo() {
        let asked = QUESTIONS.map(|(_, path)| question(path, 1_234));
        assert_eq!(asked[2], "/api/models/me/repo-1234/refs");
        assert_eq!(asked[3], "/api/models?limit=30&search=1234");
        assert_eq!(question("NNNN", 7), "0007");
    }

    #[test]
    fn answers_follow_one_another_on_one_connection_and_a_bad_one_is_an_error() {
        let two =
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let mut stream = two.as_bytes();
        assert_eq!(read_answer(&mut stream).unwrap(), b"[1]");
        assert_eq!(read_answer(&mut stream).unwrap(), b"{}");
        for bad in [
            "",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
        ] {
            assert!(read_answer(&mut bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
