//! Routes as the server lists them, and things that exist, for their paths to name.

use serde_json::Value;

use crate::support::installation::{fanfare, finish};

pub(super) const OPERATIONAL: &str = "/api/v1/operational-webhook/endpoint";

/// A route as the server lists it.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) who: String,
    /// `full`, `read`, or nothing where no token is needed.
    pub(super) scope: String,
}

impl Route {
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Whether the path names something of an organization.
    pub(super) fn is_about_something(&self) -> bool {
        self.parts().next().is_some()
    }

    /// What the path leaves open.
    pub(super) fn parts(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').filter(|part| part.starts_with('{'))
    }
}

pub(super) async fn routes() -> Vec<Route> {
    let directory = tempfile::tempdir().unwrap();
    let listed = finish(fanfare(directory.path()).args(["routes", "--json"])).await;
    let listed: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    assert!(listed.len() > 30, "{} routes", listed.len());
    let text = |route: &Value, field: &str| route[field].as_str().unwrap_or_default().to_owned();
    listed
        .iter()
        .map(|route| Route {
            method: text(route, "method"),
            path: text(route, "path"),
            who: text(route, "who"),
            scope: text(route, "scope"),
        })
        .collect()
}

/// One of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Things {
    pub(super) application: String,
    pub(super) endpoint: String,
    /// That operational webhooks go to.
    pub(super) operational: String,
    pub(super) message: String,
    pub(super) event_type: String,
    pub(super) key: String,
    pub(super) task: String,
    pub(super) attempt: String,
    pub(super) dead_letter: String,
}

impl Things {
    pub(super) fn path(&self, route: &Route) -> String {
        let operational = route.path.starts_with(OPERATIONAL);
        route
            .path
            .replace("{app_id}", &self.application)
            .replace("{endpoint_id}", if operational { &self.operational } else { &self.endpoint })
            .replace("{msg_id}", &self.message)
            .replace("{name}", &self.event_type)
            .replace("{id}", &self.key)
            .replace("{task_id}", &self.task)
            .replace("{attempt_id}", &self.attempt)
            .replace("{dead_letter_id}", &self.dead_letter)
    }

    /// These, but one of an application's things, by its name in paths, is another one.
    pub(super) fn with(&self, part: &str, another: &Self) -> Self {
        let mut mixed = self.clone();
        let (to, from) = match part {
            "{endpoint_id}" => (&mut mixed.endpoint, &another.endpoint),
            "{msg_id}" => (&mut mixed.message, &another.message),
            "{attempt_id}" => (&mut mixed.attempt, &another.attempt),
            "{dead_letter_id}" => (&mut mixed.dead_letter, &another.dead_letter),
            _ => panic!("an application has no {part}: say which of the things it is"),
        };
        to.clone_from(from);
        mixed
    }
}
