//! Whose tokens are refused, and with what.

use serde_json::{Value, json};

use super::{route::Route, world::World};
use crate::support::{Answer, Engine, Installation};

/// A token that is good for something else.
pub(super) struct Stranger {
    pub(super) name: &'static str,
    pub(super) token: String,
    /// The status where it is refused.
    refuses: fn(&Route) -> Option<u16>,
}

impl Stranger {
    pub(super) fn refused(&self, route: &Route) -> Option<u16> {
        if route.who == "anyone" { None } else { (self.refuses)(route) }
    }
}

pub(super) struct Strangers {
    /// Of another application.
    pub(super) neighbour: Stranger,
    /// Of the organization, but only reads.
    pub(super) reader: Stranger,
    /// Of the very application, but only reads.
    pub(super) narrow_reader: Stranger,
    /// Of the very application.
    pub(super) owner: Stranger,
    elsewhere: String,
    revoked: String,
    deleted_key: String,
}

impl Strangers {
    pub(super) async fn gather(world: &World, engine: &Engine) -> Self {
        let application = world.things.application.as_str();
        let another = world.client.application("another").await;
        let revoked = world.token(&[]).await;
        let client = world.installation.client_with(Some(&revoked));
        assert_eq!(client.send("POST", "/api/v1/auth/logout", &[], "").await.status, 204);
        let key = world.client.post("/api/v1/auth/api-key", &json!({ "name": "gone" })).await.json(201);
        let path = format!("/api/v1/auth/api-key/{}", key["id"].as_str().unwrap());
        assert_eq!(world.client.delete(&path).await.status, 204);
        let only_organization = |route: &Route| (route.who == "organization").then_some(403);
        Self {
            neighbour: Stranger {
                name: "another application's token",
                token: world.token(&["--app", &another]).await,
                refuses: |route| match route.who.as_str() {
                    "organization" => Some(403),
                    // Event types are of the organization, for all its applications to read.
                    _ if route.parts().any(|part| part != "{name}") => Some(404),
                    _ => None,
                },
            },
            reader: Stranger {
                name: "a token that only reads",
                token: world.token(&["--read-only"]).await,
                refuses: |route| (route.scope == "full").then_some(403),
            },
            narrow_reader: Stranger {
                name: "the application's token that only reads",
                token: world.token(&["--app", application, "--read-only"]).await,
                refuses: |route| (route.who == "organization" || route.scope == "full").then_some(403),
            },
            owner: Stranger {
                name: "the application's own token",
                token: world.token(&["--app", application]).await,
                refuses: only_organization,
            },
            elsewhere: Installation::on(&engine.another()).token(&[]).await,
            revoked,
            deleted_key: key["key"].as_str().unwrap().to_owned(),
        }
    }

    pub(super) fn nobodies(&self) -> [(&'static str, Option<&str>); 6] {
        [
            ("no token", None),
            ("garbage", Some("garbage")),
            (
                "a token without signature",
                Some(
                    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJvcmdfMjNyYjhZZEdxTVQwcUl6cGdHd2RYZkhpck11IiwiZXhwIjo0MDAwMDAwMDAwfQ.",
                ),
            ),
            ("another installation's token", Some(&self.elsewhere)),
            ("a revoked token", Some(&self.revoked)),
            ("a deleted key", Some(&self.deleted_key)),
        ]
    }
}

/// Notes what is not answered as it should be; `None`: nobody is refused.
pub(super) fn judge(
    wrong: &mut Vec<String>,
    route: &Route,
    name: &str,
    answer: &Answer,
    expected: Option<u16>,
) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let code = match expected {
        None => {
            if answer.status >= 300 {
                wrong.push(format!("{} with {name}: {}", route.name(), answer.status));
            }
            return;
        }
        Some(401) => "authentication_failed",
        Some(403) => "insufficient_access",
        Some(_) => "not_found",
    };
    if Some(answer.status) != expected
        || body["code"] != code
        || body["detail"].as_str().is_none_or(str::is_empty)
    {
        wrong.push(format!("{} with {name}: not {expected:?} but {} {body}", route.name(), answer.status));
    }
}
