//! Talks to the node that runs on a data folder, over its control API. Blocks.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use node::engine::wire::Loaded;
use node::http::contact::Contact;
use node::http::messages::{ErrorAnswer, FAILED, Line, ROOT, RunAsk, RunLine};
use node::progress::Snapshot;
use node::run::Answer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::failure::Failure;

/// How long a node may take to say that it is there. It is on this machine; a busy disk is the slowest thing in the way.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer that is read whole, in bytes: `show` of 100,000 files, twice over.
const ANSWER_LEN_MAX: u64 = 128 * 1024 * 1024;

/// A node that runs, and that answered.
pub(crate) struct Client {
    agent: Agent,
    contact: Contact,
}

impl Client {
    /// Finds the node that runs on `data`. `None`: nobody left a contact there, or nobody answers at it with this token:
    /// then it is left over from a crash.
    pub(crate) fn find(data: &Path) -> Option<Client> {
        let contact = Contact::read(data)?;
        let config = Agent::config_builder()
            // A proxy is for the world outside, and must not see the token.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(HELLO_TIMEOUT))
            .build();
        let client = Client {
            agent: config.into(),
            contact,
        };
        let hello = client
            .agent
            .get(client.url("status"))
            .config()
            .timeout_global(Some(HELLO_TIMEOUT))
            .build();
        let answer = hello.header("authorization", client.bearer()).call().ok()?;
        answer.status().is_success().then_some(client)
    }

    /// The process that the node runs in.
    pub(crate) fn pid(&self) -> u32 {
        self.contact.pid
    }

    /// Asks; `what` is the route and its query.
    pub(crate) fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T, Failure> {
        let request = self
            .agent
            .get(self.url(what))
            .header("authorization", self.bearer());
        read(self.heard(request.call())?)
    }

    /// Has a short verb done.
    pub(crate) fn post<T: DeserializeOwned>(&self, what: &str, body: &impl Serialize) -> Result<T, Failure> {
        read(self.send(what, body)?)
    }

    /// Has a short verb done that answers with bytes, at most `len_max`.
    pub(crate) fn post_for_bytes(
        &self,
        what: &str,
        body: &impl Serialize,
        len_max: u64,
    ) -> Result<Vec<u8>, Failure> {
        let mut answer = self.send(what, body)?;
        let bytes = answer.body_mut().with_config().limit(len_max).read_to_vec();
        bytes.map_err(|error| cut().context(error.to_string()))
    }

    /// Has a long verb done; `watch` sees how far it is.
    pub(crate) fn watch<T: DeserializeOwned>(
        &self,
        what: &str,
        body: &impl Serialize,
        watch: impl FnMut(&Snapshot),
    ) -> Result<T, Failure> {
        let answer = self.send(what, body)?;
        follow(answer.into_body().into_reader(), watch)
    }

    /// Has a model run; `watch` sees how far loading is, `heard` hears text as it comes. Returns what came out, and which model it was.
    pub(crate) fn run(
        &self,
        ask: &RunAsk,
        watch: impl FnMut(&Snapshot),
        heard: impl FnMut(&str) -> std::io::Result<()>,
    ) -> Result<(Answer, Loaded), Failure> {
        let answer = self.send("run", ask)?;
        listen(answer.into_body().into_reader(), watch, heard)
    }

    fn send(&self, what: &str, body: &impl Serialize) -> Result<Response<Body>, Failure> {
        let text = serde_json::to_vec(body)?;
        let request = self
            .agent
            .post(self.url(what))
            .header("authorization", self.bearer());
        self.heard(request.content_type("application/json").send(text))
    }

    fn heard(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
        let lost = |error: ureq::Error| {
            Failure::new(format!(
                "the node (process {}) does not answer: {error}",
                self.contact.pid
            ))
            .hint("see whether it still runs, and what it logged")
        };
        let mut answer = answer.map_err(lost)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let told: Result<ErrorAnswer, _> = answer.body_mut().read_json();
        Err(told.map_or_else(
            |_| Failure::new(format!("the node answers {status}")),
            Failure::told,
        ))
    }

