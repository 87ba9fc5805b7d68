//! Texts that strangers write and people read: which characters may stand in them, and how a text of anybody is made into one that holds to it.

use unicode_normalization::UnicodeNormalization;

/// Why a text may not stand where people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The text has a control character (a line break among them) or a line separator.
    #[error("text has the control character {found:?}")]
    Control {
        /// The first such character.
        found: char,
    },
    /// The text has a character that turns the direction of writing around.
    #[error("text has the direction mark {found:?}")]
    Bidi {
        /// The first such character.
        found: char,
    },
    /// The text has a character that cannot be seen.
    #[error("text has the invisible character {found:?}")]
    Invisible {
        /// The first such character.
        found: char,
    },
    /// The text is not in Unicode's normal form C.
    #[error("text is not in normal form C")]
    NotNfc,
}

/// Checks a text, in time linear in its length, which is the caller's to bound.
pub(crate) fn check(text: &str) -> Result<(), TextError> {
    text.chars().try_for_each(check_char)?;
    if !text.is_ascii() && !unicode_normalization::is_nfc(text) {
        return Err(TextError::NotNfc);
    }
    Ok(())
}

/// Makes one line of a text that [`check`] accepts: what it refuses is left out, or a space where it broke a line; spaces in a row are one.
pub(crate) fn clean(text: &str) -> String {
    let seen: String = text
        .chars()
        .filter_map(|c| match check_char(c) {
            Ok(()) => Some(c),
            Err(TextError::Control { .. }) => Some(' '),
            Err(_) => None,
        })
        .collect();
    let words: Vec<&str> = seen.split_whitespace().collect();
    words.join(" ").nfc().collect()
}

/// Cuts a text after as many whole characters as fit into `max` bytes; no space stays at its end.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().trim_end()
}

pub(crate) fn check_char(found: char) -> Result<(), TextError> {
    match found {
        _ if is_control(found) => Err(TextError::Control { found }),
        _ if is_bidi(found) => Err(TextError::Bidi { found }),
        _ if is_invisible(found) => Err(TextError::Invisible { found }),
        _ => Ok(()),
    }
}

/// Unicode's category Cc, and its separators of lines and paragraphs.
pub(crate) fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Unicode's `Bidi_Control`.
pub(crate) fn is_bidi(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Unicode's `Default_Ignorable_Code_Point` and the annotation marks: drawn as nothing, and ignored by some file systems when they
/// compare names.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}
