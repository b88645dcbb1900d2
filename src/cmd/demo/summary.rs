//! The verdict: what the receivers made of the signed payloads, and nothing that the broker says of itself.

use std::fmt::Write as _;

use fanfare_loadtest::{
    judge::judge,
    receiver::{EndpointReport, Report},
    sequence::SequenceSet,
};
use serde::Serialize;

use super::Fault;

/// Orders named as examples of what went wrong.
const EXAMPLES: usize = 5;
const COLUMNS: [&str; 7] = ["accepted", "delivered", "retried", "repeated", "lost", "out of order", "forged"];

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
        let planted = fault.map(|(_, planted)| {
            planted.unwrap_or_else(|| {
                faults.push("the fault that was asked for could not be planted".to_owned());
                "nothing".to_owned()
            })
        });
        if planted.is_some() && faults.is_empty() {
            faults.push("the planted fault was not found".to_owned());
        }
        Self { passed: faults.is_empty(), accepted: accepted.len(), kills: 1, endpoints, faults, planted }
    }

    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("writing to a string does not fail");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        write!(out, "\n{:8}", "")?;
        for name in COLUMNS {
            write!(out, "  {name}")?;
        }
        writeln!(out)?;
        for it in &self.endpoints {
            let counts =
                [it.accepted, it.delivered, it.retried, it.repeated, it.lost, it.out_of_order, it.forged];
            write!(out, "{:8}", it.name)?;
            for (count, name) in counts.iter().zip(COLUMNS) {
                write!(out, "  {count:>width$}", width = name.len())?;
            }
            writeln!(out)?;
        }
        if self.passed {
            let (orders, receivers) = (self.accepted, self.endpoints.len());
            writeln!(
                out,
                "\n{orders} orders, each delivered to {receivers} receivers, in order, through a kill -9: \
                 nothing lost, nothing forged."
            )?;
        } else {
            writeln!(out, "\nFAILED: {}.", self.faults.join("; "))?;
        }
        match &self.planted {
            Some(planted) => writeln!(out, "Planted on purpose: {planted}."),
            None => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(lost: u64) -> Summary {
        let endpoint = EndpointSummary {
            name: "healthy",
            accepted: 60,
            delivered: 60 - lost,
            retried: 0,
            repeated: 1,
            lost,
            out_of_order: 0,
            forged: 0,
        };
        let faults = if lost > 0 { vec!["1 lost at healthy (order 15)".to_owned()] } else { Vec::new() };
        Summary {
            passed: lost == 0,
            accepted: 60,
            kills: 1,
            endpoints: vec![endpoint],
            faults,
            planted: None,
        }
    }

    #[test]
    fn the_verdict_says_what_is_wrong() {
        let good = summary(0).render();
        assert!(
            good.contains("healthy         60         60        0         1     0             0       0\n"),
            "{good}"
        );
        assert!(good.contains("nothing lost"), "{good}");
        let bad = summary(1).render();
        assert!(bad.contains("FAILED: 1 lost at healthy (order 15).") && !bad.contains("nothing"), "{bad}");
    }

    #[test]
    fn a_planted_fault_that_nobody_finds_is_a_failure() {
        let report = Report {
            stray: 0,
            latency: fanfare_loadtest::latency::Latencies::default().summary(),
            endpoints: Vec::new(),
        };
        let accepted = SequenceSet::default();
        assert!(Summary::judge(&[], &accepted, &report, None).passed);
        let planted = Some((Fault::Drop, Some("order 3".to_owned())));
        assert_eq!(
            Summary::judge(&[], &accepted, &report, planted).faults,
            ["the planted fault was not found"]
        );
        assert!(!Summary::judge(&[], &accepted, &report, Some((Fault::Drop, None))).passed);
    }
}