    fn url(&self, what: &str) -> String {
        format!("http://{}{ROOT}/{what}", self.contact.address)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.contact.token)
    }
}

fn read<T: DeserializeOwned>(mut answer: Response<Body>) -> Result<T, Failure> {
    let read = answer.body_mut().with_config().limit(ANSWER_LEN_MAX).read_json();
    read.map_err(|error| {
        Failure::new(format!("the node's answer cannot be read: {error}"))
            .hint("is it of another version? shoal status says more")
    })
}

/// Reads lines until the last one.
fn follow<T: DeserializeOwned>(answer: impl Read, mut watch: impl FnMut(&Snapshot)) -> Result<T, Failure> {
    for line in BufReader::new(answer).lines() {
        let line = line.map_err(|error| cut().context(error.to_string()))?;
        let line = serde_json::from_str(&line);
        match line.map_err(|error| Failure::new(format!("the node's answer cannot be read: {error}")))? {
            Line::Progress(snapshot) => watch(&snapshot),
            Line::Done { result } => return Ok(result),
            Line::Failed(answer) => return Err(Failure::told(answer)),
        }
    }
    Err(cut())
}

/// Reads the lines of a model's answer until the last one.
fn listen(
    answer: impl Read,
    mut watch: impl FnMut(&Snapshot),
    mut heard: impl FnMut(&str) -> std::io::Result<()>,
) -> Result<(Answer, Loaded), Failure> {
    let mut loaded = None;
    for line in BufReader::new(answer).lines() {
        let line = line.map_err(|error| cut().context(error.to_string()))?;
        let line = serde_json::from_str(&line);
        match line.map_err(|error| Failure::new(format!("the node's answer cannot be read: {error}")))? {
            RunLine::Progress(snapshot) => watch(&snapshot),
            RunLine::Loaded { model } => loaded = Some(model),
            RunLine::Text { text } => heard(&text)?,
            RunLine::Done { answer } => return loaded.map(|loaded| (answer, loaded)).ok_or_else(cut),
            RunLine::Failed(answer) => return Err(Failure::told(answer)),
        }
    }
    Err(cut())
}

fn cut() -> Failure {
    let failure = Failure::new("the node broke off its answer")
        .hint("see whether it still runs; what was done so far is kept");
    Failure {
        code: FAILED,
        ..failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_line_decides() {
        let progress = r#"{"event":"progress","phase":"fetching","bytes":1,"bytes_total":2,"files":0,"files_total":1,"peers":3,"note":null}"#;
        let mut seen = Vec::new();
        let text = format!("{progress}\n{progress}\n{}\n", r#"{"event":"done","result":7}"#);
        let result: u64 = follow(text.as_bytes(), |snapshot| seen.push(snapshot.peers)).unwrap();
        assert_eq!((result, seen), (7, vec![3, 3]));
        let text = format!(
            "{progress}\n{}",
            r#"{"event":"failed","error":["a","b"],"hint":"h","code":3}"#
        );
        let failure = follow::<u64>(text.as_bytes(), |_| {}).unwrap_err();
        let wanted = Failure {
            chain: vec!["a".to_owned(), "b".to_owned()],
            hint: Some("h".to_owned()),
            code: 3,
        };
        assert_eq!(failure, wanted);
    }

    #[test]
    fn answer_that_is_cut_or_garbled_is_a_failure() {
        for text in ["", r#"{"event":"done","#, "garbage\n", r#"{"event":"other"}"#] {
            let failure = follow::<u64>(text.as_bytes(), |_| {}).unwrap_err();
            assert_eq!(failure.code, FAILED, "{text}");
        }
    }

    #[test]
    fn contact_of_a_node_that_is_gone_is_ignored() {
        let data = tempfile::tempdir().unwrap();
        assert!(Client::find(data.path()).is_none());
        // A port that was free a moment ago: nobody answers there.
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        Contact::new(free).unwrap().write(data.path()).unwrap();
        assert!(Client::find(data.path()).is_none());
    }
}
