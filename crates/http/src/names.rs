//! Names that clients choose: uids, event types, channels.

use fanfare_core::{Id, Kind, ParseError, limits};

use crate::Fields;

/// What [`is_name`] takes, in words.
pub const NAME_FORM: &str = "letters, digits, `-`, `_` and `.`";

/// Whether `text` is one to `max_characters` letters, digits, `-`, `_` and `.`.
pub fn is_name(text: &str, max_characters: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=max_characters).contains(&text.len()) && text.bytes().all(allowed)
}

/// Notes what is wrong with a uid of a thing of kind `K`: it stands where an id may stand, so it must not look like one,
/// unless it is one: what was moved here from elsewhere is still called by the id that it had there. Whether something
/// here has that id is for the reducer to tell.
pub fn check_uid<K: Kind>(fields: &mut Fields, uid: &str, id: fn(&str) -> Result<Id<K>, ParseError>) {
    let max = limits::UID_CHARACTERS;
    fields.check(is_name(uid, max), "uid", format_args!("must be 1 to {max} characters: {NAME_FORM}"));
    let prefix = K::PREFIX;
    fields.check(
        !uid.starts_with(prefix) || id(uid).is_ok(),
        "uid",
        format_args!("must not start with `{prefix}`, as ids do, unless it is a whole one, had elsewhere"),
    );
}
