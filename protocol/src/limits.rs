//! Every bound of the formats: its name, its unit, its reason. Nothing else in the crate holds a number of this kind.

/// The version of every format in this crate. A newer one is refused by a typed error that names it.
pub const VERSION: u64 = 1;

/// Largest manifest, in bytes of its encoding: 100,000 files at about 320 bytes an entry.
pub const MANIFEST_LEN_MAX: usize = 32 * 1024 * 1024;

/// Most files in one manifest: what one folder walk, one screen and one hash sequence bear.
pub const FILES_MAX: usize = 100_000;

/// Largest blob, in bytes (4 TiB): one bit a shard is then 512 KiB, so that a peer tells what it has of a file in one message.
pub const BLOB_LEN_MAX: u64 = 1 << 42;

/// Largest sum of the sizes in one manifest, in bytes: the integers that every JSON reader represents exactly.
pub const TOTAL_LEN_MAX: u64 = 1 << 53;

/// Longest path in a manifest, in bytes of UTF-8: fits the path limit of every platform below a short folder name.
pub const PATH_LEN_MAX: usize = 1024;

/// Longest component of a path, in bytes of UTF-8: what ext4, APFS and NTFS take.
pub const COMPONENT_LEN_MAX: usize = 255;

/// Most components of a path: deeper trees are droppings of a tool, and recursion over them is bounded by this.
pub const PATH_DEPTH_MAX: usize = 16;

/// Largest file that the Hub keeps in git and not in large-file storage, in bytes.
pub const GIT_FILE_LEN_MAX: u64 = 10 * 1024 * 1024;

/// Longest name of a repo, in bytes: the Hub's own limit, whose clients check it.
pub const REPO_NAME_LEN_MAX: usize = 96;

/// Longest alias of a publisher, in bytes: shorter than the 52 characters of a publisher's id, so that no alias looks like one.
pub const ALIAS_LEN_MAX: usize = 39;

/// Largest signed release, in bytes: one DHT record, with room for the longest names and an upstream.
pub const RELEASE_LEN_MAX: usize = 8 * 1024;

/// Longest life of a release, in seconds (400 days): a year and the time to notice that it ran out.
pub const RELEASE_LIFE_MAX: u64 = 400 * 24 * 60 * 60;

/// Largest number in a release (`seq`, `issued`, `expires`): the integers that every JSON reader represents exactly.
pub const RELEASE_NUMBER_MAX: u64 = 1 << 53;

/// Largest step of `seq` from one release to the next that a node follows: a stolen key cannot use up the numbers at once.
pub const SEQ_JUMP_MAX: u64 = 1 << 32;

/// Largest signed attestation, in bytes: three challenges of 32 numbers take 2,300, everything else 1,100.
pub const ATTESTATION_LEN_MAX: usize = 4 * 1024;

/// Most challenges in an attestation: the attester's own, and two of others that it repeated.
pub const CHALLENGES_MAX: usize = 3;

/// Most numbers that sum up a challenge: two for each of 16 prompts.
pub const CHALLENGE_NUMBERS_MAX: usize = 32;

/// Longest name of a runtime in an attestation, in bytes: a program, its version, and how it computes.
pub const ATTESTATION_RUNTIME_LEN_MAX: usize = 64;

/// Longest list of a processor's features in an attestation, in bytes: thirty words.
pub const ATTESTATION_FEATURES_LEN_MAX: usize = 256;

/// Most attestations in one answer: more keys than a user compares, in a quarter of a frame.
pub const ATTESTATIONS_TOLD_MAX: usize = 64;

/// Most attestations in one file: more than anybody carries by hand, and few enough for the body of one request.
pub const BUNDLED_MAX: usize = 128;

/// Largest file of attestations, in bytes: [`BUNDLED_MAX`] of [`ATTESTATION_LEN_MAX`], their lengths and a heading.
pub const BUNDLE_LEN_MAX: usize = BUNDLED_MAX * (ATTESTATION_LEN_MAX + 2) + 64;

/// How far a publisher's clock may be ahead of ours, in seconds.
pub const CLOCK_SKEW_MAX: u64 = 10 * 60;

/// Largest summary of a card, in bytes of its encoding: ten thousand of them are 20 MB on the way between two nodes, and one is a screen.
pub const CARD_LEN_MAX: usize = 2 * 1024;

/// Most base models in a summary: a merge of more names the most important ones.
pub const CARD_BASES_MAX: usize = 4;

/// Most formats in a summary: more than one repo has.
pub const CARD_FORMATS_MAX: usize = 8;

/// Most languages in a summary: what 2 KiB have room for beside a description.
pub const CARD_LANGUAGES_MAX: usize = 64;

