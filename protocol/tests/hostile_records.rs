//! Records as hostile peers make them: each is refused by the error that names its fault. One table a format.

use crate::fixture::key;
use ed25519_dalek::Signer;
use protocol::ratchet::Decision;
use protocol::wire::KnownError;
use protocol::{CardError, DenylistError, KeyError, ReleaseError, WireError};

macro_rules! row {
    ($what:literal, $refused:expr, $wanted:pat $(if $guard:expr)?) => {
        ($what, $refused, |refused| matches!(refused, $wanted $(if $guard)?))
    };
}

mod denylists;
mod messages;
mod releases;
mod statements;
mod summaries;

/// How a record was refused.
#[derive(Debug)]
enum Refused {
    Release(ReleaseError),
    Ratchet(Decision),
    Card(CardError),
    Key(KeyError),
    Wire(WireError),
    Known(KnownError),
    List(DenylistError),
}

/// One row: what it is, what became of it, and whether that is its own error.
type Row = (&'static str, Refused, fn(&Refused) -> bool);

/// Signs any JSON under any domain.
fn forge(domain: &str, json: &str, signer: u8) -> Vec<u8> {
    let signed = [domain.as_bytes(), json.as_bytes()].concat();
    [&key(signer).sign(&signed).to_bytes(), json.as_bytes()].concat()
}

fn check(rows: Vec<Row>, least: usize) {
    assert!(rows.len() >= least, "{}", rows.len());
    for (what, refused, own) in rows {
        assert!(own(&refused), "{what}: {refused:?}");
    }
}
