//! What became of messages: reads of the history, which is a projection of the log.
//!
//! One file per resource. Invariants: a thing is shown only below its own application, whoever knows its id; a read
//! waits, for a bounded time, until the history has seen what was acknowledged before it, and where it has not, nothing
//! is said not to exist; payloads come from the log alone, and hold room in memory until they are sent.

mod answer;
mod answer_content;
mod attempt;
mod dead_letter;
mod endpoint_message;
mod filter;
mod message;
mod message_content;
mod message_endpoint;
mod message_out;
mod purge;
mod reading;
mod reconciliation;
mod stats;
mod status;
mod usage;

pub(crate) use self::{filter::STATUS_CLASS, reading::refused, usage::endpoints_ever};

use fanfare_http::Routes;

use crate::State;

pub(crate) fn routes() -> Routes<State> {
    Routes::new()
        .merge(answer_content::routes())
        .merge(attempt::routes())
        .merge(dead_letter::routes())
        .merge(endpoint_message::routes())
        .merge(message::routes())
        .merge(message_content::routes())
        .merge(message_endpoint::routes())
        .merge(purge::routes())
        .merge(reconciliation::routes())
        .merge(stats::routes())
        .merge(usage::routes())
}
