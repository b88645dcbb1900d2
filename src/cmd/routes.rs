//! `fanfare routes`: what the API has, and who may use it.

use std::process::ExitCode;

use fanfare_control::Scope;
use fanfare_http::{Route, Who};
use serde_json::json;

use crate::run::all_routes;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print a JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let mut routes = all_routes();
    routes.sort_by_key(|route| route.path);
    if args.json {
        println!("{}", routes.iter().map(json).collect::<serde_json::Value>());
    } else {
        for route in &routes {
            let (method, who) = (route.method.as_str(), route.who.as_str());
            println!("{method:<7} {who:<12} {:<5} {}", scope(route).unwrap_or("-"), route.path);
        }
    }
    ExitCode::SUCCESS
}

fn json(route: &Route) -> serde_json::Value {
    json!({
        "method": route.method.as_str(),
        "path": route.path,
        "who": route.who.as_str(),
        "scope": scope(route),
    })
}

/// What the token has to be good for, where there has to be one.
fn scope(route: &Route) -> Option<&'static str> {
    match (route.who, route.scope) {
        (Who::Anyone, _) => None,
        (_, Scope::Read) => Some("read"),
        (_, Scope::Full) => Some("full"),
    }
}
