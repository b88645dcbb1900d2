//! What Fanfare is about, without time, threads or I/O: ids, messages, endpoints, attempts; the formats of
//! their records; and the state machines that decide what is sent when.
//!
//! Invariants: nothing here asks a clock, draws a random number or waits: callers hand in `now` and
//! randomness. Decoders never panic on any bytes. A state machine given the same inputs does the same.

mod attempt;
mod checkpoint;
pub mod codec;
mod delivery;
mod endpoint;
mod fingerprint;
pub mod guard;
mod id;
mod intake;
mod known_claims;
pub mod lane;
pub mod limits;
pub mod load;
mod message;
mod mint;
pub mod planted;
mod position;
pub mod retry_after;
pub mod scaling;
mod seam;
pub mod signature;
mod time;

pub use attempt::{Attempt, AttemptError, AttemptRecord, Fact, Outcome, Settlement, Trigger, attempt_id};
pub use checkpoint::{ClaimEntry, RouterCheckpoint, WorkerCheckpoint};
pub use delivery::{Content, Delivery, Source};
pub use endpoint::{Ordering, Policy, RetrySchedule};
pub use fingerprint::Fingerprint;
pub use id::{
    ApiKeyId, ApplicationId, AttemptId, EndpointId, EventTypeId, Id, InstallationId, JobId, Kind,
    MessageEndpointId, MessageId, OrganizationId, ParseError,
};
pub use intake::{Intake, IntakeRule};
pub use known_claims::KnownClaims;
pub use message::{Identity, Message};
pub use mint::Minter;
pub use position::{EndpointNumber, Offset, Partition};
pub use seam::{Clock, Entropy, SystemClock, SystemEntropy};
pub use time::{NotATime, Timestamp};
