//! Who does the work: the node that runs on the data folder, or this process alone. Commands ask without minding which.

use std::path::PathBuf;
use std::time::Duration;

use node::attest::{self, AttestationView};
use node::denials::{Allowed, DeniedView, ListView, Why};
use node::discovery::{Discovery, FollowAnswer, Lineage, SearchAnswer, SearchAsk};
use node::fetch::{FetchRequest, FetchWhat, Fetched, HubCache};
use node::http::messages::{
    AllowAsk, AttestationsAsk, DenyAsk, DenylistAsk, FetchAsk, FollowAsk, MirrorAnswer, MirrorAsk, Nothing,
    ProbeAsk, PublishAnswer, PublishAsk, RecoverAsk, RepoAsk, RevokeAsk, RotateAsk, TicketAnswer,
    UnfollowAnswer, UnfollowAsk, UnsubscribedAnswer, ValidateAsk,
};
use node::identity::{IdentityView, Moved, Revoke, RevokedKey};
use node::import::{ImportRequest, Imported};
use node::library::{Collected, FollowView, Forgotten, Library, Rebuilt, RepoView, Shown};
use node::limits::RELEASE_DAYS;
use node::mirror::MirrorView;
use node::node::Node;
use node::progress::Progress;
use node::publish::PublishRequest;
use node::validate::{self, Made, ProbeRequest};
use node::verify::Report;
use protocol::limits::{BUNDLE_LEN_MAX, PROOF_LEN_MAX};
use protocol::{Proof, Publisher, RepoRef, Ticket};

use crate::client::Client;
use crate::context::Context;
use crate::failure::Failure;
use crate::meter::Meter;

/// Does what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Failure::new("the work was given up"))
}

/// Who does the work.
pub(crate) enum Session {
    /// The node that runs.
    Daemon(Client),
    /// This process. Close it at the end.
    Alone(Library),
}

impl Session {
    /// Finds the node that runs on the data folder, or opens the folder, and says so.
    pub(crate) async fn open(context: &mut Context<'_>) -> Result<Session, Failure> {
        if let Some(client) = Client::find(&context.data) {
            return Ok(Session::Daemon(client));
        }
        let library = Library::open(&context.data).await?;
        alone(context);
        Ok(Session::Alone(library))
    }

    /// Lets the data folder go.
    pub(crate) async fn close(self) {
        if let Session::Alone(library) = self {
            library.close().await;
        }
    }

    pub(crate) fn is_alone(&self) -> bool {
        matches!(self, Session::Alone(_))
    }

    /// Publishes. Alone, the ticket names nobody to fetch from.
    pub(crate) async fn publish(
        &self,
        ask: PublishAsk,
        context: &mut Context<'_>,
    ) -> Result<PublishAnswer, Failure> {
        let library = match self {
            Session::Daemon(client) => return watched(client, "publish", &ask, context),
            Session::Alone(library) => library,
        };
        let PublishAsk {
            path,
            name,
            kind,
            copy,
            require_card,
        } = ask;
        let request = PublishRequest {
            path,
            name,
            kind,
            copy,
            upstream: None,
            valid_days: RELEASE_DAYS,
            require_card,
        };
        let (progress, snapshots) = Progress::channel();
        let work = library.publish(request, &progress);
        let published = Meter::new(context).watch(snapshots, work, context).await?;
        let ticket = Ticket::new(published.manifest, Vec::new(), Some(published.repo.clone()))?;
        Ok(PublishAnswer { published, ticket })
    }

    /// Imports a cache.
    pub(crate) async fn import(
        &self,
        ask: ImportRequest,
        context: &mut Context<'_>,
    ) -> Result<Imported, Failure> {
        let library = match self {
            Session::Daemon(client) => return watched(client, "import", &ask, context),
            Session::Alone(library) => library,
        };
        let (progress, snapshots) = Progress::channel();
        let work = library.import(ask, &progress);
        Ok(Meter::new(context).watch(snapshots, work, context).await?)
    }

    pub(crate) async fn verify(&self, repo: RepoRef, context: &mut Context<'_>) -> Result<Report, Failure> {
        let library = match self {
            Session::Daemon(client) => return watched(client, "verify", &RepoAsk { repo }, context),
            Session::Alone(library) => library,
        };
        let (progress, snapshots) = Progress::channel();
        let work = library.verify(&repo, &progress);
        Ok(Meter::new(context).watch(snapshots, work, context).await?)
    }

