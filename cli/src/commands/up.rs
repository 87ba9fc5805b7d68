//! `shoal up`: the node in the foreground, until a signal or a request stops it.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;

use node::config::Config;
use node::http::HttpError;
use node::http::control::{self, Door};
use node::node::Node;
use protocol::Publisher;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{AtMost, HTTP, Up};
use crate::context::Context;
use crate::failure::Failure;
use crate::output;

/// The first line of `up --json`, printed when the node serves. Scripts rely on it.
#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    peer_id: String,
    publisher: Publisher,
    listen: Vec<String>,
    http: String,
    data: &'a Path,
}

/// Ctrl-C and SIGTERM, from before the node starts.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

pub(crate) async fn run(up: Up, context: &mut Context<'_>) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let config = configure(&up, context)?;
    let asked = up.http.or(config.http);
    let node = tokio::select! {
        node = Node::start(config) => node?,
        () = signals.next() => return Err(Failure::new("interrupted")),
    };
    let door = match open(&node, asked, context).await {
        Ok(door) => door,
        Err(error) => {
            node.shutdown().await;
            return Err(error.into());
        }
    };
    let told = tell(&node, &door, context);
    if told.is_ok() {
        node.resume_jobs().await;
        tokio::select! {
            () = signals.next() => {}
            () = door.asked_to_stop() => {}
        }
        context.note(format_args!("stopping; Ctrl-C again stops at once"));
    }
    let stopped = async {
        door.close().await;
        node.shutdown().await;
    };
    tokio::select! {
        () = stopped => told,
        () = signals.next() => Err(Failure::new("stopped at once").hint("nothing is lost: what was acknowledged is on disk")),
    }
}

/// config.toml, and the flags over it.
fn configure(up: &Up, context: &Context<'_>) -> Result<Config, Failure> {
    let mut config = Config::load(&context.data)?;
    if !up.listen.is_empty() {
        config.listen.clone_from(&up.listen);
    }
    config.peers.extend(up.peers.iter().cloned());
    config.mdns &= !up.no_mdns;
    config.upnp &= !up.no_upnp;
    config.limits.up = AtMost::over(up.up, config.limits.up);
    config.limits.down = AtMost::over(up.down, config.limits.down);
    config.quota = AtMost::over(up.quota, config.quota);
    config.upload_slots = up.slots.map(NonZeroUsize::get).or(config.upload_slots);
    Ok(config)
}

/// Opens the doors where asked; where nobody asked, at the usual place, or at any if that is taken.
async fn open(node: &Node, asked: Option<SocketAddr>, context: &mut Context<'_>) -> Result<Door, HttpError> {
    let usual: SocketAddr = HTTP.parse().expect("the usual address is one");
    match control::serve(node.clone(), asked.unwrap_or(usual)).await {
        Err(HttpError::Bind { source, .. })
            if asked.is_none() && source.kind() == io::ErrorKind::AddrInUse =>
        {
            context.note(format_args!(
                "{HTTP} is taken; listening for programs of this machine on another port"
            ));
            control::serve(node.clone(), (usual.ip(), 0).into()).await
        }
        door => door,
    }
}

fn tell(node: &Node, door: &Door, context: &mut Context<'_>) -> Result<(), Failure> {
    let library = node.library();
    let ready = Ready {
        event: "ready",
        peer_id: library.peer_id().to_string(),
        publisher: library.publisher(),
        listen: node.listeners().iter().map(ToString::to_string).collect(),
        http: format!("http://{}", door.address()),
        data: library.data(),
    };
    if context.json {
        return Ok(context.print_json(&ready)?);
    }
    let mut pairs = vec![
        ("peer", ready.peer_id),
        ("publisher", ready.publisher.to_string()),
        ("data", ready.data.display().to_string()),
        ("control", ready.http),
    ];
    pairs.extend(ready.listen.into_iter().map(|address| ("listening", address)));
    let text = output::pairs(&pairs);
    write!(context.io.stdout, "{text}").and_then(|()| context.io.stdout.flush())?;
    context.note(format_args!("up; Ctrl-C stops it"));
    Ok(())
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Returns at the next of either.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ready_line_has_the_shape_that_scripts_rely_on() {
        let publisher = "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo";
        let ready = Ready {
            event: "ready",
            peer_id: "12D3".to_owned(),
            publisher: publisher.parse().unwrap(),
            listen: vec!["/ip4/127.0.0.1/tcp/1/p2p/12D3".to_owned()],
            http: "http://127.0.0.1:7070".to_owned(),
            data: Path::new("/d"),
        };
        let wanted = json!({"event": "ready", "peer_id": "12D3", "publisher": publisher,
            "listen": ["/ip4/127.0.0.1/tcp/1/p2p/12D3"], "http": "http://127.0.0.1:7070", "data": "/d"});
        assert_eq!(serde_json::to_value(&ready).unwrap(), wanted);
    }
}
