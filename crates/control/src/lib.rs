//! The control plane: applications, endpoints, event types, and the secrets and tokens that guard them.
//!
//! A change is a [`Command`] appended to the topic `control`. Every process reads that topic from its first
//! record and folds it through the same [`decide`] into the same [`View`]; what a record does, and whether it
//! is refused, is a function of the records before it alone. [`Control`] is the handle: it appends, follows and
//! answers.
//!
//! Invariants: all that is random or depends on time stands in the command. A refused command changes nothing.
//! A record that cannot be understood stops the process that reads it; it is never skipped.

mod command;
mod error;
mod follower;
mod handle;
mod install;
mod keys;
mod model;
mod reducer;
mod routes;
mod secrets;
mod tokens;
mod url;
mod view;

pub use command::{Command, ControlKey, Envelope};
pub use error::{CommandError, OpenError, RecordError, Unavailable};
pub use handle::{Control, Options};
pub use install::replay;
pub use model::{
    Application, ApplicationSettings, Endpoint, EndpointSecret, EndpointSettings, EventType,
    EventTypeSettings, Installation, Park,
};
pub use reducer::{Applied, Effect, Refusal, Resource, decide};
pub use secrets::{MainSecret, MainSecretError, SealError, Sealed, Sealer};
pub use tokens::{Principal, TokenError, Tokens, default_organization};
pub use url::UrlError;
pub use view::View;
