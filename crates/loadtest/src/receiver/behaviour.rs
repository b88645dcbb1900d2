//! How an endpoint answers: well, or in one of the ways in which real endpoints go wrong.

use serde::{Deserialize, Serialize};

use crate::payload::{NO_KEY, Stamp};

/// How an endpoint answers from now on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Behaviour {
    /// Wait before every answer.
    pub latency_ms: u64,
    /// Share of requests answered 500, drawn anew for every request.
    pub fail_fraction: f64,
    /// Share of requests never answered, drawn anew for every request.
    pub hang_fraction: f64,
    /// Messages that are always refused; the first rule that fits decides.
    pub poison: Vec<Poison>,
    /// The answer to all other requests.
    pub answer: Answer,
}

/// Messages that are always answered with the same error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Poison {
    pub status: u16,
    /// Only messages of the application from this number on …
    pub from: u64,
    /// … and below this one.
    pub to: u64,
    /// Only messages with this ordering key.
    pub key: Option<u32>,
    /// Of those, this share: the same messages every time.
    pub fraction: f64,
}

/// What goes back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Answer {
    /// 200 with an empty body.
    #[default]
    Ok,
    /// A status, with `Retry-After` if that is given.
    Status { status: u16, retry_after_secs: Option<u64> },
    /// 302.
    Redirect { location: String },
    /// Nothing, ever; the connection stays open.
    Hang,
    /// The connection is reset.
    Reset,
    /// Bytes that are no HTTP.
    Garbage,
    /// So many informational answers (103), then 200.
    Informational { count: u32 },
    /// 200 and a body of this length.
    Huge { bytes: u64 },
    /// 200 and a body that comes byte by byte.
    Drip { interval_ms: u64 },
}

impl Default for Poison {
    fn default() -> Self {
        Self { status: 400, from: 0, to: u64::MAX, key: None, fraction: 1.0 }
    }
}

impl Poison {
    fn hits(&self, stamp: &Stamp) -> bool {
        let key_fits = self.key.is_none_or(|key| key == stamp.key && key != NO_KEY);
        (self.from..self.to).contains(&stamp.seq) && key_fits && share(stamp.seq) < self.fraction
    }
}

impl Behaviour {
    /// Answers every request 200 at once: nothing has to be looked up.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Whether everything sent to such an endpoint is taken in the end.
    pub fn takes_all(&self) -> bool {
        self.poison.is_empty() && self.answer == Answer::Ok
    }

    /// The answer to a message; `request` numbers the requests of the endpoint.
    pub fn answer_to(&self, stamp: &Stamp, request: u64) -> Answer {
        if let Some(poison) = self.poison.iter().find(|poison| poison.hits(stamp)) {
            return Answer::Status { status: poison.status, retry_after_secs: None };
        }
        let drawn = share(request);
        if drawn < self.fail_fraction {
            return Answer::Status { status: 500, retry_after_secs: None };
        }
        if drawn < self.fail_fraction + self.hang_fraction {
            return Answer::Hang;
        }
        self.answer.clone()
    }
}

impl Answer {
    /// Whether its status is 2xx.
    pub fn is_success(&self) -> bool {
        match self {
            Self::Ok | Self::Informational { .. } | Self::Huge { .. } | Self::Drip { .. } => true,
            Self::Status { status, .. } => (200..300).contains(status),
            Self::Redirect { .. } | Self::Hang | Self::Reset | Self::Garbage => false,
        }
    }
}

/// A number from 0 to 1 that looks random but is always the same for the same input (splitmix64).
#[allow(clippy::cast_precision_loss, reason = "53 bits are kept")]
fn share(of: u64) -> f64 {
    let mut mixed = of.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use fanfare_core::Timestamp;

    use super::*;

    fn stamp(seq: u64, key: u32) -> Stamp {
        let at = Timestamp::ZERO;
        Stamp { run: 1, stream: 0, application: 0, key, seq, floor: 0, key_seq: 0, key_floor: 0, at }
    }

    #[test]
    fn fractions_come_out() {
        let behaviour = Behaviour { fail_fraction: 0.02, hang_fraction: 0.01, ..Behaviour::default() };
        let answers: Vec<_> = (0..100_000).map(|n| behaviour.answer_to(&stamp(n, 0), n)).collect();
        let hung = answers.iter().filter(|answer| **answer == Answer::Hang).count();
        let ok = answers.iter().filter(|answer| answer.is_success()).count();
        assert!((800..1_200).contains(&hung) && (96_500..97_500).contains(&ok), "{hung} {ok}");
    }

    #[test]
    fn poison_is_always_the_same_messages() {
        let json = r#"{"poison": [{"from": 3, "to": 4}, {"key": 7, "status": 500, "fraction": 0.3}]}"#;
        let behaviour: Behaviour = serde_json::from_str(json).unwrap();
        assert!(!behaviour.takes_all() && !behaviour.is_plain());
        let refused: Vec<u64> =
            (0..100).filter(|&n| !behaviour.answer_to(&stamp(n, 0), 9 * n).is_success()).collect();
        assert_eq!(refused, [3]);
        let poisoned = |request| {
            let hits = (0..1_000).filter(|&n| !behaviour.answer_to(&stamp(n, 7), request).is_success());
            hits.collect::<Vec<_>>()
        };
        assert_eq!(poisoned(1), poisoned(2));
        assert!((250..350).contains(&poisoned(1).len()));
    }

    #[test]
    fn an_unknown_behaviour_is_refused() {
        assert!(serde_json::from_str::<Behaviour>(r#"{"latency": 3}"#).is_err());
        assert!(serde_json::from_str::<Behaviour>(r#"{"answer": {"kind": "explode"}}"#).is_err());
    }
}