    /// Makes a proof file's bytes.
    pub(crate) async fn proof(&self, repo: RepoRef, context: &mut Context<'_>) -> Result<Proof, Failure> {
        let library = match self {
            Session::Daemon(client) => {
                let bytes = client.post_for_bytes("proof", &RepoAsk { repo }, PROOF_LEN_MAX as u64)?;
                return Ok(Proof::decode(&bytes)?);
            }
            Session::Alone(library) => library,
        };
        let (progress, snapshots) = Progress::channel();
        let work = library.proof(&repo, &progress);
        Ok(Meter::new(context).watch(snapshots, work, context).await?)
    }

    /// Validates a model. Alone, nobody is asked who else did.
    pub(crate) async fn validate(
        &self,
        ask: ValidateAsk,
        context: &mut Context<'_>,
    ) -> Result<validate::Report, Failure> {
        let library = match self {
            Session::Daemon(client) => return watched(client, "validate", &ask, context),
            Session::Alone(library) => library,
        };
        let (progress, snapshots) = Progress::channel();
        let work = library.validate(ask.into(), &progress);
        Ok(Meter::new(context).watch(snapshots, work, context).await?)
    }

    /// Makes the probes of a model.
    pub(crate) async fn make_probes(
        &self,
        repo: RepoRef,
        request: ProbeRequest,
        context: &mut Context<'_>,
    ) -> Result<Made, Failure> {
        let library = match self {
            Session::Daemon(client) => {
                let ProbeRequest { file, memory, .. } = request;
                return watched(client, "probe", &ProbeAsk { repo, file, memory }, context);
            }
            Session::Alone(library) => library,
        };
        let (progress, snapshots) = Progress::channel();
        let work = library.make_probes(&repo, &request, &progress);
        Ok(Meter::new(context).watch(snapshots, work, context).await?)
    }

    /// Lists attestations: of one model, or all.
    pub(crate) async fn attestations(&self, repo: Option<&RepoRef>) -> Result<Vec<AttestationView>, Failure> {
        match self {
            Session::Daemon(client) => {
                let query = repo.map(|repo| format!("?repo={repo}")).unwrap_or_default();
                client.get(&format!("attestations{query}"))
            }
            Session::Alone(library) => Ok(library.attestation_views(repo)?),
        }
    }

    /// Makes the bytes of a file of attestations.
    pub(crate) async fn export_attestations(&self, repo: RepoRef) -> Result<Vec<u8>, Failure> {
        match self {
            Session::Daemon(client) => {
                client.post_for_bytes("attestations/export", &RepoAsk { repo }, BUNDLE_LEN_MAX as u64)
            }
            Session::Alone(library) => Ok(library.export_attestations(&repo)?),
        }
    }

    /// Takes in the bytes of a file of attestations.
    pub(crate) async fn import_attestations(&self, bytes: Vec<u8>) -> Result<attest::Imported, Failure> {
        match self {
            Session::Daemon(client) => client.post("attestations/import", &AttestationsAsk::of(&bytes)),
            Session::Alone(library) => Ok(library.import_attestations(&bytes)?),
        }
    }

    pub(crate) fn list(&self) -> Result<Vec<RepoView>, Failure> {
        match self {
            Session::Daemon(client) => client.get("repos"),
            Session::Alone(library) => Ok(library.list()?),
        }
    }

    pub(crate) async fn show(&self, repo: &RepoRef) -> Result<Shown, Failure> {
        match self {
            Session::Daemon(client) => client.get(&format!("show?repo={repo}")),
            Session::Alone(library) => Ok(library.show(repo).await?),
        }
    }

    /// Searches what is known.
    pub(crate) async fn search(&self, ask: SearchAsk) -> Result<SearchAnswer, Failure> {
        match self {
            Session::Daemon(client) => client.post("search", &ask),
            Session::Alone(library) => {
                let discovery = Discovery::alone(library.clone()).await?;
                Ok(blocking(move || discovery.search(&ask)).await??)
            }
        }
    }

    /// Finds the relatives of a repo.
    pub(crate) async fn lineage(&self, repo: &RepoRef) -> Result<Lineage, Failure> {
        match self {
            Session::Daemon(client) => client.get(&format!("similar?repo={repo}")),
            Session::Alone(library) => {
                let discovery = Discovery::alone(library.clone()).await?;
                let repo = repo.clone();
                Ok(blocking(move || discovery.relatives(&repo)).await??)
            }
        }
    }

