//! A fingerprint as 32 hexadecimal digits in JSON.

use std::borrow::Cow;

use fanfare_core::Fingerprint;
use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(crate) fn serialize<S: Serializer>(print: &Fingerprint, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(print.0)))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fingerprint, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    let number = u128::from_str_radix(&text, 16).map_err(D::Error::custom)?;
    Ok(Fingerprint(number.to_be_bytes()))
}
