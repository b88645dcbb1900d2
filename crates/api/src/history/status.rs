//! How a delivery stands, in the words that clients know.

use fanfare_core::Settlement;
use fanfare_history::Standing;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Success,
    Pending,
    Fail,
    Sending,
    Canceled,
}

/// What `status` may be in a query.
pub(crate) const STATUSES: [(&str, Status); 10] = [
    ("0", Status::Success),
    ("1", Status::Pending),
    ("2", Status::Fail),
    ("3", Status::Sending),
    ("4", Status::Canceled),
    ("success", Status::Success),
    ("pending", Status::Pending),
    ("fail", Status::Fail),
    ("sending", Status::Sending),
    ("canceled", Status::Canceled),
];

impl Status {
    pub(crate) const fn of(standing: Standing) -> Self {
        match standing {
            Standing::Pending => Self::Pending,
            Standing::Retrying => Self::Sending,
            Standing::Settled(Settlement::Delivered | Settlement::Acknowledged) => Self::Success,
            Standing::Settled(Settlement::Cancelled) => Self::Canceled,
            Standing::Settled(
                Settlement::Exhausted
                | Settlement::Rejected
                | Settlement::Expired
                | Settlement::IdempotencyConflict
                | Settlement::Purged,
            ) => Self::Fail,
        }
    }

    /// All that are shown as this.
    pub(crate) fn standings(self) -> Vec<Standing> {
        Standing::ALL.into_iter().filter(|standing| Self::of(*standing) == self).collect()
    }

    /// For a client that may be too old to know that deliveries are cancelled: as Svix shows it such a one.
    pub(crate) const fn shown(self, expanded: bool) -> Self {
        match self {
            Self::Canceled if !expanded => Self::Success,
            status => status,
        }
    }

    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Pending => 1,
            Self::Fail => 2,
            Self::Sending => 3,
            Self::Canceled => 4,
        }
    }

    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Pending => "pending",
            Self::Fail => "fail",
            Self::Sending => "sending",
            Self::Canceled => "canceled",
        }
    }
}

/// The same in our own words: `pending`, `retrying`, or how it was settled.
pub(crate) const fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::Pending => "pending",
        Standing::Retrying => "retrying",
        Standing::Settled(settlement) => settlement.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standing_is_shown_as_one_status() {
        let statuses = STATUSES.map(|(_, status)| status);
        let shown: usize = statuses[..5].iter().map(|status| status.standings().len()).sum();
        assert_eq!(shown, Standing::ALL.len());
        for (word, status) in STATUSES {
            assert!(word == status.text() || word == status.number().to_string(), "{word}");
        }
    }
}
