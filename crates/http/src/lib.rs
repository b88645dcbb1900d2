//! What every HTTP route of Fanfare shares: the listener, the token check, reading of bodies and queries, and
//! the bodies of errors.
//!
//! Invariants: no handler is asked but through the list of [`Routes`], which says who may; connections, headers, bodies and waiting are bounded; every error leaves in one shape (see
//! [`ApiError`]); nothing a client sends makes the process panic or stop; health routes wait for nothing.

mod application_in;
mod auth;
mod body;
mod checked_tokens;
mod command_error;
mod error;
mod health;
mod idempotency_key;
mod json;
mod key_use;
mod listener;
mod names;
mod page;
mod path;
mod patient;
mod routes;
mod surface;
mod turns;

pub use application_in::{ApplicationIn, application_or_new, check_application, check_metadata};
pub use auth::{Authenticated, Gate, Peer, bearer};
pub use body::{Body, Memory, MemoryPermit, holding_answer, read_body};
pub use error::{ApiError, FieldError, Fields, Quota};
pub use health::Probes;
pub use idempotency_key::{check_idempotency_key, idempotency_key};
pub use json::{Json, parse_json, parse_value, require_json};
pub use listener::{BindError, Listener};
pub use names::{NAME_FORM, check_uid, is_name};
pub use page::{List, Order, Page, Query, paginate};
pub use path::Path;
pub use routes::{Route, Routes, Who};
pub use surface::Surface;
