//! The verdict: what the receivers made of the signed payloads, and nothing that the broker says of itself.

use fanfare_loadtest::{
    judge::judge,
    receiver::{EndpointReport, Report},
    sequence::SequenceSet,
};
use serde::Serialize;

use super::Fault;

/// Orders named as examples of what went wrong.
const EXAMPLES: usize = 5;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    /// Nothing lost, out of order, forged or otherwise wrong.
    pub(crate) passed: bool,
    /// Orders that the API answered 202 to.
    pub(crate) accepted: u64,
    /// Times the broker was killed.
    pub(crate) kills: u32,
    pub(crate) endpoints: Vec<EndpointSummary>,
    /// What is wrong, in words.
    pub(crate) faults: Vec<String>,
    /// The fault that was planted on purpose.
    pub(crate) planted: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointSummary {
    pub(crate) name: &'static str,
    pub(crate) accepted: u64,
    /// Answered 2xx.
    pub(crate) delivered: u64,
    /// Sent again after another answer than 2xx.
    pub(crate) retried: u64,
    /// Sent again after a 2xx: what a crash may do.
    pub(crate) repeated: u64,
    pub(crate) lost: u64,
    pub(crate) out_of_order: u64,
    pub(crate) forged: u64,
}

impl Summary {
    /// `names` belong to the endpoints of `report` in turn; `fault`: asked for, and what was planted of it.
    pub(crate) fn judge(
        names: &[&'static str],
        accepted: &SequenceSet,
        report: &Report,
        fault: Option<(Fault, Option<String>)>,
    ) -> Self {
        let mut endpoints = Vec::new();
        let mut faults = Vec::new();
        for (&name, endpoint) in names.iter().zip(&report.endpoints) {
            let (summary, found) = one(name, accepted, endpoint, report);
            endpoints.push(summary);
            faults.extend(found);
        }
        let planted = fault.map(|(_, planted)| match planted {
            Some(planted) => planted,
            None => {
                faults.push("the fault that was asked for could not be planted".to_owned());
                "nothing".to_owned()
            }
        });
        if planted.is_some() && faults.is_empty() {
            faults.push("the planted fault was not found".to_owned());
        }
        Self { passed: faults.is_empty(), accepted: accepted.len(), kills: 1, endpoints, faults, planted }
    }

    pub(crate) fn render(&self) -> String {
        let names = ["", "accepted", "delivered", "retried", "repeated", "lost", "out of order", "forged"];
        let mut out = String::from("\n");
        let mut row = |first: &str, cells: &[String]| {
            out += &format!("{first:8}");
            for (cell, name) in cells.iter().zip(&names[1..]) {
                out += &format!("  {cell:>width$}", width = name.len());
            }
            out.push('\n');
        };
        row("", &names[1..].iter().map(ToString::to_string).collect::<Vec<_>>());
        for it in &self.endpoints {
            let cells =
                [it.accepted, it.delivered, it.retried, it.repeated, it.lost, it.out_of_order, it.forged];
            row(it.name, &cells.map(|count| count.to_string()));
        }
        out.push('\n');
        if self.passed {
            out += &format!(
                "{} orders, each delivered to {} receivers, in order, through a kill -9: nothing lost, nothing forged.\n",
                self.accepted,
                self.endpoints.len()
            );
        } else {
            out += &format!("FAILED: {}.\n", self.faults.join("; "));
        }
        if let Some(planted) = &self.planted {
            out += &format!("Planted on purpose: {planted}.\n");
        }
        out
    }
}

fn one(
    name: &'static str,
    accepted: &SequenceSet,
    endpoint: &EndpointReport,
    report: &Report,
) -> (EndpointSummary, Vec<String>) {
    let alone = Report { endpoints: vec![endpoint.clone()], ..report.clone() };
    let verdict = judge(std::slice::from_ref(accepted), &alone);
    let counts = [
        (verdict.lost, "lost"),
        (verdict.undelivered, "never taken"),
        (verdict.out_of_order, "out of order"),
        (verdict.forged, "forged"),
        (verdict.damaged, "damaged"),
        (verdict.foreign, "of another run"),
        (verdict.misrouted, "for somebody else"),
        (verdict.second_ids, "under two ids"),
    ];
    let mut faults = Vec::new();
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        let missing = accepted.iter().filter(|&order| !endpoint.received_sequences.contains(order));
        let orders: Vec<String> = missing.take(EXAMPLES).map(|order| order.to_string()).collect();
        let which = if what == "lost" { format!(" (order {})", orders.join(", ")) } else { String::new() };
        faults.push(format!("{count} {what} at {name}{which}"));
    }
    let summary = EndpointSummary {
        name,
        accepted: verdict.accepted,
        delivered: verdict.delivered,
        retried: verdict.retried,
        repeated: verdict.repeated,
        lost: verdict.lost,
        out_of_order: verdict.out_of_order,
        forged: verdict.forged,
    };
    (summary, faults)
}
