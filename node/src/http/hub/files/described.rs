//! What is said of a file before its bytes: the headers that clients know it by.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use headers::{AcceptRanges, ETag, HeaderMapExt};
use mime_guess::{Mime, mime};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use protocol::FileEntry;

use super::super::digests::{etag, is_lfs};
use super::super::problem::{REPO_COMMIT, header_text};
use super::super::revisions::Revision;

const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

/// What stays as it is in `filename*`: the attribute characters of RFC 8187.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// What clients know a file's content by, as an entity tag.
pub(super) fn tag(file: &FileEntry) -> ETag {
    let quoted = format!("\"{}\"", etag(file));
    quoted.parse().expect("digits between quotes are a tag")
}

/// The headers of a file, whatever is sent of it; those that tell its size are the caller's to add.
pub(super) fn headers(revision: &Revision, file: &FileEntry) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let tag = tag(file);
    headers.insert(REPO_COMMIT, header_text(&revision.commit));
    headers.typed_insert(tag.clone());
    headers.typed_insert(AcceptRanges::bytes());
    headers.insert(header::CONTENT_TYPE, content_type(file.path.as_str()));
    headers.insert(header::CONTENT_DISPOSITION, disposition(file.path.as_str()));
    // Whatever a browser makes of it: it runs nothing, and not as one of our pages.
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox; default-src 'none'"),
    );
    if is_lfs(file)
        && let Some(tag) = headers.get(header::ETAG).cloned()
    {
        headers.insert(LINKED_ETAG, tag);
    }
    headers
}

/// Adds the headers that tell a file's size.
pub(super) fn add_size(headers: &mut HeaderMap, file: &FileEntry) {
    headers.insert(header::CONTENT_LENGTH, file.size.into());
    if is_lfs(file) {
        headers.insert(LINKED_SIZE, file.size.into());
    }
}

/// A type by the name's ending, and never one that a browser runs: what is text is plain text, and images are only those that
/// hold no scripts.
fn content_type(path: &str) -> HeaderValue {
    let mime = mime_guess::from_path(path).first_or_octet_stream();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    match (mime.type_(), mime.subtype(), mime.suffix()) {
        (_, _, Some(_)) | (mime::TEXT, _, _) | (_, mime::JAVASCRIPT | mime::XML | mime::HTML, _) => plain,
        (mime::IMAGE | mime::AUDIO | mime::VIDEO, _, _) | (_, mime::JSON, _) => value(&mime),
        _ => HeaderValue::from_static("application/octet-stream"),
    }
}

fn value(mime: &Mime) -> HeaderValue {
    HeaderValue::from_str(mime.as_ref()).expect("a type is visible ASCII")
}

/// The name that a saved file gets: without its folders, and once more in ASCII for whoever reads no other.
fn disposition(path: &str) -> HeaderValue {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let plain = |character: char| match character {
        '"' | '\\' => '_',
        ' '..='~' => character,
        _ => '_',
    };
    let ascii: String = name.chars().map(plain).collect();
    let encoded = utf8_percent_encode(name, PLAIN);
    let value = format!("inline; filename*=UTF-8''{encoded}; filename=\"{ascii}\";");
    HeaderValue::from_str(&value).expect("visible ASCII is a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_type_is_one_that_a_browser_runs() {
        let table = [
            ("index.html", "text/plain; charset=utf-8"),
            ("a/b.xhtml", "text/plain; charset=utf-8"),
            ("a.svg", "text/plain; charset=utf-8"),
            ("a.js", "text/plain; charset=utf-8"),
            ("a.xml", "text/plain; charset=utf-8"),
            ("README.md", "text/plain; charset=utf-8"),
            ("a.png", "image/png"),
            ("a.wav", "audio/wav"),
            ("config.json", "application/json"),
            ("a.pdf", "application/octet-stream"),
            ("a.swf", "application/octet-stream"),
            ("model.safetensors", "application/octet-stream"),
            ("LICENSE", "application/octet-stream"),
        ];
        for (path, expected) in table {
            assert_eq!(content_type(path), expected, "{path}");
        }
    }

    #[test]
    fn name_of_a_saved_file_cannot_say_more_than_a_name() {
        let table = [
            (
                "a/b c.json",
                "inline; filename*=UTF-8''b%20c.json; filename=\"b c.json\";",
            ),
            (
                "é\"; x=\".txt",
                "inline; filename*=UTF-8''%C3%A9%22%3B%20x%3D%22.txt; filename=\"__; x=_.txt\";",
            ),
        ];
        for (path, expected) in table {
            assert_eq!(disposition(path), expected, "{path}");
        }
    }
}
