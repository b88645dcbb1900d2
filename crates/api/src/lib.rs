//! REST routes of the control plane: applications, endpoints, event types; tokens, API keys, the audit log. And reads of
//! the history: messages, attempts, dead letters, reconciliation.
//!
//! One file per resource: its wire form, its checks, its routes. Forms and status codes are those of Svix; what
//! is ours beside them is optional. Invariants: a body is checked whole before anything is written; a change is
//! one command with the revision it was made for; before a 404 the view is brought to the end of `control`.

mod address;
mod api_key;
mod application;
mod asked;
mod audit_log;
mod audited;
mod auth;
mod background_task;
mod endpoint;
mod endpoint_form;
mod endpoint_headers;
mod endpoint_secret;
mod event_type;
mod event_type_import;
mod history;
mod messages;
mod openapi;
mod owner;
mod patch;
mod portal;
mod post;
mod precheck;
mod report;
mod resend;
mod state;

pub use messages::{Found, Lookup, Messages, MessagesInLog};
pub use state::{State, routes};
