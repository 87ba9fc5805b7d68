//! Names of publishers, repos and kinds: what is one, and what is not.

use crate::fixture::publisher;
use protocol::{
    Alias, AliasError, GitId, Hash, HashError, Kind, Publisher, PublisherError, RepoId, RepoIdError,
    RepoName, RepoNameError, RepoRef, RepoRefError, Sha256,
};

#[test]
fn publisher_survives_only_in_its_one_spelling() {
    let id = publisher(7).to_string();
    assert_eq!(id.len(), 52);
    assert_eq!(id.parse(), Ok(publisher(7)));
    let parse = |text: &str| text.parse::<Publisher>().unwrap_err();
    assert_eq!(parse(&id[1..]), PublisherError::Length { found: 51 });
    assert_eq!(parse(&format!("{id}y")), PublisherError::Length { found: 53 });
    assert_eq!(parse(""), PublisherError::Length { found: 0 });
    let first_letter = id.find(|c: char| c.is_ascii_lowercase()).unwrap();
    assert_eq!(
        parse(&id.to_uppercase()),
        PublisherError::Encoding { at: first_letter }
    );
    // z-base-32 has no `l`, `v`, `0` and `2`.
    for strange in ["l", "v", "0", "2", "=", " ", "é"] {
        let text = format!("{}{strange}", &id[..52 - strange.len()]);
        assert!(matches!(parse(&text), PublisherError::Encoding { .. }), "{text}");
    }
    // The last character carries one bit; the other spellings of it have spare bits set.
    let mut spellings = 0;
    for last in "ybndrfg8ejkmcpqxot1uwisza345h769".chars() {
        let text = format!("{}{last}", &id[..51]);
        spellings += u32::from(!matches!(
            text.parse::<Publisher>(),
            Err(PublisherError::Encoding { .. })
        ));
    }
    assert_eq!(spellings, 2);
}

#[test]
fn publisher_is_a_sound_key() {
    // Every point of small order, in every encoding that a lax reader takes.
    let weak = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    ];
    let bytes = |hex: &str| {
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
        <[u8; 32]>::try_from(bytes).unwrap()
    };
    for hex in weak {
        assert_eq!(
            Publisher::from_bytes(bytes(hex)),
            Err(PublisherError::Weak),
            "{hex}"
        );
    }
    let no_key = [
        // Not on the curve.
        "0200000000000000000000000000000000000000000000000000000000000000",
        "0200000000000000000000000000000000000000000000000000000000000080",
        // 2^255 - 19 + 3, which a lax reader takes for y = 3; and the largest numbers there are.
        "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ];
    for hex in no_key {
        assert_eq!(
            Publisher::from_bytes(bytes(hex)),
            Err(PublisherError::NotAKey),
            "{hex}"
        );
    }
    for number in 0..=255 {
        let publisher = publisher(number);
        assert_eq!(Publisher::from_bytes(*publisher.as_bytes()), Ok(publisher));
        assert_eq!(publisher.verifying_key().as_bytes(), publisher.as_bytes());
    }
}

#[test]
fn publisher_is_checked_wherever_it_comes_from() {
    let mut weak = [0; 32];
    weak[0] = 1;
    assert!(postcard::from_bytes::<Publisher>(&weak).is_err());
    assert!(serde_json::from_str::<Publisher>(&format!("{:?}", "y".repeat(52))).is_err());
    assert!(postcard::from_bytes::<Publisher>(publisher(1).as_bytes()).is_ok());
}

#[test]
fn repo_names_are_those_that_the_hub_takes() {
    for name in [
        "a",
        "A",
        "0",
        "_",
        "llama-3.1",
        "all-MiniLM-L6-v2",
        "_x_",
        "a.b",
        "a_.b",
        "x.gitx",
        "git",
        &"n".repeat(96),
    ] {
        assert!(RepoName::new(name).is_ok(), "{name}");
    }
    let wrong = |name: &str| RepoName::new(name).unwrap_err();
    assert_eq!(wrong(""), RepoNameError::Length { len: 0 });
    assert_eq!(wrong(&"n".repeat(97)), RepoNameError::Length { len: 97 });
    for (name, found) in [
        ("a b", ' '),
        ("a/b", '/'),
        ("ä", 'ä'),
        ("a\u{0}", '\0'),
        ("a:b", ':'),
        ("a%", '%'),
        ("a\\", '\\'),
    ] {
        assert_eq!(wrong(name), RepoNameError::Character { found });
    }
    for name in [".", "..", ".a", "a.", "-a", "a-", "-", "..."] {
        assert!(matches!(wrong(name), RepoNameError::Edge { .. }), "{name}");
    }
    for name in ["a..b", "a--b", "a...b"] {
        assert!(matches!(wrong(name), RepoNameError::Doubled { .. }), "{name}");
    }
    assert!(matches!(wrong("a.git"), RepoNameError::Git { .. }));
}