    /// Makes a ticket. Alone, it names nobody to fetch from.
    pub(crate) async fn ticket(&self, repo: &RepoRef) -> Result<Ticket, Failure> {
        let library = match self {
            Session::Daemon(client) => {
                let TicketAnswer { ticket } = client.get(&format!("ticket?repo={repo}"))?;
                return Ok(ticket);
            }
            Session::Alone(library) => library,
        };
        let manifest = library.resolve_local(repo)?;
        Ok(Ticket::new(manifest, Vec::new(), library.repo_of(repo)?)?)
    }

    pub(crate) async fn pin(&self, repo: RepoRef) -> Result<(), Failure> {
        match self {
            Session::Daemon(client) => client.post("pin", &RepoAsk { repo }).map(|Nothing {}| ()),
            Session::Alone(library) => {
                library.pin(&repo).await?;
                Ok(())
            }
        }
    }

    pub(crate) async fn forget(&self, repo: RepoRef) -> Result<Forgotten, Failure> {
        match self {
            Session::Daemon(client) => client.post("forget", &RepoAsk { repo }),
            Session::Alone(library) => Ok(library.forget(&repo).await?),
        }
    }

    pub(crate) async fn collect(&self) -> Result<Collected, Failure> {
        match self {
            Session::Daemon(client) => client.post("collect", &Nothing {}),
            Session::Alone(library) => Ok(library.collect().await?),
        }
    }

    pub(crate) async fn rebuild_catalog(&self) -> Result<Rebuilt, Failure> {
        match self {
            Session::Daemon(client) => client.post("catalog/rebuild", &Nothing {}),
            Session::Alone(library) => Ok(library.rebuild_catalog().await?),
        }
    }

    /// Follows somebody, and says for whom they could be taken.
    pub(crate) async fn follow(&self, ask: FollowAsk) -> Result<FollowAnswer, Failure> {
        match self {
            Session::Daemon(client) => client.post("follow", &ask),
            Session::Alone(library) => {
                let discovery = Discovery::alone(library.clone()).await?;
                Ok(blocking(move || discovery.follow(ask.publisher, &ask.alias)).await??)
            }
        }
    }

    /// Has a publisher's repos kept from now on, or not any more.
    pub(crate) fn mirror(&self, ask: MirrorAsk) -> Result<MirrorAnswer, Failure> {
        match self {
            Session::Daemon(client) => client.post("mirror", &ask),
            Session::Alone(library) => {
                let before = library.mirror_of(ask.publisher);
                let mirror = ask.terms.map(|terms| terms.over(before.as_ref()));
                library.set_mirror(ask.publisher, mirror.clone())?;
                Ok(MirrorAnswer { mirror })
            }
        }
    }

    /// How the mirrors are.
    pub(crate) async fn mirrors(&self) -> Result<Vec<MirrorView>, Failure> {
        match self {
            Session::Daemon(client) => client.get("mirrors"),
            Session::Alone(library) => Ok(library.mirror_views().await?),
        }
    }

    /// Returns whether the publisher was followed.
    pub(crate) fn unfollow(&self, publisher: Publisher) -> Result<bool, Failure> {
        match self {
            Session::Daemon(client) => {
                let UnfollowAnswer { followed } = client.post("unfollow", &UnfollowAsk { publisher })?;
                Ok(followed)
            }
            Session::Alone(library) => Ok(library.unfollow(publisher)?),
        }
    }

    pub(crate) fn following(&self) -> Result<Vec<FollowView>, Failure> {
        match self {
            Session::Daemon(client) => client.get("following"),
            Session::Alone(library) => Ok(library.follow_views()),
        }
    }

    pub(crate) async fn deny(&self, ask: DenyAsk) -> Result<Why, Failure> {
        match self {
            Session::Daemon(client) => client.post("deny", &ask),
            Session::Alone(library) => Ok(library.deny(&ask.what, ask.reason, ask.for_s).await?),
        }
    }

    pub(crate) async fn allow(&self, ask: AllowAsk) -> Result<Allowed, Failure> {
        match self {
            Session::Daemon(client) => client.post("allow", &ask),
            Session::Alone(library) => Ok(library.allow(&ask.what).await?),
        }
    }

    pub(crate) fn denied(&self, all: bool) -> Result<DeniedView, Failure> {
        match self {
            Session::Daemon(client) => client.get(&format!("denied?all={all}")),
            Session::Alone(library) => Ok(library.denied(all)),
        }
    }

    /// Follows a list. Alone, it is not fetched.
    pub(crate) async fn subscribe(&self, repo: &RepoRef) -> Result<ListView, Failure> {
        let library = match self {
            Session::Daemon(client) => {
                let repo = repo.clone();
                return client.post("denylists/subscribe", &DenylistAsk { repo });
            }
            Session::Alone(library) => library,
        };
        let (id, _) = library.subscribe(repo).await?;
        let none = || Failure::new(format!("{repo} is not followed"));
        library.list_view(&id).ok_or_else(none)
    }

