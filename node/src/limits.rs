//! Every bound of this crate: a name, a unit and a reason. What concerns the formats is in `protocol::limits`.

use std::time::Duration;

/// Largest blob kept inside the blob database, in bytes. Above it a file of its own costs less than a row; at and below it
/// a row costs less than a file. It is also what iroh-blobs puts inline.
pub const SMALL_LEN: u64 = 16 * 1024;

/// Largest blob that has no outboard file, in bytes: one shard. To verify any part of it, all of it is hashed anyway.
pub const WHOLE_LEN: u64 = protocol::SHARD_LEN;

/// Bytes asked for in one request. Long enough that the round trip costs little, short enough that a slow peer is found out.
pub const REQUEST_LEN: u64 = 16 * 1024 * 1024;

/// Blobs asked for in one request of many. At 32 bytes a hash the request stays far under 1 MiB.
pub const MANY_BLOBS: usize = 1_024;

/// Bytes of blobs asked for in one request of many.
pub const MANY_LEN: u64 = 8 * 1024 * 1024;

/// Largest request we read from a peer, in bytes: the bound of the iroh-blobs get protocol.
pub const REQUEST_FRAME_LEN: usize = 1024 * 1024;

/// Bytes of a file read at once, at most.
pub const READ_LEN_MAX: u64 = 8 * 1024 * 1024;

/// Whole files of a running fetch that wait to be made durable, at most: each holds two file descriptors.
pub const SETTLE_BLOBS: usize = 64;

/// Bytes of a running fetch that wait to be made durable, at most, while there are whole files or rows among them.
pub const SETTLE_LEN: u64 = 512 * 1024 * 1024;

/// Bytes of a running fetch after which what came is written to disk in the background.
pub const FLUSH_LEN: u64 = 32 * 1024 * 1024;

/// Bytes of rows of a running fetch that wait to be made durable, at most: a crash costs these, and nothing else.
pub const ROWS_LOOSE_MAX: u64 = 8 * 1024 * 1024;

/// Bytes of small blobs put into the database in one go.
pub const ROWS_LEN: u64 = 1024 * 1024;

/// Bytes verified and written, or read and verified, in one go on the way between a stream and a file.
pub const PIECE_LEN: usize = 1024 * 1024;

/// Peers that one manifest is shared with at once, and asked for it: each costs a few bits a shard, and is told of each shard
/// that lands.
pub const MEMBERS_MAX: usize = 64;

/// Providers asked of the DHT for one manifest.
pub const PROVIDERS_ASKED: usize = 64;

/// How long a request may go without a verified byte before another provider gets it.
pub const STALL: Duration = Duration::from_secs(10);

/// How long a peer may take to accept more of an answer we send before we give its stream up.
pub const SEND_STALL: Duration = Duration::from_secs(30);

/// How long we wait for a peer's small answer (a release, what it has).
pub const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// How long a fetch without any provider looks for one before it gives up.
pub const PROVIDER_WAIT: Duration = Duration::from_secs(30);

/// Pause between two searches for providers.
pub const SEARCH_PAUSE: Duration = Duration::from_secs(3);

/// Failures (resets, refusals, stalls) after which a provider is not asked again in this fetch.
pub const STRIKES_MAX: u32 = 4;

/// Fewest answers sent at once while more are wanted: below that a few slow peers would idle a fast line.
pub const SLOTS_MIN: usize = 8;

/// Most answers sent at once, unless the user says another number.
pub const SLOTS_MAX: usize = 32;

/// Most upload slots that a user may choose: as many answers as may be alive.
pub const UPLOAD_SLOTS_MAX: usize = ANSWERS_MAX;

/// Answers that have begun and are not over, in all. Each holds two pieces of 1 MiB.
pub const ANSWERS_MAX: usize = 64;

/// Requests of one peer that wait or are answered; a stream beyond that is closed.
pub const SERVED_PER_PEER: usize = 12;

/// Requests of all peers that wait or are answered; a stream beyond that is closed.
pub const SERVED_MAX: usize = 512;

/// Bytes that an answer sends before its slot goes to who waits, if somebody does: twice what a request of ours asks for.
pub const TURN_LEN: u64 = 2 * REQUEST_LEN;

/// How long a peer may accept nothing of an answer before another one gets its slot.
pub const SLOT_STALL: Duration = Duration::from_secs(1);

/// Largest part of an answer that is made in memory for a request that is not aligned to groups, in bytes.
pub const UNALIGNED_LEN: u64 = 16 * 1024 * 1024;

/// From this many files on, one `syncfs` replaces an `fsync` each.
pub const SYNC_EACH_MAX: usize = 16;

/// Bytes kept free on the disk when room is checked for a fetch or a copy.
pub const FREE_FLOOR: u64 = 64 * 1024 * 1024;

/// Default life of a release, in days.
pub const RELEASE_DAYS: u32 = 365;
