//! How a node is started: one struct, one file. `DATA/config.toml` is laid over the defaults, and flags over both.

use crate::swarm::DhtRole;
use libp2p::Multiaddr;
use serde::Deserialize;
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Largest `config.toml` we read, in bytes.
const CONFIG_LEN_MAX: u64 = 64 * 1024;

/// How a node is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// Where to listen for peers. Port 0 is one the system chooses.
    pub listen: Vec<Multiaddr>,
    /// Peers to begin with; `/p2p/…` at the end may be left out.
    pub peers: Vec<Multiaddr>,
    /// Whether to look for peers on the local network.
    pub mdns: bool,
    /// Whether to ask the router to let peers in.
    pub upnp: bool,
    /// Whether to serve the DHT.
    pub dht: DhtRole,
    /// Where the doors for local tools are, always on loopback.
    pub http: Option<SocketAddr>,
}

/// Why `config.toml` is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{path}", path = path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is far too long to be one.
    #[error("{path} is longer than {CONFIG_LEN_MAX} bytes", path = path.display())]
    TooLong {
        /// Where.
        path: PathBuf,
    },
    /// It does not read: the message names the line and the key.
    #[error("{path}", path = path.display())]
    Malformed {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        source: toml::de::Error,
    },
}

/// What the file may say. Unknown keys are refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    listen: Option<Vec<Multiaddr>>,
    peers: Option<Vec<Multiaddr>>,
    mdns: Option<bool>,
    upnp: Option<bool>,
    dht: Option<Role>,
    http: Option<SocketAddr>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Auto,
    Server,
    Client,
}

impl Config {
    /// The defaults: QUIC and TCP on automatic ports, found on the local network and through the router.
    pub fn new(data: impl Into<PathBuf>) -> Config {
        let any = ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0"];
        Config {
            data: data.into(),
            listen: any
                .map(|address| address.parse().expect("a fixed address"))
                .to_vec(),
            peers: Vec::new(),
            mdns: true,
            upnp: true,
            dht: DhtRole::Auto,
            http: None,
        }
    }

    /// A node that keeps to this machine: loopback, automatic ports, no search on the network.
    pub fn loopback(data: impl Into<PathBuf>) -> Config {
        let local = ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"];
        Config {
            listen: local
                .map(|address| address.parse().expect("a fixed address"))
                .to_vec(),
            mdns: false,
            upnp: false,
            dht: DhtRole::Server,
            ..Config::new(data)
        }
    }

    /// Lays `config.toml` of a data folder over the defaults; a folder without one has the defaults.
    pub fn load(data: &Path) -> Result<Config, ConfigError> {
        let path = data.join("config.toml");
        let mut config = Config::new(data);
        let read = |source| ConfigError::Read {
            path: path.clone(),
            source,
        };
        match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(config),
            Ok(metadata) if metadata.len() > CONFIG_LEN_MAX => return Err(ConfigError::TooLong { path }),
            Ok(_) => {}
            Err(error) => return Err(read(error)),
        }
        let text = std::fs::read_to_string(&path).map_err(read)?;
        let malformed = |source| ConfigError::Malformed {
            path: path.clone(),
            source,
        };
        let written: Written = toml::from_str(&text).map_err(malformed)?;
        config.listen = written.listen.unwrap_or(config.listen);
        config.peers = written.peers.unwrap_or(config.peers);
        config.mdns = written.mdns.unwrap_or(config.mdns);
        config.upnp = written.upnp.unwrap_or(config.upnp);
        config.http = written.http.or(config.http);
        config.dht = match written.dht {
            None | Some(Role::Auto) => DhtRole::Auto,
            Some(Role::Server) => DhtRole::Server,
            Some(Role::Client) => DhtRole::Client,
        };
        Ok(config)
    }
}
