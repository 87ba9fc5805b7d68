//! What a repo was and is: its branch, its tags and its revisions. And what a client is told of itself.

use axum::http::{HeaderName, StatusCode, header, request::Parts};
use axum::response::Response;
use protocol::{SignedRelease, manifest::commit_id};
use serde_json::{Value, json};

use super::Hub;
use super::facts::time;
use super::problem::Problem;
use super::query::{self, Query};
use super::revisions::{LOCAL, Meaning, Revision, tag};
use super::route::{Address, At, MAIN};

const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

/// Revisions in one answer: more than are kept.
const PAGE_MAX: usize = 100;

impl Revision {
    /// What it is called in a list of revisions.
    pub(super) fn title(&self) -> String {
        self.release
            .as_ref()
            .map_or_else(|| format!("blake3/{}", self.manifest.hash()), title)
    }
}

fn title(release: &SignedRelease) -> String {
    format!("Release {}", release.release().seq)
}

/// A revision in a list of them.
fn listed(id: &str, title: &str, issued: u64, author: &str) -> Value {
    json!({
        "id": id, "title": title, "message": "", "date": time(issued), "authors": [{ "user": author }],
    })
}

impl Hub {
    /// Names the branch and the tags of a repo.
    pub(super) async fn refs(&self, repo: &Address, head: &Parts) -> Result<Response, Problem> {
        let reference = |kind: &str, name: &str, manifest| json!({ "name": name, "ref": format!("refs/{kind}/{name}"), "targetCommit": commit_id(manifest) });
        let (newest, tags) = match self.meaning(repo).await? {
            Meaning::Content(hash) => (hash, Vec::new()),
            Meaning::Repo(_) => {
                let releases = self.releases(repo).await?;
                let manifest = |release: &SignedRelease| release.release().manifest;
                let tags = releases
                    .iter()
                    .map(|release| reference("tags", &tag(release), manifest(release)));
                let newest = releases.first().map(manifest);
                let newest = newest.ok_or_else(|| Problem::no_revision(&repo.id, MAIN))?;
                (newest, tags.collect())
            }
        };
        let mut refs = json!({
            "branches": [reference("heads", MAIN, newest)], "converts": [], "tags": tags,
        });
        if Query::of(head).flag("include_prs") {
            refs["pullRequests"] = json!([]);
        }
        Ok(query::json(refs))
    }

    /// Lists a revision and those before it, the newest first.
    pub(super) async fn commits(&self, at: &At, head: &Parts) -> Result<Response, Problem> {
        let query = Query::of(head);
        let limit = query.number("limit")?.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let page: usize = query.number("p")?.unwrap_or(0);
        let revision = self.revision(at).await?;
        let author = at.repo.id.split_once('/').map_or(LOCAL, |(owner, _)| owner);
        let all = match &revision.release {
            None => vec![listed(
                &revision.commit,
                &revision.title(),
                revision.issued(),
                author,
            )],
            Some(newest) => {
                let releases = self.releases(&at.repo).await?;
                let older = |release: &&SignedRelease| release.release().seq <= newest.release().seq;
                let shown = |release: &SignedRelease| {
                    let said = release.release();
                    listed(&commit_id(said.manifest), &title(release), said.issued, author)
                };
                releases.iter().filter(older).map(shown).collect()
            }
        };
        let skipped = page.saturating_mul(limit);
        let listed: Vec<&Value> = all.iter().skip(skipped).take(limit).collect();
        let more = skipped.saturating_add(limit) < all.len();
        let next = more.then(|| query.with("p", &(page + 1).to_string()));
        let mut response = query::page(head, head.uri.path(), next, query::json(json!(listed)));
        response.headers_mut().insert(TOTAL_COUNT, all.len().into());
        Ok(response)
    }

    /// Says that whoever asks may read a repo, if there is one.
    pub(super) async fn auth_check(&self, repo: &Address) -> Result<Response, Problem> {
        self.releases(repo).await?;
        Ok(query::json(json!({})))
    }
}

/// Says who has a token: the user of this machine.
pub(super) fn whoami(head: &Parts) -> Result<Response, Problem> {
    let given = head.headers.get(header::AUTHORIZATION);
    let given = given.and_then(|given| given.to_str().ok()).unwrap_or_default();
    let token = given
        .split_once(' ')
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty());
    if token.is_none() {
        let message = "nobody is logged in: reading needs no token";
        return Err(Problem::refused(StatusCode::UNAUTHORIZED, message));
    }
    Ok(query::json(json!({
        "type": "user",
        "id": LOCAL,
        "name": LOCAL,
        "fullname": "the user of this machine",
        "isPro": false,
        "canPay": false,
        "orgs": [],
        "auth": {
            "type": "access_token",
            "accessToken": { "displayName": LOCAL, "role": "write", "createdAt": time(0) },
        },
    })))
}
