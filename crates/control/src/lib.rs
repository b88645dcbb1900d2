//! The control plane: applications, endpoints, event types, and the secrets and tokens that guard them.
//!
//! A change is a [`Command`] appended to the topic `control`. Every process reads that topic from its first
//! record and folds it through the same [`decide`] into the same [`View`]; what a record does, and whether it
//! is refused, is a function of the records before it alone. [`Control`] is the handle: it appends, follows and
//! answers.
//!
//! Credentials live here too: which tokens were revoked and which API keys there are is decided by `control` alone, so
//! that every process comes to the same answer.
//!
//! Invariants: all that is random or depends on time stands in the command. A refused command changes nothing.
//! A record that cannot be understood stops the process that reads it; it is never skipped.

mod access;
mod api_keys;
mod changes;
mod command;
mod eraser;
mod erasures;
mod error;
mod follower;
mod former;
mod handle;
mod hexadecimal;
mod install;
mod jobs;
mod keys;
mod model;
mod operational;
mod reducer;
mod reports;
mod revocations;
mod routes;
mod secrets;
mod tokens;
mod url;
mod view;

pub use access::{Access, Actor, Credential, Origin, Principal, Scope, TokenId, TokenMark};
pub use api_keys::KeyDigest;
pub use changes::{ChangeKind, EndpointChange};
pub use command::{Command, ControlKey, Envelope, Session};
pub use eraser::Eraser;
pub use erasures::application_number;
pub use error::{CommandError, OpenError, RecordError, Unavailable};
pub use former::FormerEndpoint;
pub use handle::{Control, Looked, Options};
pub use install::replay;
pub use jobs::{Job, JobKind, JobState, OutcomeFilter, Place, Progress, Selection, Steer, job_number};
pub use model::{
    ApiKey, Application, ApplicationSettings, Endpoint, EndpointSecret, EndpointSettings, EventType,
    EventTypeSettings, Installation, Park,
};
pub use operational::{OperationalEvent, operational_organization};
pub use reducer::{Applied, Effect, Refusal, Resource, decide};
pub use reports::{Report, ReportKind};
pub use secrets::{MainSecret, MainSecretError, SealError, Sealed, Sealer};
pub use tokens::{Grant, TokenError, Tokens, default_organization, session_fingerprint};
pub use url::UrlError;
pub use view::View;