    /// Returns whether the list was followed.
    pub(crate) async fn unsubscribe(&self, repo: &RepoRef) -> Result<bool, Failure> {
        match self {
            Session::Daemon(client) => {
                let repo = repo.clone();
                let answer: UnsubscribedAnswer =
                    client.post("denylists/unsubscribe", &DenylistAsk { repo })?;
                Ok(answer.subscribed)
            }
            Session::Alone(library) => Ok(library.unsubscribe(repo).await?.1),
        }
    }

    /// Who the node is, and with which keys.
    pub(crate) fn identity(&self) -> Result<IdentityView, Failure> {
        match self {
            Session::Daemon(client) => client.get("id"),
            Session::Alone(library) => Ok(library.identity_view()),
        }
    }

    /// Goes on as a new key.
    pub(crate) async fn rotate(&self, ask: RotateAsk) -> Result<Moved, Failure> {
        match self {
            Session::Daemon(client) => client.post("id/rotate", &ask),
            Session::Alone(library) => {
                let library = library.clone();
                Ok(blocking(move || library.rotate(ask.recovery.as_deref())).await??)
            }
        }
    }

    /// Goes on as another key, by the recovery key.
    pub(crate) async fn recover(&self, ask: RecoverAsk) -> Result<Moved, Failure> {
        match self {
            Session::Daemon(client) => client.post("id/recover", &ask),
            Session::Alone(library) => {
                let library = library.clone();
                Ok(blocking(move || library.recover(ask.publisher, &ask.recovery)).await??)
            }
        }
    }

    /// Revokes a key.
    pub(crate) async fn revoke(&self, ask: RevokeAsk) -> Result<RevokedKey, Failure> {
        match self {
            Session::Daemon(client) => client.post("id/revoke", &ask),
            Session::Alone(library) => {
                let library = library.clone();
                let revoke = Revoke {
                    key: ask.key,
                    reason: ask.reason.parse()?,
                    recovery: ask.recovery,
                };
                Ok(blocking(move || library.revoke(&revoke)).await??)
            }
        }
    }
}

/// Fetches over the daemon.
pub(crate) fn fetch_by(
    client: &Client,
    ask: &FetchAsk,
    context: &mut Context<'_>,
) -> Result<Fetched, Failure> {
    watched(client, "fetch", ask, context)
}

/// Fetches with a node of this process.
pub(crate) async fn fetch_with(
    node: &Node,
    ask: FetchAsk,
    context: &mut Context<'_>,
) -> Result<Fetched, Failure> {
    let FetchAsk {
        what,
        to,
        include,
        exclude,
        allow_code,
        wait_s,
        hf_cache,
        ..
    } = ask;
    let what = FetchWhat::from(what);
    let request = FetchRequest {
        to,
        include,
        exclude,
        allow_code,
        wait: wait_s.map(Duration::from_secs),
        hf_cache: hf_cache.map(|folder| HubCache::new(folder, &what)),
        ..FetchRequest::new(what)
    };
    let (progress, snapshots) = Progress::channel();
    let work = node.fetch(request, &progress);
    Ok(Meter::new(context).watch(snapshots, work, context).await?)
}

/// The node that runs on the data folder, for what only a running node can tell.
pub(crate) fn running(context: &Context<'_>) -> Result<Client, Failure> {
    let none =
        || Failure::new(format!("no node runs on {}", context.data.display())).hint("start one: shoal up");
    Client::find(&context.data).ok_or_else(none)
}

/// Says that this process does the work.
pub(crate) fn alone(context: &mut Context<'_>) {
    let data = context.data.clone();
    context.note(format_args!("no daemon on {}; working alone", data.display()));
}

/// A path as the daemon can use it, which stands in another folder.
pub(crate) fn absolute(path: PathBuf) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(&path)
        .map_err(|error| Failure::from(error).context(path.display().to_string()))?;
    match absolute.to_str() {
        Some(_) => Ok(absolute),
        None => Err(Failure::new(format!("{} is not UTF-8", absolute.display()))
            .hint("rename it, or reach it by another path")),
    }
}

fn watched<T: serde::de::DeserializeOwned>(
    client: &Client,
    what: &str,
    ask: &impl serde::Serialize,
    context: &mut Context<'_>,
) -> Result<T, Failure> {
    let mut meter = Meter::new(context);
    client.watch(what, ask, |snapshot| meter.show(snapshot, context))
}
