//! Names that clients choose: uids, event types, channels.

use fanfare_core::limits;

use crate::Fields;

/// What [`is_name`] takes, in words.
pub const NAME_FORM: &str = "letters, digits, `-`, `_` and `.`";

/// Whether `text` is one to `max_characters` letters, digits, `-`, `_` and `.`.
pub fn is_name(text: &str, max_characters: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=max_characters).contains(&text.len()) && text.bytes().all(allowed)
}

/// Notes what is wrong with a uid: it stands where an id may stand, so it must not look like one.
pub fn check_uid(fields: &mut Fields, uid: &str, id_prefix: &str) {
    let max = limits::UID_CHARACTERS;
    fields.check(is_name(uid, max), "uid", format_args!("must be 1 to {max} characters: {NAME_FORM}"));
    fields.check(
        !uid.starts_with(id_prefix),
        "uid",
        format_args!("must not start with `{id_prefix}`, as ids do"),
    );
}
