//! A relay between a client and a door, on loopback: it writes down what is asked, and cuts one answer short.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// One question of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
}

impl Asked {
    /// Whether the bytes of a file are asked for.
    pub(crate) fn is_for_bytes(&self) -> bool {
        self.method == "GET" && self.path.contains("/resolve/")
    }
}

/// Which answer is cut: the first one to a GET of a path with this end, after so many bytes.
struct Cut {
    end: String,
    after: u64,
}

struct Between {
    door: SocketAddr,
    cut: Mutex<Option<Cut>>,
    asked: Mutex<Vec<Asked>>,
}

/// It ends, and every connection with it, when this is dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    between: Arc<Between>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Stands before a door. The first answer to a GET of a path that ends like `end` breaks off after `after` bytes.
    pub(crate) async fn before(door: SocketAddr, end: &str, after: u64) -> Relay {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Cut {
            end: end.to_owned(),
            after,
        };
        let between = Arc::new(Between {
            door,
            cut: Mutex::new(Some(cut)),
            asked: Mutex::new(Vec::new()),
        });
        let relayed = between.clone();
        let accepting = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let relayed = relayed.clone();
                // Whoever goes away, or is cut off, ends its own connection and no other.
                open.spawn(async move { drop(relayed.pass(client).await) });
                while open.try_join_next().is_some() {}
            }
        });
        Relay {
            address,
            between,
            accepting,
        }
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked until now.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.between.asked.lock().unwrap().clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Between {
    /// Passes on one question and its answer, and closes: so that an answer ends where the connection does.
    async fn pass(&self, client: TcpStream) -> std::io::Result<()> {
        let (from_client, mut to_client) = client.into_split();
        let mut from_client = BufReader::new(from_client);
        let (mut head, mut asked, mut len) = (String::new(), None, 0);
        loop {
            let mut line = String::new();
            if from_client.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let lower = line.to_ascii_lowercase();
            let value = |name: &str| lower.strip_prefix(name).map(|value| value.trim().to_owned());
            if asked.is_none() {
                let mut words = line.split(' ').map(str::to_owned);
                let mut word = || words.next().unwrap_or_default();
                asked = Some(Asked {
                    method: word(),
                    path: word(),
                    range: None,
                });
            } else if let (Some(range), Some(asked)) = (value("range:"), &mut asked) {
                asked.range = Some(range);
            } else if let Some(value) = value("content-length:") {
                len = value.parse().unwrap_or(0);
            } else if value("host:").is_some() {
                line = format!("Host: {}\r\n", self.door);
            } else if value("connection:").is_some() {
                continue;
            } else if line.trim().is_empty() {
                head.push_str("Connection: close\r\n\r\n");
                break;
            }
            head.push_str(&line);
        }
        let most = asked.map_or(u64::MAX, |asked| self.write_down(asked));
        let (from_door, mut to_door) = TcpStream::connect(self.door).await?.into_split();
        to_door.write_all(head.as_bytes()).await?;
        copy(&mut from_client.take(len), &mut to_door).await?;
        copy(&mut from_door.take(most), &mut to_client).await?;
        to_client.shutdown().await
    }

    /// Returns after how many bytes the answer breaks off.
    fn write_down(&self, asked: Asked) -> u64 {
        let mut cut = self.cut.lock().unwrap();
        let hit = cut.take_if(|cut| asked.is_for_bytes() && asked.path.ends_with(&cut.end));
        self.asked.lock().unwrap().push(asked);
        hit.map_or(u64::MAX, |cut| cut.after)
    }
}
