//! Results for people.

use std::fmt::Write as _;

use crate::{
    bench::{Bench, Medians, OnKafka, Round},
    case::Case,
    judge::Verdict,
    publisher::Counts,
    roof::Roof,
    run::Outcome,
};

/// The outcome of a case in some lines.
pub fn outcome(outcome: &Outcome) -> String {
    let mut text = String::new();
    let mut line =
        |name: &str, value: String| writeln!(text, "  {name:<12} {value}").expect("a String takes all");
    let Counts { accepted, shed, other, errors, unknown, .. } = outcome.publish;
    line(
        "published",
        format!(
            "{accepted} accepted ({:.0}/s), {shed} shed, {other} refused, {errors} errors, {unknown} unknown; {}",
            outcome.published_per_second,
            outcome.publish_latency.text()
        ),
    );
    line(
        "delivered",
        format!(
            "{} ({:.0}/s; {:.0}/s while publishing), drained: {}",
            outcome.deliveries,
            outcome.deliveries_per_second,
            outcome.deliveries_per_second_while_publishing,
            if outcome.drained { "yes" } else { "NO" }
        ),
    );
    line("latency", outcome.latency.text());
    line(
        "cost",
        format!(
            "{:.1} µs CPU per delivery (receiver {:.1} µs), {} MiB resident (from {} MiB)",
            outcome.server_cpu_us_per_delivery,
            outcome.receiver_cpu_us_per_delivery,
            outcome.resident_bytes_peak >> 20,
            outcome.resident_bytes_before >> 20
        ),
    );
    if let Some(lag) = outcome.history_lag_secs {
        line("history", format!("at most {lag:.1} s behind"));
    }
    line("judged", verdict(&outcome.verdict));
    for example in &outcome.verdict.examples {
        line("", example.clone());
    }
    for endpoint in &outcome.misbehaving {
        line(
            "misbehaving",
            format!(
                "endpoint {}: {} received, {} delivered, {} retried, {} repeated",
                endpoint.number, endpoint.received, endpoint.delivered, endpoint.retried, endpoint.repeated
            ),
        );
    }
    if outcome.stray > 0 {
        line("stray", format!("{} requests to no endpoint", outcome.stray));
    }
    if let Some(complaint) = &outcome.complaint {
        line("complaint", complaint.clone());
    }
    text
}

/// A verdict in one line.
pub fn verdict(verdict: &Verdict) -> String {
    let Verdict { expected, delivered, repeated, lost, .. } = verdict;
    let mut text = format!("{expected} expected, {delivered} delivered, {repeated} repeated, {lost} lost");
    write!(text, ", {} out of order", verdict.out_of_order).expect("a String takes all");
    let rare = [
        (verdict.undelivered, "undelivered"),
        (verdict.unacknowledged, "unacknowledged"),
        (verdict.retried, "retried"),
        (verdict.disagreeing, "endpoints with another order"),
        (verdict.forged, "forged"),
        (verdict.damaged, "damaged"),
        (verdict.foreign, "of another run"),
        (verdict.misrouted, "of another application"),
        (verdict.second_ids, "under a second id"),
    ];
    for (count, what) in rare.into_iter().filter(|&(count, _)| count > 0) {
        write!(text, ", {count} {what}").expect("a String takes all");
    }
    text + if verdict.is_clean() { ": clean" } else { ": NOT CLEAN" }
}

/// The bare loop in one line.
pub fn roof(roof: &Roof) -> String {
    format!(
        "{:.0}/s over {} connections; {:.1} µs CPU each (receiver {:.1} µs); receipt {}",
        roof.requests_per_second,
        roof.connections,
        roof.sender_cpu_us_per_request,
        roof.receiver_cpu_us_per_request,
        roof.receipt_latency.text()
    )
}