#[test]
fn alias_cannot_be_taken_for_anything_else() {
    for alias in [
        "meta",
        "a",
        "0",
        "my_friend.2",
        "blake2",
        "blake3x",
        &"a".repeat(39),
    ] {
        assert!(Alias::new(alias).is_ok(), "{alias}");
    }
    let wrong = |alias: &str| Alias::new(alias).unwrap_err();
    assert_eq!(wrong(&"a".repeat(40)), AliasError::Length { len: 40 });
    assert_eq!(wrong(&publisher(1).to_string()), AliasError::Length { len: 52 });
    assert!(matches!(wrong("Meta"), AliasError::UpperCase { .. }));
    assert!(matches!(wrong("blake3"), AliasError::Taken { .. }));
    assert!(matches!(
        wrong("a b"),
        AliasError::Name(RepoNameError::Character { .. })
    ));
    assert!(matches!(
        wrong(""),
        AliasError::Name(RepoNameError::Length { len: 0 })
    ));
}

#[test]
fn reference_is_one_of_three() {
    let parse = |text: &str| text.parse::<RepoRef>();
    let id = publisher(1).to_string();
    assert!(matches!(parse(&format!("{id}/m")), Ok(RepoRef::Id(_))));
    assert!(matches!(parse("meta/llama"), Ok(RepoRef::Aliased { .. })));
    let hash = Hash::of(b"x");
    assert_eq!(parse(&format!("blake3/{hash}")), Ok(RepoRef::Content(hash)));
    assert!(matches!(parse("llama"), Err(RepoRefError::NoSlash { .. })));
    assert!(matches!(parse(""), Err(RepoRefError::NoSlash { .. })));
    assert!(matches!(parse("a/b/c"), Err(RepoRefError::Name(_))));
    assert!(matches!(parse("/b"), Err(RepoRefError::Alias(_))));
    assert!(matches!(parse("a/"), Err(RepoRefError::Name(_))));
    assert!(matches!(
        parse("Qwen/Qwen3"),
        Err(RepoRefError::Alias(AliasError::UpperCase { .. }))
    ));
    assert!(matches!(parse("blake3/x"), Err(RepoRefError::Hash(_))));
    assert!(matches!(
        parse(&format!("blake3/{}", hash.to_string().to_uppercase())),
        Err(RepoRefError::Hash(_))
    ));
    assert!(matches!(
        parse(&format!("{}/m", "y".repeat(52))),
        Err(RepoRefError::Publisher(_))
    ));
    assert!(matches!("x".parse::<RepoId>(), Err(RepoIdError::NoSlash)));
    assert!(matches!(
        "meta/llama".parse::<RepoId>(),
        Err(RepoIdError::Publisher(_))
    ));
    assert!(matches!(
        format!("{id}/.x").parse::<RepoId>(),
        Err(RepoIdError::Name(_))
    ));
}

#[test]
fn kinds_are_three_words() {
    for kind in [Kind::Model, Kind::Dataset, Kind::Space] {
        assert_eq!(kind.to_string().parse(), Ok(kind));
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
    }
    for text in ["", "Model", "models", "model "] {
        assert_eq!(text.parse::<Kind>().unwrap_err().found, text);
    }
}

#[test]
fn digests_are_lower_case_hex() {
    let hash = Hash::of(b"");
    assert_eq!(hash, Hash::EMPTY);
    assert_eq!(
        hash.to_string(),
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    );
    assert_eq!(hash.short(), "af1349b9f5");
    assert_eq!(Hash::from(blake3::hash(b"x")), Hash::of(b"x"));
    assert_eq!(blake3::Hash::from(Hash::of(b"x")), blake3::hash(b"x"));
    assert_eq!(
        GitId::EMPTY.to_string(),
        "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    );
    assert_eq!(Sha256::EMPTY.short(), "e3b0c44298");
    let upper = hash.to_string().to_uppercase();
    assert_eq!(upper.parse::<Hash>(), Err(HashError::Digit { at: 0 }));
    assert_eq!(
        "".parse::<GitId>(),
        Err(HashError::Length { wanted: 40, found: 0 })
    );
    let json = serde_json::to_string(&hash).unwrap();
    assert_eq!(serde_json::from_str::<Hash>(&json).unwrap(), hash);
    let binary = postcard::to_stdvec(&hash).unwrap();
    assert_eq!(binary, hash.as_bytes());
    assert_eq!(format!("{hash:?}"), format!("Hash({hash})"));
}
