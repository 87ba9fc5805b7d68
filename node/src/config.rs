//! How a node is started: one struct, one file. `DATA/config.toml` is laid over the defaults, and flags over both.

use crate::{
    discovery::Relay,
    limits::UPLOAD_SLOTS_MAX,
    run::EnginesConfig,
    swarm::{DhtRole, MEMORY_MAX},
    throttle::Limits,
};
use libp2p::Multiaddr;
use serde::{Deserialize, Deserializer, de::Error};
use std::{
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
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
    /// What is fetched because a tool asks for it at the doors.
    pub on_demand: OnDemand,
    /// Pages of these origins, such as `http://localhost:3000`, may read at the doors.
    pub origins: Vec<String>,
    /// How fast bytes of blobs may go.
    pub limits: Limits,
    /// How many answers are sent at once, 1 to 64; chosen by what they bring when `None`.
    pub upload_slots: Option<usize>,
    /// Most bytes that blobs may take on the disk.
    pub quota: Option<u64>,
    /// How models are kept loaded.
    pub engines: EnginesConfig,
    /// Whose releases are kept and told to others.
    pub relay: Relay,
    /// Memory of this process, in bytes, beyond which no new connection is taken. Many nodes in one process share it.
    pub memory_max: usize,
}

/// What a node fetches because a local tool asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDemand {
    /// Repos of publishers that the user follows, and what is named by its hash.
    #[default]
    Followed,
    /// Everything that is asked for.
    Any,
    /// Nothing: only what is here is given out.
    Never,
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
    on_demand: Option<OnDemand>,
    origins: Option<Vec<String>>,
    up: Option<Rate>,
    down: Option<Rate>,
    peer_up: Option<Rate>,
    peer_down: Option<Rate>,
    upload_slots: Option<Slots>,
    quota: Option<Size>,
    relay: Option<Relay>,
    engines: Option<NonZeroUsize>,
    engine_idle: Option<Span>,
    engine_memory: Option<Size>,
}

/// A size in bytes: an integer, or a string for [`parse_size`].
struct Size(u64);

/// A size that bytes may pass at in a second: not 0.
struct Rate(u64);

/// How many answers are sent at once.
struct Slots(usize);

/// A time, such as `5m`.
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(D::Error::custom)
            .map(Span)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => parse_size(&text).map_err(D::Error::custom).map(Size),
            toml::Value::Integer(bytes) => u64::try_from(bytes)
                .map(Size)
                .map_err(|_| D::Error::custom(format!("{bytes} is less than no bytes"))),
            other => Err(D::Error::custom(format!("{other} is not a size"))),
        }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        match Size::deserialize(deserializer)?.0 {
            0 => Err(D::Error::custom("at 0 bytes a second nothing would pass")),
            bytes => Ok(Rate(bytes)),
        }
    }
}

impl<'de> Deserialize<'de> for Slots {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Slots, D::Error> {
        let slots = usize::deserialize(deserializer)?;
        match (1..=UPLOAD_SLOTS_MAX).contains(&slots) {
            true => Ok(Slots(slots)),
            false => Err(D::Error::custom(format!(
                "not 1 to {UPLOAD_SLOTS_MAX} upload slots"
            ))),
        }
    }
}

/// Why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a size in bytes: {reason}")]
pub struct SizeError {
    text: String,
    reason: parse_size::Error,
}

/// Reads a size in bytes, or a rate in bytes a second: `5000`, `500K`, `5M`, `1.5G`, `2 GiB`. Units count in 1,024s, however
/// they are written.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let read = parse_size::Config::new().with_binary().parse_size(text);
    read.map_err(|reason| SizeError {
        text: text.to_owned(),
        reason,
    })
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
            on_demand: OnDemand::default(),
            origins: Vec::new(),
            limits: Limits::default(),
            upload_slots: None,
            quota: None,
            engines: EnginesConfig::default(),
            relay: Relay::default(),
            memory_max: MEMORY_MAX,
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
        config.on_demand = written.on_demand.unwrap_or_default();
        config.origins = written.origins.unwrap_or_default();
        let rate = |written: Option<Rate>| written.map(|rate| rate.0);
        config.limits = Limits {
            up: rate(written.up),
            down: rate(written.down),
            peer_up: rate(written.peer_up),
            peer_down: rate(written.peer_down),
        };
        config.upload_slots = written.upload_slots.map(|slots| slots.0);
        config.quota = written.quota.map(|quota| quota.0);
        config.relay = written.relay.unwrap_or(config.relay);
        let engines = &mut config.engines;
        engines.kept = written.engines.map_or(engines.kept, NonZeroUsize::get);
        engines.idle = written.engine_idle.map_or(engines.idle, |idle| idle.0);
        engines.memory = written.engine_memory.map(|memory| memory.0);
        config.dht = match written.dht {
            None | Some(Role::Auto) => DhtRole::Auto,
            Some(Role::Server) => DhtRole::Server,
            Some(Role::Client) => DhtRole::Client,
        };
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let data = tempfile::TempDir::new().unwrap();
        std::fs::write(data.path().join("config.toml"), text).unwrap();
        Config::load(data.path())
    }

    #[test]
    fn sizes_have_units() {
        let sizes = [
            ("0", 0),
            ("7", 7),
            ("500K", 500 << 10),
            ("5M", 5 << 20),
            ("5m", 5 << 20),
            ("1.5G", 3 << 29),
            ("2 GiB", 2 << 30),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "5X",
            "1.2.3",
            "18446744073709551616",
            "99999999999G",
        ] {
            let error = parse_size(text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{text:?} is not a size in bytes: ")),
                "{error}"
            );
        }
    }

    #[test]
    fn limits_slots_and_a_quota_are_written_as_integers_or_with_units() {
        let config =
            load("up = '5M'\ndown = 1000\npeer_up = '500K'\nupload_slots = 64\nquota = '2G'").unwrap();
        let limits = Limits {
            up: Some(5 << 20),
            down: Some(1_000),
            peer_up: Some(500 << 10),
            peer_down: None,
        };
        assert_eq!(config.limits, limits);
        assert_eq!((config.upload_slots, config.quota), (Some(64), Some(2 << 30)));
        let config = load("").unwrap();
        let none = (Limits::default(), None, None);
        assert_eq!((config.limits, config.upload_slots, config.quota), none);
    }

    #[test]
    fn engines_are_kept_as_is_written() {
        let engines = load("engines = 2\nengine_idle = '90s'\nengine_memory = '3G'")
            .unwrap()
            .engines;
        let kept = (engines.kept, engines.idle, engines.memory);
        assert_eq!(kept, (2, Duration::from_secs(90), Some(3 << 30)));
        assert_eq!(load("").unwrap().engines, EnginesConfig::default());
        for text in [
            "engines = 0",
            "engine_idle = 5",
            "engine_idle = 'soon'",
            "engine_memory = 'much'",
        ] {
            assert!(matches!(load(text), Err(ConfigError::Malformed { .. })), "{text}");
        }
    }

    #[test]
    fn what_is_no_limit_is_refused_and_its_key_named() {
        for text in [
            "up = 0",
            "down = '0'",
            "peer_up = -1",
            "peer_down = 1.5",
            "quota = 'much'",
            "quota = true",
            "upload_slots = 0",
            "upload_slots = 65",
            "upload_slots = '4'",
        ] {
            let ConfigError::Malformed { source, .. } = load(text).unwrap_err() else {
                panic!("{text}");
            };
            let key = text.split(' ').next().unwrap();
            assert!(source.to_string().contains(key), "{text}: {source}");
        }
    }
}