/// Rounds side by side.
pub fn bench(case: &Case, bench: &Bench) -> String {
    let mut text = format!("{}\n\n", case.summary);
    let mut line = |columns: [String; 10]| {
        let [round, roof, fanfare, publishing, share, cpu, p50, p99, memory, judged] = columns;
        let text_row = format!(
            "{round:<9}{roof:>10}{fanfare:>12}{publishing:>12}{share:>8}{cpu:>15}{p50:>17}{p99:>19}{memory:>9}  {judged}"
        );
        writeln!(text, "{}", text_row.trim_end()).expect("a String takes all");
    };
    let titles = [
        "",
        "roof/s",
        "fanfare/s",
        "publishing",
        "share",
        "µs/delivery",
        "p50 ms (roof)",
        "p99 ms (roof)",
        "MiB",
        "judged",
    ];
    line(titles.map(str::to_owned));
    for (number, round) in (1..).zip(&bench.rounds) {
        line(row(&number.to_string(), &round.roof, &round.outcome));
        if let Some(OnKafka { outcome, .. }) = &round.kafka {
            line(row(&format!("{number} Kafka"), &round.roof, outcome));
        }
        if let Some(outcome) = &round.without_history {
            line(row(&format!("{number} alone"), &round.roof, outcome));
        }
    }
    text.push('\n');
    let engines = [("median", Some(&bench.medians)), ("median on Kafka", bench.kafka.as_ref())];
    for (engine, medians) in engines {
        let Some(Medians { share_of_roof, p50_above_roof_ms, p99_above_roof_ms }) = medians else { continue };
        let share = share_of_roof * 100.0;
        writeln!(
            text,
            "{engine}: {share:.1} % of the roof; p50 {p50_above_roof_ms:+.2} ms, p99 {p99_above_roof_ms:+.2} ms against it"
        )
        .expect("a String takes all");
    }
    if let Some(share) = bench.share_of_no_history {
        writeln!(text, "median with history: {:.1} % of the speed without", share * 100.0)
            .expect("a String takes all");
    }
    for on_kafka in bench.rounds.iter().filter_map(|round| round.kafka.as_ref()) {
        text += &stored(on_kafka);
    }
    let on_kafka = |round: &Round| round.kafka.as_ref()?.outcome.history_lag_secs;
    let lags = [
        (
            "embedded log",
            bench.rounds.iter().filter_map(|round| round.outcome.history_lag_secs).reduce(f64::max),
        ),
        ("Kafka", bench.rounds.iter().filter_map(on_kafka).reduce(f64::max)),
    ];
    for (engine, lag) in lags {
        if let Some(lag) = lag {
            writeln!(text, "{engine}: history at most {lag:.1} s behind").expect("a String takes all");
        }
    }
    for missed in &bench.missed {
        writeln!(text, "MISSED: {missed}").expect("a String takes all");
    }
    text
}

fn row(name: &str, roof: &Roof, outcome: &Outcome) -> [String; 10] {
    let latency = |us: u64, roof_us: u64| format!("{:.2} ({:.2})", ms(us), ms(roof_us));
    [
        name.to_owned(),
        format!("{:.0}", roof.requests_per_second),
        format!("{:.0}", outcome.deliveries_per_second),
        format!("{:.0}", outcome.deliveries_per_second_while_publishing),
        format!("{:.1} %", 100.0 * outcome.deliveries_per_second / roof.requests_per_second.max(1.0)),
        format!("{:.1} ({:.1})", outcome.server_cpu_us_per_delivery, roof.sender_cpu_us_per_request),
        latency(outcome.latency.p50_us, roof.receipt_latency.p50_us),
        latency(outcome.latency.p99_us, roof.receipt_latency.p99_us),
        format!("{}", outcome.resident_bytes_peak >> 20),
        verdict(&outcome.verdict),
    ]
}

/// What Kafka keeps of a message, by topic.
fn stored(on_kafka: &OnKafka) -> String {
    let messages = on_kafka.outcome.publish.accepted.max(1);
    let total: u64 = on_kafka.stored.values().sum();
    if total == 0 {
        return String::new();
    }
    let topics = on_kafka.stored.iter().filter(|(_, bytes)| **bytes > 0);
    let topics: Vec<String> = topics.map(|(topic, bytes)| format!("{topic} {}", bytes / messages)).collect();
    format!("bytes on Kafka per message, {messages} messages: {} ({})\n", total / messages, topics.join(", "))
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn ms(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}