/// Most tags in a summary: the Hub's fullest cards have about as many.
pub const CARD_TAGS_MAX: usize = 64;

/// Longest description in a summary, in bytes: three lines of a terminal.
pub const CARD_DESCRIPTION_LEN_MAX: usize = 512;

/// Longest tag in a summary, in bytes: `dataset:` and a name of the Hub still fit.
pub const CARD_TAG_LEN_MAX: usize = 96;

/// Longest other word in a summary (its task, library, licence, relation, dtype, one of its formats or languages), in bytes: the
/// longest of the Hub's own has 40.
pub const CARD_WORD_LEN_MAX: usize = 64;

/// Largest signed key statement, in bytes: two signatures and three keys are 400.
pub const KEY_STATEMENT_LEN_MAX: usize = 1024;

/// Most statements that are kept, told or carried about one key: two introductions, two revocations, two rotations, two recoveries, and four
/// recoveries and four revocations that nobody can judge yet.
pub const KEY_STATEMENTS_MAX: usize = 16;

/// Most statements of a kind that are kept while nobody knows whether their signer may make them.
pub const KEY_STATEMENTS_PENDING_MAX: usize = 4;

/// Most keys that a publisher may have gone on to, one after the other: one a year for longer than most projects live, and a bound for who follows.
pub const KEY_STEPS_MAX: usize = 16;

/// Largest file of key statements, in bytes: [`KEY_STATEMENTS_MAX`] of [`KEY_STATEMENT_LEN_MAX`], their lengths and a heading.
pub const KEY_BUNDLE_LEN_MAX: usize = KEY_STATEMENTS_MAX * (KEY_STATEMENT_LEN_MAX + 2) + 64;

/// Largest denylist, in bytes: [`DENIALS_MAX`] entries of 200 bytes.
pub const DENYLIST_LEN_MAX: usize = 4 * 1024 * 1024;

/// Most entries of a denylist: what a node looks through in memory for each list it follows.
pub const DENIALS_MAX: usize = 20_000;

/// Longest reason in a denylist, in bytes: two lines of a terminal.
pub const DENIAL_REASON_LEN_MAX: usize = 200;

/// Most ids of releases in one message: 32 KiB, and what the answer's frame has room for.
pub const IDS_MAX: usize = 1024;

/// Publishers to whose releases one reconciliation is confined, at most.
pub const SCOPE_MAX: usize = 64;

/// Largest message of a reconciliation, in bytes: 10,000 ids and their ranges, and half a frame.
pub const RECONCILE_LEN_MAX: usize = 512 * 1024;

/// Longest host name of an upstream hub, in bytes: the limit of the DNS.
pub const UPSTREAM_HUB_LEN_MAX: usize = 253;

/// Longest name of an upstream repo, in bytes: an owner and a name of 96 each, and the slash.
pub const UPSTREAM_REPO_LEN_MAX: usize = 193;

/// Most addresses in a ticket: several providers with several addresses each, in a text that can still be pasted.
pub const TICKET_ADDRESSES_MAX: usize = 16;

/// Longest address in a ticket or of a peer that is named, in bytes of its text: a relayed address with two peer ids is about 150.
pub const ADDRESS_LEN_MAX: usize = 256;

/// Longest ticket, in bytes of its text: 16 addresses of 256 bytes, a repo and a hash are 6,900 in base32.
pub const TICKET_LEN_MAX: usize = 8 * 1024;

/// Largest proof, in bytes: the largest manifest, and 96 MiB of chaining values, which is 3 TiB of content.
pub const PROOF_LEN_MAX: usize = 128 * 1024 * 1024;

/// Largest body of a frame, in bytes: twice the longest message, which has [`BITS_LEN_MAX`] of bits.
pub const FRAME_LEN_MAX: usize = 1024 * 1024;

/// Most shards of all blobs of a manifest together (8 TiB): a bit for each is 1 MiB, which a node can hold for every peer. The
/// swarm does not carry a larger manifest.
pub const SHARDS_MAX: u32 = 8 * 1024 * 1024;

/// Most bytes of bits in one message: a bit for each shard of the largest blob. [`SHARDS_MAX`] take two messages.
pub const BITS_LEN_MAX: usize = 512 * 1024;

/// Most runs of shards in one message: 40 KiB at the most, and what lands in a moment, however scattered.
pub const RUNS_MAX: usize = 4096;

/// Most peers named in one message: more than a node dials at once.
pub const HINTS_MAX: usize = 32;

/// Most addresses of a peer that is named: of each kind one at home, one outside, and one relayed.
pub const HINT_ADDRESSES_MAX: usize = 8;

/// Longest peer id, in bytes of libp2p's binary form: that of an Ed25519 key has 38.
pub const PEER_ID_LEN_MAX: usize = 64;
