//! What a run says of itself.

use std::fmt;

use crate::{error::Error, limits};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    EventType,
    Application,
    Endpoint,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::EventType, Self::Application, Self::Endpoint];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EventType => "event type",
            Self::Application => "application",
            Self::Endpoint => "endpoint",
        })
    }
}

/// A thing, by what it is called at the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub kind: Kind,
    /// An endpoint's with its application's before it: `acme/orders`.
    pub name: String,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A thing that was not copied, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCopied {
    pub item: Item,
    pub reason: String,
}

/// What a run tells while it goes on. In a dry run: what it would do.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    Made(&'a Item),
    /// With the names of what is other than it was.
    Changed(&'a Item, &'a [String]),
    Equal(&'a Item),
    NotCopied(&'a NotCopied),
}

/// What became of the things of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub made: u64,
    pub changed: u64,
    pub equal: u64,
    /// Of which nothing was copied.
    pub failed: u64,
}

impl Counts {
    pub fn total(&self) -> u64 {
        self.made + self.changed + self.equal + self.failed
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    counts: [Counts; 3],
    /// The first of them.
    pub not_copied: Vec<NotCopied>,
    /// Those beyond.
    pub not_copied_unnamed: u64,
}

impl Summary {
    pub fn of(&self, kind: Kind) -> &Counts {
        &self.counts[kind as usize]
    }

    pub fn total(&self) -> u64 {
        self.counts.iter().map(Counts::total).sum()
    }

    /// Whether the target has all that the source has.
    pub fn is_complete(&self) -> bool {
        self.not_copied.is_empty()
    }

    pub(crate) fn counts(&mut self, kind: Kind) -> &mut Counts {
        &mut self.counts[kind as usize]
    }

    pub(crate) fn note(&mut self, not_copied: NotCopied) {
        if self.not_copied.len() < limits::NOT_COPIED {
            self.not_copied.push(not_copied);
        } else {
            self.not_copied_unnamed += 1;
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// As far as it came.
    pub summary: Summary,
    /// What ended it early.
    pub error: Option<Error>,
}
