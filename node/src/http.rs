//! The doors on loopback: what a program of the same user may ask of a running node. Whoever knocks is judged first (`guard`),
//! and no page in a browser gets in.
//!
//! `hub` is the Hub's API, for every tool that knows the Hub; `openai` is OpenAI's, for every tool that talks to models; [`control`] is the control API under `/api/shoal/v1/`; [`messages`] is what it says; [`contact`] is how it is found.

pub mod contact;
pub mod control;
mod guard;
mod hint;
mod hub;
mod jobs;
mod listen;
pub mod messages;
mod openai;
mod request;
mod streaming;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use hint::hint;
pub use hub::token::{TokenError, UploadToken};

/// Largest body of a request, in bytes. The longest one lists globs and addresses.
pub const BODY_LEN_MAX: usize = 1024 * 1024;

/// Why the doors do not open.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address could be reached by others.
    #[error("{address} is not a loopback address, and the control API listens nowhere else")]
    NotLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The token and the port could not be left where the user's programs find them.
    #[error("{path} cannot be written")]
    Contact {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
